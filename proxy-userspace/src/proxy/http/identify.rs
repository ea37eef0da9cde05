//! The name of an explicit request, and where it leads.

use std::rc::Rc;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{Request, Version};

use super::Body;
use super::head::Head;
use crate::domain::dtab::Dtab;
use crate::domain::identify::{Facts, Identifier, identify};
use crate::domain::name::Path;
use crate::proxy::bindings::name_of;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::route::Route;
use crate::proxy::worker::Worker;
use crate::proxy::world::World;

/// Where `request` leads, by the configuration's dtabs and then its `own`. Its URL loses what an identifier consumes.
pub(super) fn route(
    worker: &Worker,
    world: &Arc<World>,
    request: &mut Request<Body>,
    head: &Head,
    own: Option<&Dtab>,
) -> Result<Rc<Route>, Fault> {
    if let [Identifier::Host] = world.terms.identifiers.as_slice() {
        return host_route(worker, world, head.host(), own);
    }
    if let ([Identifier::Token(header)], None) = (world.terms.identifiers.as_slice(), own) {
        let value = request.headers().get(&**header).and_then(|value| value.to_str().ok());
        // A value that starts with a slash could be taken for a whole name.
        if let Some(value) = value.filter(|value| !value.is_empty() && !value.starts_with('/')) {
            return Ok(worker.routes.token(world, value));
        }
    }
    let name = name(world, request, head)?;
    Ok(match own {
        None => worker.routes.named(world, &name),
        Some(dtab) => Rc::new(world.bind(&name, Some(dtab))),
    })
}

/// The name of `request`. Its URL loses what an identifier consumes.
pub(super) fn name(world: &World, request: &mut Request<Body>, head: &Head) -> Result<Path, Fault> {
    let identified = {
        let headers = request.headers();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let canonical = world.terms.rules.canonical(head.host()).ok();
        let canonical = canonical.map(|host| (host.label(), host.scope));
        let facts = Facts {
            method: request.method().as_str(),
            is_http_11: head.spoken >= Version::HTTP_11,
            host: Some(head.host()),
            canonical: canonical.as_ref().map(|(host, scope)| (&**host, *scope)),
            target: request.uri().path_and_query().map_or("/", PathAndQuery::as_str),
            header: &header,
        };
        identify(&world.terms.identifiers, &facts)
    };
    let identified = identified.map_err(|bad| Fault::new(Kind::Unidentified, bad.to_string()))?;
    let nothing = || Fault::new(Kind::Unidentified, "no identifier makes a name of this request");
    let identified = identified.ok_or_else(nothing)?;
    if let Some(target) = identified.target.and_then(|target| PathAndQuery::try_from(target).ok()) {
        *request.uri_mut() = target.into();
    }
    Ok(world.terms.prefix.join(identified.name.labels()))
}

/// Where the host in `authority` leads.
pub(super) fn host_route(
    worker: &Worker,
    world: &Arc<World>,
    authority: &str,
    own: Option<&Dtab>,
) -> Result<Rc<Route>, Fault> {
    let host = world.terms.rules.canonical(authority)?;
    Ok(match own {
        None => worker.routes.of(world, &host),
        Some(dtab) => Rc::new(world.bind(&name_of(world, &host), Some(dtab))),
    })
}
