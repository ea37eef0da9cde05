//! Says at the object whether it is in force: as an Event where it is not, and in the status of a `Dtab`.
//!
//! Every node says the same, so an Event has a name made from the object's version: the first one creates it. A status
//! that is already so is no change for the server. Without permission for either, nothing is said there; the log, the
//! metrics and `/ready` say it in any case.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::config::{DtabStore, Interpreter};
use crate::discovery::kubernetes::access::Access;
use crate::discovery::kubernetes::call;
use crate::discovery::kubernetes::failure::Failure;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of an object.
pub(super) struct Report {
    which: Interpreter,
    uid: String,
    version: String,
    /// Why it is not in force, if it is not.
    problem: Option<String>,
}

impl Report {
    /// That `object` is in force, or the `problem` with it.
    pub(super) fn new(which: &Interpreter, object: &Value, problem: Option<String>) -> Self {
        let word = |key: &str| {
            let word = object.get("metadata").and_then(|metadata| metadata.get(key)?.as_str());
            word.unwrap_or_default().to_owned()
        };
        Self { which: which.clone(), uid: word("uid"), version: word("resourceVersion"), problem }
    }

    /// Sends it, after a random part of `jitter`: all nodes do so.
    pub(super) async fn send(self, access: Arc<Access>, jitter: Duration) {
        sleep(jitter.mul_f64(fastrand::f64())).await;
        let Interpreter { store, namespace, name } = &self.which;
        if self.problem.is_some() {
            let path = format!("/api/v1/namespaces/{namespace}/events");
            self.say(&access, (Method::POST, "application/json"), path, &self.event()).await;
        }
        if *store == DtabStore::Dtab {
            let path = format!("/apis/l5d.io/v1alpha1/namespaces/{namespace}/dtabs/{name}/status");
            let patch = (Method::PATCH, "application/merge-patch+json");
            self.say(&access, patch, path, &self.status()).await;
        }
    }

    async fn say(&self, access: &Access, (method, kind): (Method, &str), path: String, body: &Value) {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, kind);
        let Ok(request) = request.body(Body::from(body.to_string().into_bytes())) else { return };
        let sending = async { call::page(&access.client().await?, request, PATIENCE).await };
        let sent = timeout(PATIENCE, sending).await.unwrap_or(Err(Failure::Silent(PATIENCE)));
        if let Err(why) = sent {
            tracing::debug!(dtab = %self.which, %why, "not said at the object");
        }
    }

    fn event(&self) -> Value {
        let Interpreter { store, namespace, name } = &self.which;
        let (api, kind) = store.kind();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "namespace": namespace, "name": format!("{name}.{}.weir", self.version) },
            "involvedObject": {
                "apiVersion": api,
                "kind": kind,
                "namespace": namespace,
                "name": name,
                "uid": self.uid,
                "resourceVersion": self.version,
            },
            "type": "Warning",
            "reason": "NotInForce",
            "message": format!("{}; the last good dtab stays in force", self.problem.as_deref().unwrap_or_default()),
            "source": { "component": "weir" },
            "count": 1,
        })
    }

    fn status(&self) -> Value {
        let state = if self.problem.is_none() { "InForce" } else { "NotInForce" };
        json!({ "status": { "state": state, "problem": self.problem } })
    }
}
