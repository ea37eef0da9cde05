//! Which path answers what.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::refusal::Refusal;
use super::{Desk, explain, guard};
use crate::proxy::session::Way;

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

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
POST /admin/shutdown   drains and stops: from loopback with the header X-Requested-By, or with a token
";

/// The answer to one request.
pub(super) async fn answer<B>(
    desk: Arc<Desk>,
    way: Way,
    client: SocketAddr,
    request: Request<B>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let settings = desk.settings.load();
    if way == Way::Admin
        && let Err(why) = guard::check(&request, &settings.admin)
    {
        return refuse(&desk, why);
    }
    match (request.method(), path, way) {
        (&Method::GET | &Method::HEAD, _, _) => {
            get(&desk, way, path, request.uri().query().unwrap_or_default()).await
        }
        (&Method::POST, "/admin/shutdown" | "/admin/drain", Way::Admin) => {
            if let Err(why) = guard::may_change(request.headers(), client.ip(), &settings.admin) {
                return refuse(&desk, why);
            }
            tracing::info!(%client, path, "the admin is asked to stop weir");
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

fn refuse(desk: &Desk, why: Refusal) -> Response<Full<Bytes>> {
    desk.refused[why as usize].up();
    let (status, said) = why.answer();
    let mut response = text(status, TEXT, said);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
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
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        // No page of another origin is to have it as an image or a script, nor to show it in a frame.
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
