//! Answers, and refusals as the API has them: a `Status`.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::resource::Resource;

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// An answer of JSON text.
pub(super) fn text(status: u16, content_type: &str, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    Response::builder()
        .status(StatusCode::from_u16(status).expect("a status"))
        .header("Content-Type", content_type)
        .header("Cache-Control", "no-cache, private")
        .body(body)
        .expect("a response")
}

pub(super) fn json(status: u16, value: &Value) -> Response<Body> {
    text(status, "application/json", value.to_string())
}

/// A failure, with what only some have.
pub(super) fn failure(code: u16, reason: &str, message: &str, details: Option<Value>) -> Response<Body> {
    json(code, &status(code, reason, message, details))
}

pub(super) fn status(code: u16, reason: &str, message: &str, details: Option<Value>) -> Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": code,
    });
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    if let Some(details) = details {
        status["details"] = details;
    }
    status
}

/// A resource without its object.
pub(super) fn not_found(resource: &Resource, name: &str) -> Response<Body> {
    let message = format!("{} {name:?} not found", resource.qualified());
    let mut details = json!({ "name": name, "kind": resource.plural });
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    failure(404, "NotFound", &message, Some(details))
}

/// A path this server has nothing at.
pub(super) fn no_page() -> Response<Body> {
    text(404, "text/plain; charset=utf-8", "404 page not found\n".to_owned())
}

pub(super) fn unauthorized() -> Response<Body> {
    failure(401, "Unauthorized", "Unauthorized", None)
}

pub(super) fn forbidden(resource: &Resource, verb: &str) -> Response<Body> {
    let message = format!(
        "{} is forbidden: User \"double\" cannot {verb} resource {:?} in API group {:?} at the cluster scope",
        resource.qualified(),
        resource.plural,
        resource.group
    );
    failure(403, "Forbidden", &message, Some(json!({ "kind": resource.plural })))
}

/// The object is not as the client thinks.
pub(super) fn conflict(resource: &Resource, name: &str) -> Response<Body> {
    let message = format!(
        "Operation cannot be fulfilled on {} {name:?}: the object has been modified; please apply your changes to the latest \
         version and try again",
        resource.qualified()
    );
    let details = json!({ "name": name, "group": resource.group, "kind": resource.plural });
    failure(409, "Conflict", &message, Some(details))
}

/// More than a server reads of one request.
pub(super) fn too_large(most: usize) -> Response<Body> {
    let message = format!("Request entity too large: limit is {most}");
    failure(413, "RequestEntityTooLarge", &message, None)
}

/// 429 of API priority and fairness.
pub(super) fn too_many(after: u64) -> Response<Body> {
    let details = json!({ "retryAfterSeconds": after });
    let message = "Too many requests, please try again later.";
    let mut response = failure(429, "TooManyRequests", message, Some(details));
    response.headers_mut().insert("Retry-After", after.into());
    response
}

/// The history that was asked for is gone, as a watch tells it.
pub(super) fn gone(asked: u64, oldest: u64) -> Value {
    status(410, "Expired", &format!("too old resource version: {asked} ({oldest})"), None)
}

/// A version the server does not have yet.
pub(super) fn too_new(asked: u64, current: u64) -> Response<Body> {
    let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
    let cause = json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
    let details = json!({ "causes": [cause], "retryAfterSeconds": 1 });
    let mut response = failure(504, "Timeout", &message, Some(details));
    response.headers_mut().insert("Retry-After", 1.into());
    response
}
