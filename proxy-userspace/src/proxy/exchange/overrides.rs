//! linkerd's request fields (`l5d-…`), and which clients may set them.
//!
//! `l5d-ctx-dtab` comes from the request that the application is serving, and the application copies it; `l5d-dtab` is
//! this request's own and precedes it. Both are forwarded to the endpoint, as `l5d-ctx-dtab`. They let a caller choose
//! its destination, so a setting says which clients may send them. Since an application copies what anybody has sent it,
//! another one says whose `l5d-ctx-dtab` is believed; that of others is removed. Other clients are strangers, as on an ingress
//! (linkerd's `clearContext`): every `l5d-…` field is removed from their requests and from their answers, and an error
//! answer contains only its status.

use std::net::IpAddr;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::answer::L5D_ERR;
use super::scan::{HeaderScan, L5D};
use super::session::{self, Session};
use crate::domain::dtab::{Bounds, Dtab, Origin};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::routing::snapshot::RoutingConfig;

static REQUEST: HeaderName = HeaderName::from_static("l5d-dtab");
static CONTEXT: HeaderName = HeaderName::from_static("l5d-ctx-dtab");

/// Whether these fields are ignored in explicit requests of `client` and removed from its answers. The client of a
/// diverted request does not know of weir, and its fields are forwarded unchanged.
pub(super) fn is_stranger(client: IpAddr, origin: session::Origin, config: &RoutingConfig) -> bool {
    origin == session::Origin::Explicit && !config.overrides.permits(client)
}

/// Takes the entries from `headers`, if this client may send them, and leaves there what is forwarded.
///
/// # Errors
///
/// [`Kind::BadDtab`], with the position.
pub(super) fn take(
    scan: HeaderScan,
    session: &Session,
    config: &RoutingConfig,
    headers: &mut HeaderMap,
) -> Result<Option<Dtab>, Fault> {
    if !scan.l5d {
        return Ok(None);
    }
    if is_stranger(session.permitted_as, session.origin, config) {
        // Fields that an identifier uses are not context.
        remove(headers, |name| !config.identifiers.iter().any(|it| it.reads(name.as_str())));
        return Ok(None);
    }
    if !scan.dtab {
        return Ok(None);
    }
    // It may be somebody else's: an application passes on what its own callers sent.
    if !config.contexts.include(session.permitted_as, session.holder().group.as_deref())
        && headers.remove(&CONTEXT).is_some()
    {
        session.listener.contexts_ignored.inc();
    }
    let mut dtab = read(headers, &CONTEXT, Origin::Context)?;
    dtab.append(read(headers, &REQUEST, Origin::Request)?);
    headers.remove(&REQUEST);
    headers.remove(&CONTEXT);
    if dtab.is_empty() {
        return Ok(None);
    }
    let onward = dtab.to_string();
    // The next weir reads both as one dtab, within the same bounds.
    if dtab.entries.len() > Bounds::REQUEST.entries || onward.len() > Bounds::REQUEST.bytes {
        let Bounds { entries, bytes, .. } = Bounds::REQUEST;
        let why = format!("{CONTEXT} and {REQUEST} together: over {entries} entries or {bytes} bytes");
        return Err(Fault::new(Kind::BadDtab, why));
    }
    if let Ok(onward) = HeaderValue::try_from(onward) {
        headers.insert(&CONTEXT, onward);
    }
    Ok(Some(dtab))
}

/// Removes linkerd's fields from the head of an endpoint's answer to a stranger. Returns whether the body must be
/// removed, too: it describes an error behind the endpoint.
pub(super) fn clear_answer(headers: &mut HeaderMap) -> bool {
    let is_error = headers.contains_key(&L5D_ERR);
    remove(headers, |_| true);
    if is_error {
        for name in [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_TYPE] {
            headers.remove(name);
        }
    }
    is_error
}

/// Removes those of linkerd's fields for which `goes` is true.
fn remove(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let is_one = |name: &&HeaderName| name.as_str().starts_with(L5D) && goes(name);
    let names: SmallVec<[HeaderName; 4]> = headers.keys().filter(is_one).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Several headers with one name are read as one dtab, in order.
fn read(headers: &HeaderMap, name: &HeaderName, origin: Origin) -> Result<Dtab, Fault> {
    let mut whole = Dtab::default();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| Fault::new(Kind::BadDtab, format!("{name} is not ASCII")))?;
        let read = Dtab::parse(text, origin, &Bounds::REQUEST);
        whole.append(read.map_err(|error| {
            let first = error.problems.first().map(ToString::to_string).unwrap_or_default();
            Fault::new(Kind::BadDtab, format!("{name}: {first}"))
        })?);
        if whole.entries.len() > Bounds::REQUEST.entries {
            return Err(Fault::new(
                Kind::BadDtab,
                format!("{name}: over {} entries", Bounds::REQUEST.entries),
            ));
        }
    }
    Ok(whole)
}
