//! Token review by the API server: whose bearer token it is, and whether that user may read the metrics.
//!
//! Two requests, as kube-rbac-proxy and Kubernetes' own components send them: a TokenReview, and a SubjectAccessReview
//! for `get` on a non-resource URL. The API server stores neither.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::CONTENT_TYPE;
use kube::client::Body;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::access::Access;
use super::call;
use super::detour::Detour;
use super::failure::Failure;
use crate::config::Kubernetes;

/// Maximum time for both requests together.
const PATIENCE: Duration = Duration::from_secs(5);

const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Sends token reviews to the API server.
pub struct Reviews {
    settings: watch::Receiver<Arc<Kubernetes>>,
    detour: Arc<Detour>,
    /// The access to the server, and the settings it was made from.
    way: Mutex<Option<(Arc<Kubernetes>, Arc<Access>)>>,
}

/// The API server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Review {
    /// The token is unknown or no longer valid.
    Unauthenticated,
    /// Its user lacks permission.
    Forbidden,
    /// Its user has permission.
    Allowed,
}

#[derive(Deserialize)]
struct Answer<S> {
    #[serde(default = "Option::default")]
    status: Option<S>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenStatus {
    authenticated: bool,
    user: User,
}

/// A user, as one review returns it and the other requires it.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct User {
    #[serde(rename(serialize = "user"))]
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AccessStatus {
    allowed: bool,
    denied: bool,
}

impl Reviews {
    pub(super) fn new(settings: watch::Receiver<Arc<Kubernetes>>, detour: Arc<Detour>) -> Self {
        Self { settings, detour, way: Mutex::default() }
    }

    /// The access to the currently configured server.
    fn access(&self) -> Arc<Access> {
        let settings = self.settings.borrow().clone();
        let mut way = self.way.lock();
        match &*way {
            Some((by, access)) if Arc::ptr_eq(by, &settings) => access.clone(),
            _ => {
                let access = Arc::new(Access::new((*settings).clone(), self.detour.clone()));
                *way = Some((settings, access.clone()));
                access
            }
        }
    }

    /// Whether the user of `token` may `get` the non-resource URL `path`.
    ///
    /// # Errors
    ///
    /// The API server does not answer, or weir may not ask it.
    pub async fn may_get(&self, token: &str, path: &str) -> Result<Review, Failure> {
        let access = self.access();
        let asked = timeout(PATIENCE, ask(&access, token, path)).await;
        let told = asked.unwrap_or(Err(Failure::Silent(PATIENCE)));
        match &told {
            Ok(_) => access.reached(),
            Err(failure) => access.failed(failure).await,
        }
        told
    }
}

async fn ask(access: &Access, token: &str, path: &str) -> Result<Review, Failure> {
    let TokenStatus { authenticated, user } = review(access, TOKENS, token_review(token)).await?;
    if !authenticated {
        return Ok(Review::Unauthenticated);
    }
    let AccessStatus { allowed, denied } = review(access, ACCESS, access_review(&user, path)).await?;
    Ok(if allowed && !denied { Review::Allowed } else { Review::Forbidden })
}

async fn review<S: for<'d> Deserialize<'d>>(
    access: &Access,
    url: &str,
    question: Value,
) -> Result<S, Failure> {
    let request = Request::post(url).header(CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(question.to_string().into_bytes()));
    let request = request.map_err(|error| Failure::Misconfigured(error.to_string()))?;
    let answer = call::page(&access.client().await?, request, PATIENCE).await?;
    let answer: Answer<S> =
        serde_json::from_slice(&answer).map_err(|error| Failure::Garbage(format!("no review: {error}")))?;
    answer.status.ok_or_else(|| Failure::Garbage("a review without a status".to_owned()))
}

fn token_review(token: &str) -> Value {
    json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token },
    })
}

fn access_review(user: &User, path: &str) -> Value {
    let mut spec = json!(user);
    spec["nonResourceAttributes"] = json!({ "path": path, "verb": "get" });
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_review_tells_of_a_user_the_other_asks_about() {
        let told = json!({ "kind": "TokenReview", "status": {
            "authenticated": true,
            "user": {
                "username": "system:serviceaccount:monitoring:prometheus",
                "uid": "1",
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "extra": { "authentication.kubernetes.io/pod-name": ["prometheus-0"] },
            },
            "audiences": ["https://kubernetes.default.svc"],
        }});
        let answer: Answer<TokenStatus> = serde_json::from_value(told.clone()).unwrap();
        let status = answer.status.unwrap();
        assert!(status.authenticated);
        let spec = access_review(&status.user, "/metrics")["spec"].clone();
        let user = &told["status"]["user"];
        assert_eq!(spec["user"], user["username"]);
        for key in ["uid", "groups", "extra"] {
            assert_eq!(spec[key], user[key], "{key}");
        }
        assert_eq!(spec["nonResourceAttributes"], json!({ "path": "/metrics", "verb": "get" }));
    }

    #[test]
    fn a_token_of_nobody_comes_without_a_user() {
        for status in
            [json!({ "user": {} }), json!({ "authenticated": false, "error": "expired" }), json!({})]
        {
            let answer: Answer<TokenStatus> = serde_json::from_value(json!({ "status": status })).unwrap();
            assert!(!answer.status.unwrap().authenticated);
        }
    }
}
