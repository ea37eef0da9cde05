//! Which path answers what.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::oneshot;

use super::{Desk, explain, state};
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

/// The answer to one request. What grows with the cluster is written on a thread of its own: catalogs and the programs'
/// heartbeat must not wait for it.
pub(super) async fn answer<B: Send + 'static>(
    desk: Arc<Desk>,
    way: Way,
    client: SocketAddr,
    request: Request<B>,
) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/metrics" | "/api/state.json" => {
            let (tell, told) = oneshot::channel();
            // Not the runtime's blocking threads: it panics where the node has no room for one.
            let thread = thread::Builder::new().name("weir-admin".to_owned());
            let written = thread.spawn(move || drop(tell.send(at_once(&desk, way, client, &request))));
            let failed = |why| text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("not written: {why}\n"));
            match written {
                Ok(_) => told.await.unwrap_or_else(|_| failed("a defect of weir's".to_owned())),
                Err(cause) => failed(format!("no thread for it: {cause}")),
            }
        }
        _ => at_once(&desk, way, client, &request),
    }
}

fn at_once<B>(desk: &Arc<Desk>, way: Way, client: SocketAddr, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    match (request.method(), path, way) {
        (&Method::GET | &Method::HEAD, _, _) => {
            get(desk, way, path, request.uri().query().unwrap_or_default())
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

fn get(desk: &Arc<Desk>, way: Way, path: &str, query: &str) -> Response<Full<Bytes>> {
    match (path, way) {
        ("/live", _) => text(StatusCode::OK, TEXT, "live\n"),
        ("/ready", _) => {
            let (ready, report) = desk.ready.report();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, TEXT, report)
        }
        ("/metrics", _) => text(StatusCode::OK, OPENMETRICS, desk.metrics()),
        ("/", Way::Admin) => text(StatusCode::OK, TEXT, INDEX),
        ("/api/state.json", Way::Admin) => text(StatusCode::OK, JSON, state::json(desk)),
        ("/api/explain", Way::Admin) => match explain::answer(desk, query) {
            Ok((json, true)) => text(StatusCode::OK, JSON, json),
            Ok((plain, false)) => text(StatusCode::OK, TEXT, plain),
            Err(why) => text(StatusCode::BAD_REQUEST, TEXT, format!("{why}\n")),
        },
        ("/admin/ping", Way::Admin) => text(StatusCode::OK, TEXT, "pong"),
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
