//! Says at the object whether it is in force, and whether all of it can be bound: in an Event where not, and in the status
//! of a `Dtab`.
//!
//! Every node says the same, so an Event has a name made from its text and the object's generation: the first one creates
//! it. A status that is already so is no change for the server. What was said is not said again, and of several changes
//! within [`PAUSE`] the last one counts. Without permission for either, nothing is said there; the log, the metrics and
//! `/ready` say it in any case.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{DtabKeeper, Stored};
use crate::config::{DtabStore, Interpreter};
use crate::discovery::kubernetes::access::Access;
use crate::discovery::kubernetes::call;
use crate::discovery::kubernetes::failure::Failure;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one report on an object to the next.
const PAUSE: Duration = Duration::from_secs(5);
/// Most warnings that are written out.
const SHOWN: usize = 3;
/// Longest message of an Event, in bytes.
const MESSAGE: usize = 1_000;

/// What an object is known by.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object {
    uid: String,
    version: String,
    /// Changes with what it says; its status does not count. Of some kinds there is none.
    generation: Option<i64>,
    /// What its status says: state and message.
    said: Option<(String, String)>,
}

impl Object {
    pub(super) fn of(object: &Value) -> Self {
        let part = |of: &str, key: &str| object.get(of).and_then(|part| part.get(key));
        let word = |of, key| part(of, key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let state = word("status", "state");
        Self {
            uid: word("metadata", "uid"),
            version: word("metadata", "resourceVersion"),
            generation: part("metadata", "generation").and_then(Value::as_i64),
            said: (!state.is_empty()).then(|| (state, word("status", "message"))),
        }
    }
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq)]
struct Report {
    /// Why it is not in force, if it is not.
    problem: Option<String>,
    /// What of it can never be bound, where it is in force.
    warnings: Arc<[String]>,
}

/// Says what becomes of `which`, after a random part of `jitter`, since all nodes do so.
pub(super) async fn run(which: Interpreter, keeper: Arc<DtabKeeper>, access: Arc<Access>, jitter: Duration) {
    let mut known = keeper.known();
    // What was said, and of which object.
    let mut said: Option<(Object, Report)> = None;
    // Somebody may have taken a status away.
    let is_left = |object: &Object, report: &Report| which.store != DtabStore::Dtab || report.is_said(object);
    loop {
        let mut next = || {
            let stored = known.borrow_and_update().get(&which).cloned()?;
            let next = Report::of(&stored)?;
            let object = stored.object?;
            let is_said = said.as_ref().is_some_and(|(of, it)| {
                *it == next && (*of == object || (of.uid == object.uid && is_left(&object, &next)))
            });
            (!is_said).then_some((object, next))
        };
        if next().is_some() {
            sleep(jitter.mul_f64(fastrand::f64())).await;
            // The last word counts.
            if let Some((object, report)) = next() {
                let before = said.take().filter(|(of, _)| of.uid == object.uid);
                report.send(&which, &object, before.map(|(_, it)| it), &access).await;
                said = Some((object, report));
                sleep(PAUSE).await;
            }
            continue;
        }
        if known.changed().await.is_err() {
            // The keeper, which has the sender, is gone.
            return;
        }
    }
}

impl Report {
    /// What is to be said; `None` as long as it is not known.
    fn of(stored: &Stored) -> Option<Self> {
        match &stored.problem {
            Some(problem) => Some(Self { problem: Some(problem.clone()), warnings: Arc::default() }),
            None if stored.is_judged => Some(Self { problem: None, warnings: stored.warnings.clone() }),
            None => None,
        }
    }

    /// Says it at the object, of which `before` was said last.
    async fn send(&self, which: &Interpreter, object: &Object, before: Option<Self>, access: &Access) {
        let Interpreter { store, namespace, name } = which;
        let message = self.message();
        let is_news = before.is_none_or(|before| before.message() != message) && !self.is_said(object);
        if is_news && !message.is_empty() {
            let path = format!("/api/v1/namespaces/{namespace}/events");
            let event = self.event(which, object, &message);
            say(which, access, (Method::POST, "application/json"), path, &event).await;
        }
        if *store == DtabStore::Dtab {
            let path = format!("/apis/l5d.io/v1alpha1/namespaces/{namespace}/dtabs/{name}/status");
            let patch = (Method::PATCH, "application/merge-patch+json");
            say(which, access, patch, path, &self.status(&message)).await;
        }
    }

    /// Whether the object's status says so.
    fn is_said(&self, object: &Object) -> bool {
        object
            .said
            .as_ref()
            .is_some_and(|(state, message)| state == self.state() && *message == self.message())
    }

    fn state(&self) -> &'static str {
        if self.problem.is_none() { "InForce" } else { "NotInForce" }
    }

    /// What is wrong, in one line; empty if nothing is.
    fn message(&self) -> String {
        if let Some(problem) = &self.problem {
            return format!("{problem}; the last good dtab stays in force");
        }
        let mut message = self.warnings.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
        if let Some(more) = self.warnings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            message += &format!("; and {more} more");
        }
        message
    }

    fn event(&self, which: &Interpreter, object: &Object, message: &str) -> Value {
        let Interpreter { store, namespace, name } = which;
        let (api, kind) = store.kind();
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let generation = object.generation.map_or_else(|| object.version.clone(), |it| it.to_string());
        let told = format!("{name}.{generation}.{:08x}.weir", hasher.finish() as u32);
        let reason = if self.problem.is_some() { "NotInForce" } else { "CannotBeBound" };
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "namespace": namespace, "name": told },
            "involvedObject": {
                "apiVersion": api,
                "kind": kind,
                "namespace": namespace,
                "name": name,
                "uid": object.uid,
                "resourceVersion": object.version,
            },
            "type": "Warning",
            "reason": reason,
            "message": &message[..message.floor_char_boundary(MESSAGE)],
            "source": { "component": "weir" },
            "count": 1,
        })
    }

    fn status(&self, message: &str) -> Value {
        let warnings = self.warnings.len();
        let message = Some(message).filter(|it| !it.is_empty());
        json!({ "status": {
            "state": self.state(), "problem": self.problem, "warnings": warnings, "message": message,
        } })
    }
}

async fn say(
    which: &Interpreter,
    access: &Access,
    (method, kind): (Method, &str),
    path: String,
    body: &Value,
) {
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, kind);
    let Ok(request) = request.body(Body::from(body.to_string().into_bytes())) else { return };
    let sending = async { call::page(&access.client().await?, request, PATIENCE).await };
    let sent = timeout(PATIENCE, sending).await.unwrap_or(Err(Failure::Silent(PATIENCE)));
    if let Err(why) = sent {
        tracing::debug!(dtab = %which, %why, "not said at the object");
    }
}
