//! One resource, listed and then watched for as long as weir runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::access::Access;
use super::call::{self, Event, Head, Lines, Page};
use super::failure::Failure;
use super::health::{Health, State};
use super::pace::{End, Pace, Step};
use super::resource::{Focus, Object, Resource, Sensible};
use super::shallow;
use crate::config::Kubernetes;

/// Maximum duration of a watch, in seconds. Reduced by up to a quarter at random, so that they do not all end together.
const WATCH_SECONDS: u64 = 360;

/// Maximum pages of a list; more than any cluster has. Bounds a server that never ends a list.
const PAGES: usize = 10_000;

/// Updates of a resource.
#[derive(Debug)]
pub(super) enum News {
    /// A list begins; its first page has arrived. One that fails is begun again, without a message in between.
    Begin(Resource),
    /// An object is new or has changed.
    Set(Box<Object>),
    /// An object exists but is invalid: its last state stays.
    Senseless(Resource, Name),
    /// An object was deleted.
    Gone(Resource, Name),
    /// The list is complete: objects not in it are gone.
    Complete(Resource),
    /// weir may not list it, so nothing needs to wait for it.
    Denied(Resource),
}

/// An object's name: its namespace, empty for cluster-scoped objects, and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

/// Follows one resource.
pub(super) struct Follower {
    pub(super) resource: Resource,
    pub(super) settings: Arc<Kubernetes>,
    pub(super) focus: Focus,
    pub(super) access: Arc<Access>,
    pub(super) health: Arc<Health>,
    pub(super) news: mpsc::Sender<News>,
}

/// The receiver of the news is gone.
#[derive(Debug)]
pub(super) struct Unheard;

/// How a step ended, unless the receiver is gone.
type Ended = Result<End, Unheard>;

impl Follower {
    /// Follows the resource until the receiver is gone.
    pub(super) async fn run(self) {
        let mut rng = fastrand::Rng::new();
        let mut pace = Pace::default();
        let mut step = Step::List;
        loop {
            let ended = match step {
                Step::List => self.list().await,
                Step::Watch(version) => self.watch(version, &mut rng).await,
            };
            let Ok(end) = ended else { return };
            if let End::NotListed(failure) | End::Watched { why: Some(failure), .. } = &end {
                self.health.failed(self.resource, failure);
                self.access.failed(failure).await;
            }
            if let End::NotListed(Failure::Forbidden(_)) = end
                && self.tell(News::Denied(self.resource)).await.is_err()
            {
                return;
            }
            let pause;
            (step, pause) = pace.after(end, self.settings.jitter, &mut rng);
            sleep(pause).await;
        }
    }

    async fn list(&self) -> Ended {
        self.health.set(self.resource, State::Listing);
        self.health.counts(self.resource).lists.inc();
        let listed = self.pages().await?;
        if matches!(listed, Err(Failure::TooMany(_))) {
            // From now on none of them is known.
            self.tell(News::Begin(self.resource)).await?;
            self.tell(News::Complete(self.resource)).await?;
        }
        match listed {
            Ok(version) => {
                self.tell(News::Complete(self.resource)).await?;
                self.health.well(self.resource, State::Watching);
                Ok(End::Listed(version))
            }
            Err(failure) => Ok(End::NotListed(failure)),
        }
    }

    /// Reads every page of a list; returns the list's version.
    async fn pages(&self) -> Result<Result<String, Failure>, Unheard> {
        let mut from: Option<String> = None;
        let mut senseless = Vec::new();
        let mut count = 0;
        for _ in 0..PAGES {
            let request = self.resource.list(&self.focus, from.as_deref());
            let body = match self.page(request).await {
                Ok(body) => body,
                Err(failure) => return Ok(Err(failure)),
            };
            let Page { metadata, items } = match Page::from_body(&body) {
                Ok(page) => page,
                Err(failure) => return Ok(Err(failure)),
            };
            self.access.reached();
            self.health.contact(self.resource);
            if from.is_none() {
                // Not earlier: a server may take long to begin, and until then the known state holds.
                self.tell(News::Begin(self.resource)).await?;
            }
            let items = items.unwrap_or_default();
            count += items.len();
            if let Some(most) = self.most()
                && count + metadata.remaining_item_count.unwrap_or(0) > most
            {
                return Ok(Err(Failure::TooMany(most)));
            }
            for item in items {
                // Invalid numbers are the only errors found only here.
                let item = shallow::parse(item.get()).unwrap_or_default();
                if let Some(name) = self.set(item).await? {
                    senseless.push(name);
                }
            }
            match metadata.next.filter(|next| !next.is_empty()) {
                Some(next) => from = Some(next),
                None => {
                    self.health.keep_problems(self.resource, &senseless);
                    return Ok(Ok(metadata.resource_version));
                }
            }
        }
        Ok(Err(Failure::Garbage(format!("a list of more than {PAGES} pages"))))
    }

    /// Maximum number of objects to follow, if bounded.
    fn most(&self) -> Option<usize> {
        (self.resource == Resource::Nodes).then_some(self.settings.nodes)
    }

    async fn page(&self, request: http::Request<kube::client::Body>) -> Result<BytesMut, Failure> {
        call::page(&self.access.client().await?, request, self.settings.read_timeout).await
    }

    async fn watch(&self, version: String, rng: &mut fastrand::Rng) -> Ended {
        self.health.counts(self.resource).watches.inc();
        let mut at = At::new(version);
        let seconds = WATCH_SECONDS - rng.u64(..WATCH_SECONDS / 4);
        let asked = Duration::from_secs(seconds);
        let opened = self.open(&at.version, seconds).await;
        let mut lines = match opened {
            Ok(lines) => lines,
            Err(why) => {
                return Ok(End::Watched { version: at.version, life: Duration::ZERO, asked, why: Some(why) });
            }
        };
        self.access.reached();
        self.health.well(self.resource, State::Watching);
        let begun = Instant::now();
        let patience = self.settings.silence.min(asked + self.settings.read_timeout);
        let (why, asked) = loop {
            match lines.next(patience).await {
                Ok(None) => break (None, asked),
                // Not necessarily a failure: servers guarantee no bookmarks, and one that has seen no change of a
                // resource since it started sends none.
                Err(Failure::Silent(_)) => break (self.why_silent(&at).await, begun.elapsed()),
                Ok(Some(event)) => {
                    self.health.contact(self.resource);
                    if let Err(failure) = self.event(event, &mut at).await? {
                        break (Some(failure), asked);
                    }
                }
                Err(failure) => break (Some(failure), asked),
            }
        };
        Ok(End::Watched { version: at.version, life: begun.elapsed(), asked, why })
    }

    async fn open(&self, version: &str, seconds: u64) -> Result<Lines, Failure> {
        let request = self.resource.watch(&self.focus, version, seconds);
        let client = self.access.client().await?;
        call::send(&client, request, self.settings.read_timeout).await.map(Lines::from_response)
    }

    /// Why a watch is silent, unless nothing happens: the server does not answer, or was restored from a backup and
    /// sends nothing until its versions reach the watch's again.
    async fn why_silent(&self, at: &At) -> Option<Failure> {
        let body = match self.page(self.resource.probe(&self.focus)).await {
            Ok(body) => body,
            Err(failure) => return Some(failure),
        };
        match Page::from_body(&body) {
            Ok(page) if at.is_after(&page.metadata.resource_version) => Some(Failure::Gone),
            Ok(_) => None,
            Err(garbage) => Some(garbage),
        }
    }

    /// Processes an event.
    async fn event(&self, event: Event, at: &mut At) -> Result<Result<(), Failure>, Unheard> {
        self.health.counts(self.resource).events.inc();
        let head = Head::from_object(&event.object);
        match event.kind.as_str() {
            "ERROR" => return Ok(Err(Failure::of_event(event.object))),
            "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" => {}
            other => return Ok(Err(Failure::Garbage(format!("an event of type {other:?}")))),
        }
        if let Err(failure) = at.advance(head.version.as_deref()) {
            return Ok(Err(failure));
        }
        match event.kind.as_str() {
            "BOOKMARK" => {}
            "DELETED" => {
                let name = Name::from_head(&head);
                self.health.heed(self.resource, &name.to_string());
                self.tell(News::Gone(self.resource, name)).await?;
            }
            _ => {
                self.set(event.object).await?;
            }
        }
        Ok(Ok(()))
    }

    /// Sends an object; returns its name if something is wrong with it.
    async fn set(&self, object: Value) -> Result<Option<String>, Unheard> {
        let name = Name::from_head(&Head::from_object(&object));
        let shown = name.to_string();
        if !self.resource.is_wanted(&self.focus, &object) {
            self.health.heed(self.resource, &shown);
            self.tell(News::Gone(self.resource, name)).await?;
            return Ok(None);
        }
        match self.resource.read(object) {
            Ok(Sensible { object, mistakes, left_out }) => {
                self.health.counts(self.resource).ignored.add(left_out as u64);
                self.tell(News::Set(Box::new(object))).await?;
                if mistakes.is_empty() {
                    self.health.heed(self.resource, &shown);
                    return Ok(None);
                }
                self.health.report(self.resource, shown.clone(), mistakes.join("; "));
                Ok(Some(shown))
            }
            Err(error) => {
                self.health.ignore(self.resource, shown.clone(), &error.to_string());
                self.tell(News::Senseless(self.resource, name)).await?;
                Ok(Some(shown))
            }
        }
    }

    async fn tell(&self, news: News) -> Result<(), Unheard> {
        self.news.send(news).await.map_err(|_| Unheard)
    }
}

/// The progress of a watch.
pub(super) struct At {
    /// The version of the last event.
    pub(super) version: String,
    /// The version as a number, which it is on every known server; opaque versions are not compared.
    number: Option<u64>,
}

impl At {
    /// Of a watch from `version` on.
    pub(super) fn new(version: String) -> Self {
        Self { number: version.parse().ok(), version }
    }

    /// Whether it is ahead of a server whose newest version is this.
    pub(super) fn is_after(&self, newest: &str) -> bool {
        matches!((self.number, newest.parse::<u64>().ok()), (Some(at), Some(newest)) if newest < at)
    }

    /// Records an event's version. Events arrive in version order; if one does not, earlier ones may be lost or out of
    /// date, and only a list can tell.
    pub(super) fn advance(&mut self, version: Option<&str>) -> Result<(), Failure> {
        let Some(version) = version else {
            return Err(Failure::Garbage("an object without a resourceVersion".to_owned()));
        };
        let number = version.parse().ok();
        if let (Some(before), Some(now)) = (self.number, number)
            && now < before
        {
            return Err(Failure::Garbage(format!("an event of version {now} after one of {before}")));
        }
        self.number = number;
        self.version.clear();
        self.version.push_str(version);
        Ok(())
    }
}

impl Name {
    fn from_head(head: &Head) -> Self {
        Self {
            namespace: head.namespace.as_deref().unwrap_or_default().into(),
            name: head.name.as_str().into(),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&*self.namespace, &*self.name) {
            (_, "") => f.write_str("without a name"),
            ("", name) => f.write_str(name),
            (namespace, name) => write!(f, "{namespace}/{name}"),
        }
    }
}
