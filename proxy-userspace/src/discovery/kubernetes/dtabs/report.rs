//! Says at the object whether it is in force, and whether all of it can be bound: in an Event where not, and in the status
//! of a `Dtab`.
//!
//! Every node reports the same, so the name of an Event is made from its text and the object's generation: the first node
//! creates it. Each node waits a random time first, and does not write a status that another node has written meanwhile. It
//! does not overwrite a different report either, or weirs with different configurations would overwrite each other's for
//! ever. A failed report is retried with a growing pause. Of several changes within [`PAUSE`] only the last one is reported.
//! Without permission for either, nothing is written to the object; log, metrics and `/ready` report it in any case.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{DtabKeeper, Stored};
use crate::config::{DtabStore, Interpreter};
use crate::discovery::kubernetes::access::Access;
use crate::discovery::kubernetes::call;
use crate::discovery::kubernetes::failure::Failure;
use crate::discovery::kubernetes::pace::growing;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one report on an object to the next, and from a first failure to the next try.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest pause after failures in a row.
const LONGEST: Duration = Duration::from_secs(60);
/// Over how many times `jitter` the nodes' reports are spread, and the longest such time where `jitter` is shorter.
const SPREAD: u32 = 10;
const WIDEST: Duration = Duration::from_secs(60);
/// How long a dtab in force may take to be judged before its state is said without warnings.
const JUDGED: Duration = Duration::from_secs(1);
/// What holds on every node while an object is not in force.
const KEPT: &str = "each weir keeps the last good dtab that it has read, and is not ready if it has none";
/// The state of a dtab that is in force.
const IN_FORCE: &str = "InForce";
/// Most warnings that are written out.
const SHOWN: usize = 3;
/// Longest message of an Event, in bytes.
const MESSAGE: usize = 1_000;
/// How much of an object's name is in that of an Event, in bytes: a name has at most 253.
const NAME: usize = 200;

/// What an object is known by.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object {
    uid: String,
    /// Its version with which its text came.
    version: String,
    /// Changes with what it says; its status does not count. Of some kinds there is none.
    generation: Option<i64>,
    /// Its newest version.
    newest: String,
    /// What its status says now: state and message.
    said: Option<(String, String)>,
}

impl Object {
    pub(super) fn of(object: &Value) -> Self {
        let part = |of: &str, key: &str| object.get(of).and_then(|part| part.get(key));
        let word = |of, key| part(of, key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let state = word("status", "state");
        let version = word("metadata", "resourceVersion");
        Self {
            uid: word("metadata", "uid"),
            newest: version.clone(),
            version,
            generation: part("metadata", "generation").and_then(Value::as_i64),
            said: (!state.is_empty()).then(|| (state, word("status", "message"))),
        }
    }

    /// The same text, as `now` has it.
    pub(super) fn with_status_of(self, now: Self) -> Self {
        match self.uid == now.uid {
            true => Self { newest: now.newest, said: now.said, ..self },
            false => now,
        }
    }

    /// Whether both are the same edit of the same object, whatever the status.
    fn is_same_edit(&self, other: &Self) -> bool {
        (&self.uid, &self.version) == (&other.uid, &other.version)
    }
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq)]
struct Report {
    /// Why it is not in force, if it is not.
    problem: Option<String>,
    /// What of it can never be bound, where it is in force; `None` as long as it is not judged.
    warnings: Option<Arc<[String]>>,
}

/// What one node has said of an object.
#[derive(Debug, Default)]
struct Said {
    /// The last report, and of what.
    last: Option<(Object, Report)>,
    /// The object's identity, and the last message that an Event was to say.
    told: Option<(String, String)>,
    /// Whether an Event was not taken, so that it is sent also where the status is there by now.
    owes_event: bool,
}

impl Said {
    /// What is to be said of `stored`, if it is not yet.
    fn next(&self, stored: &Stored, store: &DtabStore) -> Option<(Object, Report)> {
        let report = Report::of(stored, *store == DtabStore::Dtab)?;
        let object = stored.object.clone()?;
        let is_said = self.last.as_ref().is_some_and(|(of, it)| *it == report && of.is_same_edit(&object));
        (!is_said).then_some((object, report))
    }

    /// Whether an Event is to say `message`.
    fn is_news(&self, object: &Object, message: &str) -> bool {
        let told = self.told.as_ref().is_some_and(|(uid, it)| *uid == object.uid && it == message);
        !message.is_empty() && !told
    }

    fn note(&mut self, object: Object, report: Report) {
        if report.is_whole() {
            self.told = Some((object.uid.clone(), report.message()));
            self.owes_event = false;
        }
        self.last = Some((object, report));
    }
}

/// Says what becomes of `which`, after a random time that depends on `jitter`, since all nodes do so.
pub(super) async fn run(which: Interpreter, keeper: Arc<DtabKeeper>, access: Arc<Access>, jitter: Duration) {
    let mut known = keeper.known();
    let (mut said, mut failures, mut rng) = (Said::default(), 0, fastrand::Rng::new());
    loop {
        let mut next = |said: &Said| {
            let stored = known.borrow_and_update().get(&which).cloned()?;
            said.next(&stored, &which.store)
        };
        let Some((_, report)) = next(&said) else {
            if known.changed().await.is_err() {
                // The keeper, which has the sender, is gone.
                return;
            }
            continue;
        };
        if failures == 0 {
            let pause = spread(jitter).mul_f64(rng.f64());
            sleep(if report.is_whole() { pause } else { pause.max(JUDGED) }).await;
        }
        // The last word counts.
        let Some((object, report)) = next(&said) else { continue };
        let is_news = said.is_news(&object, &report.message());
        let is_there = which.store == DtabStore::Dtab && report.is_said(&object);
        if is_there && !(is_news && said.owes_event) {
            said.note(object, report);
            failures = 0;
            continue;
        }
        let told = if is_news { report.tell(&which, &object, &access).await } else { Ok(()) };
        said.owes_event = told.is_err();
        // Whatever became of the Event.
        let written = match which.store == DtabStore::Dtab && !is_there {
            true => report.write(&which, &object, &access).await,
            false => Ok(()),
        };
        let pause = match told.and(written) {
            Ok(()) => {
                said.note(object, report);
                failures = 0;
                PAUSE
            }
            Err(why) => {
                failures += 1;
                tracing::debug!(dtab = %which, %why, failures, "not said at the object; it is tried again");
                after(&why, failures, &mut rng)
            }
        };
        sleep(pause).await;
    }
}

/// Over how long the nodes' reports are spread.
fn spread(jitter: Duration) -> Duration {
    (jitter * SPREAD).min(WIDEST).max(jitter)
}

/// The pause after so many failures in a row, of which `why` was the last.
fn after(why: &Failure, failures: u32, rng: &mut fastrand::Rng) -> Duration {
    let asked = match why {
        Failure::Throttled(Some(asked)) => (*asked).min(LONGEST),
        _ => Duration::ZERO,
    };
    growing(PAUSE, LONGEST, failures, rng).max(asked)
}

impl Report {
    /// What is to be said; `None` as long as it is not known. Until a dtab is judged, only a status that says otherwise
    /// (`has_status`) is corrected.
    fn of(stored: &Stored, has_status: bool) -> Option<Self> {
        if let Some(problem) = &stored.problem {
            return Some(Self { problem: Some(problem.clone()), warnings: Some(Arc::default()) });
        }
        let said = stored.object.as_ref().and_then(|object| object.said.as_ref());
        let is_wrong = has_status && stored.dtab.is_some() && said.is_none_or(|(state, _)| state != IN_FORCE);
        match stored.is_judged {
            true => Some(Self { problem: None, warnings: Some(stored.warnings.clone()) }),
            false => is_wrong.then_some(Self { problem: None, warnings: None }),
        }
    }

    /// Whether nothing of it is still to come.
    fn is_whole(&self) -> bool {
        self.warnings.is_some()
    }

    /// Says it in an Event.
    async fn tell(&self, which: &Interpreter, object: &Object, access: &Access) -> Result<(), Failure> {
        let path = format!("/api/v1/namespaces/{}/events", which.namespace);
        let event = self.event(which, object, &self.message());
        // 409: another node was first.
        say(which, access, (Method::POST, "application/json"), path, &event, is_answer).await
    }

    /// Says it in the status of a `Dtab`.
    async fn write(&self, which: &Interpreter, object: &Object, access: &Access) -> Result<(), Failure> {
        let Interpreter { namespace, name, .. } = which;
        let path = format!("/apis/l5d.io/v1alpha1/namespaces/{namespace}/dtabs/{name}/status");
        let patch = (Method::PATCH, "application/merge-patch+json");
        // 409: somebody wrote since, perhaps the same.
        let is_final = |why: &Failure| is_answer(why) && !is_conflict(why);
        say(which, access, patch, path, &self.status(object, &self.message()), is_final).await
    }

    /// Whether the object's status says so.
    fn is_said(&self, object: &Object) -> bool {
        object
            .said
            .as_ref()
            .is_some_and(|(state, message)| state == self.state() && *message == self.message())
    }

    fn state(&self) -> &'static str {
        if self.problem.is_none() { IN_FORCE } else { "NotInForce" }
    }

    /// What is wrong, in one line; empty if nothing is. The same from every node, also from one that has just started.
    fn message(&self) -> String {
        if let Some(problem) = &self.problem {
            return format!("{problem}; {KEPT}");
        }
        let warnings = self.warnings.as_deref().unwrap_or_default();
        let mut message = warnings.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
        if let Some(more) = warnings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            message += &format!("; and {more} more");
        }
        message
    }

    fn event(&self, which: &Interpreter, object: &Object, message: &str) -> Value {
        let Interpreter { store, namespace, name } = which;
        let (api, kind) = store.kind();
        let mut hasher = DefaultHasher::new();
        (name, message).hash(&mut hasher);
        let generation = object.generation.map_or_else(|| object.version.clone(), |it| it.to_string());
        let start = name[..name.floor_char_boundary(NAME)].trim_end_matches(['.', '-']);
        let told = format!("{start}.{generation}.{:08x}.weir", hasher.finish() as u32);
        let reason = if self.problem.is_some() { "NotInForce" } else { "CannotBeBound" };
        let now = Time(Timestamp::now());
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
            // Without them `kubectl describe` does not know when it was.
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        })
    }

    /// The patch, which is refused if the object was written since.
    fn status(&self, object: &Object, message: &str) -> Value {
        let warnings = self.warnings.as_ref().map(|it| it.len());
        let message = Some(message).filter(|it| !it.is_empty());
        json!({
            "metadata": { "resourceVersion": object.newest },
            "status": {
                "state": self.state(), "problem": self.problem, "warnings": warnings, "message": message,
            },
        })
    }
}

/// Whether the server would answer the same again: any 4xx but 401, 410 and 429, a missing permission included.
fn is_answer(why: &Failure) -> bool {
    match why {
        Failure::Forbidden(_) => true,
        Failure::Refused(why) => why.starts_with('4'),
        _ => false,
    }
}

fn is_conflict(why: &Failure) -> bool {
    matches!(why, Failure::Refused(why) if why.starts_with("409"))
}

/// Sends `body`; a failure that `is_final` is none, since another try would end the same.
async fn say(
    which: &Interpreter,
    access: &Access,
    (method, kind): (Method, &str),
    path: String,
    body: &Value,
    is_final: impl Fn(&Failure) -> bool,
) -> Result<(), Failure> {
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, kind);
    let Ok(request) = request.body(Body::from(body.to_string().into_bytes())) else { return Ok(()) };
    let sending = async { call::page(&access.client().await?, request, PATIENCE).await };
    match timeout(PATIENCE, sending).await.unwrap_or(Err(Failure::Silent(PATIENCE))) {
        Err(why) if is_final(&why) => {
            tracing::debug!(dtab = %which, %why, "not said at the object");
            Ok(())
        }
        sent => sent.map(|_| ()),
    }
}

#[cfg(test)]
mod tests;
