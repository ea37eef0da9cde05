//! Which path answers what.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::{Desk, explain};
use crate::proxy::session::Way;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "\
weir

GET  /live             whether weir runs
GET  /ready            whether it is ready, and what it waits for
GET  /metrics          OpenMetrics
GET  /api/state.json   services, endpoints, load, breakers, interception
GET  /api/explain      ?name=/svc/hello: where a name leads, and why; also &dtab=…, &format=text
GET  /admin/ping       pong
POST /admin/shutdown   drains and stops; from loopback only
";

/// The answer to one request.
pub(super) async fn answer<B>(
    desk: Arc<Desk>,
    way: Way,
    client: SocketAddr,
    request: Request<B>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    match (request.method(), path, way) {
        (&Method::GET | &Method::HEAD, _, _) => {
            get(&desk, way, path, request.uri().query().unwrap_or_default()).await
        }
        (&Method::POST, "/admin/shutdown" | "/admin/drain", Way::Admin) => {
            if !client.ip().to_canonical().is_loopback() {
                return text(StatusCode::FORBIDDEN, TEXT, "only from loopback\n");
            }
            desk.stop.notify_one();
            text(StatusCode::ACCEPTED, TEXT, "draining\n")
        }
        _ => text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n"),
    }
}

async fn get(desk: &Arc<Desk>, way: Way, path: &str, query: &str) -> Response<Full<Bytes>> {
    match (path, way) {
        ("/live", _) => text(StatusCode::OK, TEXT, "live\n"),
        ("/ready", _) => {
            let (ready, report) = desk.ready.report();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, TEXT, report)
        }
        ("/metrics", Way::Admin) => page(OPENMETRICS, desk.pages.metrics(desk).await),
        ("/metrics", _) => page(OPENMETRICS, desk.pages.recent_metrics(desk).await),
        ("/", Way::Admin) => text(StatusCode::OK, TEXT, INDEX),
        ("/api/state.json", Way::Admin) => page(JSON, desk.pages.state(desk).await),
        ("/api/explain", Way::Admin) => match explain::answer(desk, query) {
            Ok((json, true)) => text(StatusCode::OK, JSON, json),
            Ok((plain, false)) => text(StatusCode::OK, TEXT, plain),
            Err(why) => text(StatusCode::BAD_REQUEST, TEXT, format!("{why}\n")),
        },
        ("/admin/ping", Way::Admin) => text(StatusCode::OK, TEXT, "pong"),
        _ => text(StatusCode::NOT_FOUND, TEXT, "there is no such path; see /\n"),
    }
}

fn page(kind: &'static str, written: Result<Bytes, String>) -> Response<Full<Bytes>> {
    match written {
        Ok(page) => text(StatusCode::OK, kind, page),
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("not written: {why}\n")),
    }
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
