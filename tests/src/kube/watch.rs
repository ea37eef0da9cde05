//! Watches: what changed since a version, as it happens.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::faults::Act;
use super::form::Form;
use super::list::whole;
use super::query::{Query, Target};
use super::serve::{Shared, Watched};
use super::status::{self, Body};
use super::store::{Change, Key, Stored};

/// How long a watch lasts whose client does not say.
const TIMEOUT: u64 = 1800;
/// How often a quiet watch gets a bookmark; a real server takes a minute.
const BOOKMARK: Duration = Duration::from_secs(1);

/// A body that somebody else writes; an error breaks the connection.
struct Written(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Written {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|it| it.map(|bytes| bytes.map(Frame::data)))
    }
}

/// Begins a watch.
pub(super) fn begin(shared: &Arc<Shared>, target: Target, query: Query, accept: &str) -> Response<Body> {
    let asked = query.get("resourceVersion").unwrap_or("0");
    let Ok(version) = asked.parse::<u64>() else {
        let message = format!(
            "resourceVersion: Invalid value: {asked:?}: strconv.ParseUint: parsing {asked:?}: invalid syntax"
        );
        return status::failure(500, "", &message, None);
    };
    let (lines, body) = mpsc::channel(16);
    let form = Form::of(accept);
    // From now on: what happens once the answer has begun is told.
    let moves = shared.moves();
    let (number, acts) = shared.open_watch(target.resource.plural);
    let told = BTreeSet::new();
    let watcher = Watcher { shared: shared.clone(), number, target, query, form, version, told, lines };
    tokio::spawn(watcher.run(moves, acts));
    Response::builder()
        .status(StatusCode::OK)
        .header("Content-Type", "application/json")
        .header("Cache-Control", "no-cache, private")
        .body(Written(body).boxed_unsync())
        .expect("a response")
}

struct Watcher {
    shared: Arc<Shared>,
    number: u64,
    target: Target,
    query: Query,
    form: Form,
    /// What its client knows.
    version: u64,
    /// Which objects its client knows to be selected.
    told: BTreeSet<Key>,
    lines: mpsc::Sender<io::Result<Bytes>>,
}

/// The client has left, or the watch is over.
struct Over;

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.watches.lock().unwrap().remove(&self.number);
    }
}

impl Watcher {
    async fn run(mut self, moves: watch::Receiver<u64>, acts: broadcast::Receiver<Act>) {
        let _ = self.serve(moves, acts).await;
    }

    async fn serve(
        &mut self,
        mut moves: watch::Receiver<u64>,
        mut acts: broadcast::Receiver<Act>,
    ) -> Result<(), Over> {
        let seconds = self.query.number("timeoutSeconds").unwrap_or(TIMEOUT);
        let end = Instant::now() + Duration::from_secs(seconds);
        self.begin().await?;
        let mut bookmark = Instant::now() + BOOKMARK;
        loop {
            moves.borrow_and_update();
            if !self.is_silent() {
                self.catch_up().await?;
            }
            tokio::select! {
                moved = moves.changed() => moved.map_err(|_| Over)?,
                act = acts.recv() => self.act(act.map_err(|_| Over)?).await?,
                () = sleep_until(bookmark) => {
                    if !self.is_silent() {
                        self.bookmark(false).await?;
                    }
                    bookmark = Instant::now() + BOOKMARK;
                }
                () = sleep_until(end) => {
                    return self.bookmark(false).await;
                }
                () = self.lines.closed() => return Err(Over),
            }
        }
    }

    /// A real server, too, waits without a word for a version that it does not have yet.
    fn is_silent(&self) -> bool {
        let faults = self.shared.fault();
        faults.hangs || faults.silent_watches || self.shared.store.lock().unwrap().version() < self.version
    }

    /// What there is already: for a watch without a version, and for one that wants it.
    async fn begin(&mut self) -> Result<(), Over> {
        let wants_all = self.query.is("sendInitialEvents");
        let objects = {
            let store = self.shared.store.lock().unwrap();
            if self.version != 0 && !wants_all {
                let known = store.at(self.target.resource, self.version);
                let selected = known.iter().filter(|(key, it)| self.query.selects(&self.target, &key.1, it));
                self.told = selected.map(|(key, _)| key.clone()).collect();
                return Ok(());
            }
            self.version = store.version();
            store.at(self.target.resource, self.version)
        };
        for (key, object) in objects {
            if self.query.selects(&self.target, &key.1, &object) {
                self.event("ADDED", &object).await?;
                self.told.insert(key);
            }
        }
        if wants_all { self.bookmark(true).await } else { Ok(()) }
    }

    /// Everything since the last time.
    async fn catch_up(&mut self) -> Result<(), Over> {
        let (changes, version) = match self.news() {
            Ok(news) => news,
            Err(oldest) => {
                let gone = status::gone(self.version, oldest);
                self.line(&json!({ "type": "ERROR", "object": gone })).await?;
                return Err(Over);
            }
        };
        for change in changes {
            let Change { key, after, told, .. } = change;
            let is = after.is_some_and(|it| self.query.selects(&self.target, &key.1, &it));
            let was = self.told.contains(&key);
            match (was, is) {
                (false, true) => self.event("ADDED", &told).await?,
                (true, true) => self.event("MODIFIED", &told).await?,
                (true, false) => self.event("DELETED", &told).await?,
                (false, false) => {}
            }
            if is {
                self.told.insert(key)
            } else {
                self.told.remove(&key)
            };
        }
        self.version = version;
        self.note(|it| it.told = it.told.map(|_| version));
        Ok(())
    }

    fn note(&self, change: impl FnOnce(&mut Watched)) {
        self.shared.watches.lock().unwrap().entry(self.number).and_modify(change);
    }

    /// This resource's changes that its client does not know, and the version it knows then. Other resources' changes
    /// move the version too. When the history does not go back so far, where it begins.
    fn news(&self) -> Result<(Vec<Change>, u64), u64> {
        let store = self.shared.store.lock().unwrap();
        if self.version < store.floor() {
            return Err(store.floor());
        }
        let plural = self.target.resource.plural;
        let changes = store.since(self.version).filter(|it| it.key.0 == plural).cloned().collect();
        Ok((changes, store.version()))
    }

    /// Whether events can be written in the form that is wanted. They are no lists, so a real server that was asked for one
    /// logs that it cannot encode the first, and hangs up.
    fn encodes(&self) -> Result<(), Over> {
        if self.form == Form::MetadataList { Err(Over) } else { Ok(()) }
    }

    async fn event(&self, kind: &str, object: &Stored) -> Result<(), Over> {
        let faults = self.shared.fault();
        if !faults.delay.is_zero() {
            sleep(faults.delay).await;
        }
        self.encodes()?;
        let text = whole(&self.target, object, self.form == Form::Metadata);
        for _ in 0..=usize::from(faults.duplicates) {
            self.bytes(format!("{{\"type\":\"{kind}\",\"object\":{text}}}\n")).await?;
        }
        Ok(())
    }

    /// The version so far, for a client that wants to hear it.
    async fn bookmark(&self, initial_end: bool) -> Result<(), Over> {
        if !self.query.is("allowWatchBookmarks") {
            return Ok(());
        }
        self.encodes()?;
        let mut metadata = json!({ "resourceVersion": self.version.to_string() });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let resource = self.target.resource;
        let mut object = if self.form == Form::Metadata {
            json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1" })
        } else {
            json!({ "kind": resource.kind, "apiVersion": resource.api_version() })
        };
        object["metadata"] = metadata;
        if resource.kind == "EndpointSlice" && self.form == Form::Whole {
            object["addressType"] = json!("");
            object["endpoints"] = Value::Null;
            object["ports"] = Value::Null;
        }
        self.line(&json!({ "type": "BOOKMARK", "object": object })).await?;
        self.note(|it| it.bookmarked = Some(self.version));
        Ok(())
    }

    async fn act(&self, act: Act) -> Result<(), Over> {
        let resource = self.target.resource;
        match act {
            Act::End => Err(Over),
            Act::Cut => {
                self.bytes("{\"type\":\"MODIFIED\",\"object\":{\"ki".to_owned()).await?;
                let _ = self.lines.send(Err(io::ErrorKind::ConnectionReset.into())).await;
                Err(Over)
            }
            Act::Gone => {
                let gone = status::gone(self.version, self.version + 1);
                self.line(&json!({ "type": "ERROR", "object": gone })).await?;
                Err(Over)
            }
            Act::Garbage => self.bytes("}}}} this is no JSON\n".to_owned()).await,
            Act::Nonsense => {
                let object = json!({ "kind": resource.kind, "metadata": 7 });
                self.line(&json!({ "type": "MODIFIED", "object": object })).await
            }
        }
    }

    async fn line(&self, value: &Value) -> Result<(), Over> {
        self.bytes(format!("{value}\n")).await
    }

    async fn bytes(&self, text: String) -> Result<(), Over> {
        self.lines.send(Ok(Bytes::from(text))).await.map_err(|_| Over)
    }
}
