//! Routes of the admin's and the probes' listeners.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};

use super::body::PageBody;
use super::pages::NoPage;
use super::refusal::Refusal;
use super::serve::Asker;
use super::{Server, explain, guard};
use crate::proxy::listener::ListenerKind;

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

/// The response to one request.
pub(super) async fn answer<B>(server: Arc<Server>, asker: Asker, request: Request<B>) -> Response<PageBody> {
    match asker.kind {
        ListenerKind::Admin => admin(&server, &asker, &request).await,
        ListenerKind::Probes
        | ListenerKind::Outgoing
        | ListenerKind::Transparent
        | ListenerKind::Incoming => probe(&server, &asker, &request).await,
    }
}

/// The admin's routes.
async fn admin<B>(server: &Arc<Server>, asker: &Asker, request: &Request<B>) -> Response<PageBody> {
    let (path, settings) = (request.uri().path(), server.control.settings());
    if let Err(why) = guard::check(request, &settings.admin) {
        return refuse(server, why);
    }
    match (request.method(), path) {
        (&Method::GET | &Method::HEAD, _) => {
            let query = request.uri().query().unwrap_or_default();
            get(server, path, query, asker).await
        }
        (&Method::POST, "/admin/shutdown" | "/admin/drain") => {
            if let Err(why) = guard::may_change(request.headers(), asker.client.ip(), &settings.admin) {
                return refuse(server, why);
            }
            tracing::info!(client = %asker.client, path, "the admin is asked to stop weir");
            server.control.stop.notify_one();
            text(StatusCode::ACCEPTED, TEXT, "draining\n")
        }
        _ => text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n"),
    }
}

async fn get(server: &Arc<Server>, path: &str, query: &str, asker: &Asker) -> Response<PageBody> {
    match path {
        "/live" => text(StatusCode::OK, TEXT, "live\n"),
        "/ready" => {
            let (ready, report) = server.control.ready.report();
            text(readiness(ready), TEXT, report)
        }
        "/metrics" => page(OPENMETRICS, server.pages.metrics(server, asker).await),
        "/" => text(StatusCode::OK, TEXT, INDEX),
        "/api/state.json" => page(JSON, server.pages.state(server, asker).await),
        "/api/explain" => match explain::answer(&server.control, query) {
            Ok((json, true)) => text(StatusCode::OK, JSON, json),
            Ok((plain, false)) => text(StatusCode::OK, TEXT, plain),
            Err(why) => text(StatusCode::BAD_REQUEST, TEXT, format!("{why}\n")),
        },
        "/admin/ping" => text(StatusCode::OK, TEXT, "pong"),
        _ => text(StatusCode::NOT_FOUND, TEXT, "there is no such path; see /\n"),
    }
}

/// The probes' routes, for kubelet, Prometheus and any pod: details only for authorized clients.
async fn probe<B>(server: &Arc<Server>, asker: &Asker, request: &Request<B>) -> Response<PageBody> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n");
    }
    match request.uri().path() {
        "/live" => text(StatusCode::OK, TEXT, "live\n"),
        "/ready" => {
            let (ready, _) = server.control.ready.report();
            text(readiness(ready), TEXT, if ready { "ready\n" } else { "not ready; the admin says why\n" })
        }
        "/metrics" => {
            let rules = server.control.settings().readers();
            match server.readers.check(request.headers(), asker, &rules).await {
                Ok(()) => page(OPENMETRICS, server.pages.recent_metrics(server, asker).await),
                Err(why) => refuse(server, why),
            }
        }
        _ => text(StatusCode::NOT_FOUND, TEXT, "there is no such path: /live, /ready and /metrics are all\n"),
    }
}

fn readiness(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn refuse(server: &Server, why: Refusal) -> Response<PageBody> {
    server.refused[why as usize].inc();
    let (status, said) = why.answer();
    let mut response = text(status, TEXT, said);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn page(kind: &'static str, written: Result<PageBody, NoPage>) -> Response<PageBody> {
    match written {
        Ok(page) => with_body(StatusCode::OK, kind, page),
        Err(NoPage::Memory) => {
            let why = "weir's memory is used up (limits.memory)\n";
            let mut response = text(StatusCode::SERVICE_UNAVAILABLE, TEXT, why);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Err(NoPage::Failed(why)) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("not written: {why}\n"))
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<PageBody> {
    with_body(status, kind, body.into().into())
}

fn with_body(status: StatusCode, kind: &'static str, body: PageBody) -> Response<PageBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        // No page of another origin may use it as an image or a script, or show it in a frame.
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
