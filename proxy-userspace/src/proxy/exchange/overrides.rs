//! `l5d-dtab`: entries that a request brings for itself, as linkerd had them.
//!
//! `l5d-ctx-dtab` came with the call that the application is answering, and the application passes it on; `l5d-dtab` is
//! this request's own and goes before it. What goes on to the endpoint is both, as `l5d-ctx-dtab`. They let a caller
//! choose its destination, so a setting says from whom they are taken; from others they are removed.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::scan::Survey;
use crate::config::Allow;
use crate::domain::dtab::{Bounds, Dtab, Origin};
use crate::proxy::exchange::session::Session;
use crate::proxy::fault::{Fault, Kind};

static REQUEST: HeaderName = HeaderName::from_static("l5d-dtab");
static CONTEXT: HeaderName = HeaderName::from_static("l5d-ctx-dtab");

/// Takes the entries out of `headers`, if `allow` takes them from this client, and leaves there what goes on.
///
/// # Errors
///
/// [`Kind::BadDtab`], naming the position.
pub(super) fn take(
    found: Survey,
    session: &Session,
    allow: &Allow,
    headers: &mut HeaderMap,
) -> Result<Option<Dtab>, Fault> {
    if !found.dtab {
        return Ok(None);
    }
    if !allow.permits(session.client.ip()) {
        headers.remove(&REQUEST);
        headers.remove(&CONTEXT);
        return Ok(None);
    }
    let mut dtab = read(headers, &CONTEXT, Origin::Context)?;
    dtab.append(read(headers, &REQUEST, Origin::Request)?);
    headers.remove(&REQUEST);
    headers.remove(&CONTEXT);
    if dtab.is_empty() {
        return Ok(None);
    }
    let onward = dtab.to_string();
    // The next weir reads both as one, and has the same bounds.
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

/// Several headers of one name are read as one dtab, in order.
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
