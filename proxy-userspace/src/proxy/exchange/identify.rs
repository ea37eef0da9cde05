//! The name of an explicit request, and its route.

use std::rc::Rc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Version};

use super::head::{Head, no_host};
use super::session::Session;
use crate::domain::dtab::Dtab;
use crate::domain::identify::{Identifier, RequestFacts, Unidentifiable, identify};
use crate::domain::name::{Host, Path};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::routing::cache::name_of;
use crate::proxy::routing::route::Route;
use crate::proxy::routing::snapshot::Snapshot;
use crate::proxy::upstream::RequestBody;
use crate::proxy::worker::Worker;

/// What a request asks for. It can be bound again later, when more is known.
pub(super) enum Asked<'a> {
    /// A host name.
    Host(Host<'a>),
    /// A header's value, unchanged.
    Token(&'a str),
    /// The name that identifiers made from the request.
    Name(Path),
}

impl<'a> Asked<'a> {
    /// What `request` asks for. Its URL loses the part that an identifier consumes; `token` is the value of the header
    /// that is its name, see [`token`].
    pub(super) async fn by(
        (worker, session): (&Worker, &Session),
        snapshot: &Snapshot,
        request: &mut Request<RequestBody>,
        head: &'a Head,
        token: Option<&'a HeaderValue>,
    ) -> Result<Self, Fault> {
        if let [Identifier::Host] = snapshot.config.identifiers.as_slice() {
            return match head.has_host() {
                true => worker.router.host(&session.pod, snapshot, head.host()).await.map(Self::Host),
                false => Err(no_host()),
            };
        }
        if let Some(value) = token.and_then(|value| value.to_str().ok()) {
            return Ok(Self::Token(value));
        }
        let host = match uses_host(snapshot) && head.has_host() {
            true => known(worker.router.host(&session.pod, snapshot, head.host()).await)?,
            false => None,
        };
        name(snapshot, request, head, host).map(Self::Name)
    }

    /// Its route, by the configuration's dtabs and then the request's `own`.
    pub(super) fn bind(&self, worker: &Worker, snapshot: &Snapshot, own: Option<&Dtab>) -> Rc<Route> {
        match (self, own) {
            (Self::Host(host), None) => worker.router.routes.of(snapshot, host),
            (Self::Host(host), Some(own)) => Rc::new(snapshot.bind(&name_of(snapshot, host), Some(own))),
            (Self::Token(label), None) => worker.router.routes.token(snapshot, label),
            (Self::Token(label), Some(own)) => {
                let name = snapshot.config.prefix().join(Path::from_labels([label]).labels());
                Rc::new(snapshot.bind(&name, Some(own)))
            }
            (Self::Name(name), None) => worker.router.routes.named(snapshot, name),
            (Self::Name(name), Some(own)) => Rc::new(snapshot.bind(name, Some(own))),
        }
    }
}

/// The value of the header that is the whole name of `request`, where linkerd's header-token identifier is the only
/// one.
pub(super) fn token(
    snapshot: &Snapshot,
    request: &Request<RequestBody>,
    spoken: Version,
) -> Option<HeaderValue> {
    let [Identifier::Token(header)] = snapshot.config.identifiers.as_slice() else { return None };
    let value = named(request.headers(), header, spoken)?;
    // A value with a leading slash could be parsed as a whole name.
    let is_label = value.to_str().is_ok_and(|value| !value.is_empty() && !value.starts_with('/'));
    is_label.then(|| value.clone())
}

/// The value of a header; of several, the first, and over HTTP/2 the last, as in linkerd.
fn named<'a>(headers: &'a HeaderMap, name: &str, spoken: Version) -> Option<&'a HeaderValue> {
    match spoken {
        Version::HTTP_2 => headers.get_all(name).iter().next_back(),
        _ => headers.get(name),
    }
}

/// Whether some identifier uses the canonical host.
pub(super) fn uses_host(snapshot: &Snapshot) -> bool {
    snapshot.config.identifiers.contains(&Identifier::Host)
}

/// The host, if it is valid: another identifier may not need one.
pub(super) fn known(host: Result<Host<'_>, Fault>) -> Result<Option<Host<'_>>, Fault> {
    match host {
        Ok(host) => Ok(Some(host)),
        Err(Fault { kind: Kind::BadHost(_), .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The name of `request`, which has this canonical `host`. Its URL loses the part that an identifier consumes.
pub(super) fn name(
    snapshot: &Snapshot,
    request: &mut Request<RequestBody>,
    head: &Head,
    host: Option<Host<'_>>,
) -> Result<Path, Fault> {
    let identified = {
        let headers = request.headers();
        let header = |name: &str| named(headers, name, head.spoken).and_then(|value| value.to_str().ok());
        let canonical = host.map(|host| (host.label(), host.scope));
        let facts = RequestFacts {
            method: request.method().as_str(),
            is_http_11: head.spoken >= Version::HTTP_11,
            host: Some(head.host()),
            canonical: canonical.as_ref().map(|(host, scope)| (&**host, *scope)),
            target: request.uri().path_and_query().map_or("/", PathAndQuery::as_str),
            header: &header,
        };
        identify(&snapshot.config.identifiers, &facts)
    };
    let identified = identified.map_err(|why| {
        let kind = match &why {
            Unidentifiable::BadHeader(_) => Kind::Unidentified,
            Unidentifiable::IngressesUnknown => Kind::ServicesUnknown,
        };
        Fault::new(kind, why.to_string())
    })?;
    let nothing = || match head.has_host() {
        true => Fault::new(Kind::Unidentified, "no identifier makes a name of this request"),
        false => no_host(),
    };
    let identified = identified.ok_or_else(nothing)?;
    if let Some(target) = identified.target.and_then(|target| PathAndQuery::try_from(target).ok()) {
        *request.uri_mut() = target.into();
    }
    Ok(snapshot.config.prefix().join(identified.name.labels()))
}
