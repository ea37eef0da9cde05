//! Which path answers what.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::{Desk, Scope, state};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "\
weir

GET  /live             whether weir runs
GET  /ready            whether it is ready, and what it waits for
GET  /metrics          OpenMetrics
GET  /api/state.json   services, endpoints, load, breakers, interception
GET  /admin/ping       pong
POST /admin/shutdown   drains and stops; from loopback only
";

/// The answer to one request.
pub(super) fn answer<B>(
    desk: &Arc<Desk>,
    scope: Scope,
    client: SocketAddr,
    request: &Request<B>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    match (request.method(), path, scope) {
        (&Method::GET | &Method::HEAD, _, _) => get(desk, scope, path),
        (&Method::POST, "/admin/shutdown" | "/admin/drain", Scope::Everything) => {
            if !client.ip().to_canonical().is_loopback() {
                return text(StatusCode::FORBIDDEN, TEXT, "only from loopback\n");
            }
            desk.stop.notify_one();
            text(StatusCode::ACCEPTED, TEXT, "draining\n")
        }
        _ => text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n"),
    }
}

fn get(desk: &Arc<Desk>, scope: Scope, path: &str) -> Response<Full<Bytes>> {
    match (path, scope) {
        ("/live", _) => text(StatusCode::OK, TEXT, "live\n"),
        ("/ready", _) => {
            let (ready, report) = desk.ready.report();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, TEXT, report)
        }
        ("/metrics", _) => text(StatusCode::OK, OPENMETRICS, desk.metrics()),
        ("/", Scope::Everything) => text(StatusCode::OK, TEXT, INDEX),
        ("/api/state.json", Scope::Everything) => text(StatusCode::OK, JSON, state::json(desk)),
        ("/admin/ping", Scope::Everything) => text(StatusCode::OK, TEXT, "pong"),
        _ => text(StatusCode::NOT_FOUND, TEXT, "there is no such path; see /\n"),
    }
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
