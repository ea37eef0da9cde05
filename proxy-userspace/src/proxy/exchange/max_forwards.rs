//! `Max-Forwards` (RFC 9110 §7.6.2), and linkerd's diagnosis of a request by it.
//!
//! A TRACE or OPTIONS with `Max-Forwards: 0` is answered here; with more it is forwarded with the number reduced by
//! one. Where a client may request diagnoses (`outgoing.diagnostics`), a request with any method that ends here and has
//! `l5d-add-context: true` is answered with its route: its name, every step of the dtabs, the endpoints and their
//! health. So a request's path through several weirs is found with one number after another, as traceroute does.
//!
//! Deliberately absent: what linkerd appended to the answers of forwarded requests. An answer is forwarded unchanged.

use std::fmt::Write as _;
use std::time::Instant;

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_TYPE, DATE, FORWARDED,
    HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, PRAGMA, USER_AGENT, VIA,
};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Version};

use super::response_body::ResponseBody;
use super::session::Origin;
use super::{Exchange, answer, identify, overrides};
use crate::proxy::fault::Fault;
use crate::proxy::routing::explain::explain_name;
use crate::proxy::upstream::RequestBody;
use crate::proxy::worker::Worker;

static CONTEXT: HeaderName = HeaderName::from_static("l5d-add-context");

/// Fields of a request that its echo repeats: those of HTTP itself, and those that show its path. Any other field may
/// contain a secret (RFC 9110 §9.3.8) of an application or a platform.
static ECHOED: [HeaderName; 13] = [
    ACCEPT,
    ACCEPT_CHARSET,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    CACHE_CONTROL,
    CONTENT_TYPE,
    DATE,
    FORWARDED,
    HOST,
    MAX_FORWARDS,
    PRAGMA,
    USER_AGENT,
    VIA,
];

/// The answer to a request that may not be forwarded further, if that is the case.
///
/// # Errors
///
/// When a diagnosis is requested and the request has no name, or an invalid dtab.
pub(super) fn last(
    worker: &Worker,
    exchange: &Exchange,
    request: &mut Request<RequestBody>,
) -> Result<Option<Response<ResponseBody>>, Fault> {
    // weir does not answer a diverted request: its client does not know that a proxy is here.
    if !exchange.head.scan.max_forwards || exchange.session.origin != Origin::Explicit {
        return Ok(None);
    }
    let Some(left) = max_forwards(request.headers()) else { return Ok(None) };
    let counted = matches!(*request.method(), Method::TRACE | Method::OPTIONS);
    if let Some(left) = left.checked_sub(1) {
        if counted {
            request.headers_mut().insert(MAX_FORWARDS, left.into());
        }
        return Ok(None);
    }
    let context =
        request.headers().get(&CONTEXT).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"true"));
    if context && exchange.snapshot.config.diagnostics.permits(exchange.session.permitted_as) {
        worker.shared.diagnoses.inc();
        return diagnosis(worker, exchange, request).map(Some);
    }
    Ok(match *request.method() {
        Method::TRACE => Some(text("message/http", echo(request, exchange.head.spoken))),
        Method::OPTIONS => Some(answer::empty(StatusCode::OK)),
        _ => None,
    })
}

/// The one number in the field. A value that cannot be parsed is left alone: it may be meant for another hop.
fn max_forwards(headers: &HeaderMap) -> Option<u32> {
    let mut values = headers.get_all(MAX_FORWARDS).iter();
    let (Some(only), None) = (values.next(), values.next()) else { return None };
    only.to_str().ok().filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

fn diagnosis(
    worker: &Worker,
    exchange: &Exchange,
    request: &mut Request<RequestBody>,
) -> Result<Response<ResponseBody>, Fault> {
    let (session, snapshot, head) = (&exchange.session, &exchange.snapshot, &exchange.head);
    let own = overrides::take(head.scan, session, &snapshot.config, request.headers_mut())?;
    let host = match identify::uses_host(snapshot) {
        true => identify::known(worker.router.host_now(&session.pod, snapshot, head.host()))?,
        false => None,
    };
    let name = identify::name(snapshot, request, head, host)?;
    let mut explained = explain_name(snapshot, &name, own.as_ref(), Instant::now());
    if identify::uses_host(snapshot) {
        explained.note = worker.router.whose(&session.pod, snapshot, head.host());
    }
    let method = request.method();
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let (version, client, spoken) = (env!("CARGO_PKG_VERSION"), session.client.ip(), exchange.head.spoken);
    let head = format!("weir {version}: {method} {target} from {client} in {spoken:?}\n");
    Ok(text("text/plain; charset=utf-8", format!("{head}\n{explained}")))
}

/// The request as received, with only those fields that contain no secret.
fn echo(request: &Request<RequestBody>, spoken: Version) -> String {
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let mut echo = format!("{} {target} {spoken:?}\r\n", request.method());
    for (name, value) in request.headers().iter().filter(|(name, _)| ECHOED.contains(name)) {
        let _ = write!(echo, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    echo.push_str("\r\n");
    echo
}

fn text(kind: &'static str, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Text(text.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
