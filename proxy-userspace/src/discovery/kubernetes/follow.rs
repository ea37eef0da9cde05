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
use super::resource::{Object, Resource, Sensible};
use crate::config::Kubernetes;

/// How long a server may keep a watch, in seconds. A quarter less at random: they would all end together.
const WATCH_SECONDS: u64 = 360;

/// Pages of a list; more than any cluster has, and an end for a server that never comes to one.
const PAGES: usize = 10_000;

/// What is told of a resource.
#[derive(Debug)]
pub(super) enum News {
    /// A list begins, its first page being here. One that breaks off is begun again, without a word between.
    Begin(Resource),
    /// An object is there, or is another now.
    Set(Box<Object>),
    /// An object is there and makes no sense: what was known of it stays.
    Senseless(Resource, Name),
    /// An object is gone.
    Gone(Resource, Name),
    /// The list is complete: what it did not have is gone.
    Complete(Resource),
    /// It may not be listed, so nobody need wait for it.
    Denied(Resource),
}

/// What an object is called: its namespace, empty for those of the whole cluster, and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

/// What follows a resource.
pub(super) struct Follower {
    pub(super) resource: Resource,
    pub(super) settings: Arc<Kubernetes>,
    pub(super) node: Arc<str>,
    pub(super) access: Arc<Access>,
    pub(super) health: Arc<Health>,
    pub(super) news: mpsc::Sender<News>,
}

/// Nobody takes the news any more.
#[derive(Debug)]
pub(super) struct Unheard;

/// How a step ended, unless nobody cares.
type Ended = Result<End, Unheard>;

impl Follower {
    /// Follows the resource until nobody takes the news.
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
            // None of them is known from now on.
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

    /// Every page of a list, and the version it is of.
    async fn pages(&self) -> Result<Result<String, Failure>, Unheard> {
        let mut from: Option<String> = None;
        let mut senseless = Vec::new();
        let mut count = 0;
        for _ in 0..PAGES {
            let request = self.resource.list(&self.node, from.as_deref());
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
                // Not before: a server may take long to begin, and meanwhile everything is as it was.
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
                // Numbers that are none are all that is found only now.
                let item = serde_json::from_str(item.get()).unwrap_or_default();
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

    /// How many objects are followed at most, if there is a bound.
    fn most(&self) -> Option<usize> {
        (self.resource == Resource::Nodes).then_some(self.settings.nodes)
    }

    async fn page(&self, request: http::Request<kube::client::Body>) -> Result<BytesMut, Failure> {
        call::page(&self.access.client().await?, request, self.settings.read_timeout).await
    }

    async fn watch(&self, version: String, rng: &mut fastrand::Rng) -> Ended {
        self.health.counts(self.resource).watches.inc();
        let mut at = At { number: version.parse().ok(), version };
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
                // No trouble yet: servers promise no bookmarks, and one that has seen no change of a resource since it
                // started sends none.
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
        let request = self.resource.watch(&self.node, version, seconds);
        let client = self.access.client().await?;
        call::send(&client, request, self.settings.read_timeout).await.map(Lines::from_response)
    }

    /// Why nothing is heard of a watch, unless nothing happens: the server does not answer, or was restored from a backup, and
    /// waits without a word until its versions get to the watch's again.
    async fn why_silent(&self, at: &At) -> Option<Failure> {
        let body = match self.page(self.resource.probe(&self.node)).await {
            Ok(body) => body,
            Err(failure) => return Some(failure),
        };
        match Page::from_body(&body) {
            Ok(page) if at.is_after(&page.metadata.resource_version) => Some(Failure::Gone),
            Ok(_) => None,
            Err(garbage) => Some(garbage),
        }
    }

    /// Takes an event in.
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

    /// Tells of an object; its name if something is wrong with it.
    async fn set(&self, object: Value) -> Result<Option<String>, Unheard> {
        let name = Name::from_head(&Head::from_object(&object));
        let shown = name.to_string();
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

/// How far a watch has got.
struct At {
    version: String,
    /// The version as the number it is on every server there is; opaque ones are not compared.
    number: Option<u64>,
}

impl At {
    /// Whether it got further than a server whose newest version is this.
    fn is_after(&self, newest: &str) -> bool {
        matches!((self.number, newest.parse::<u64>().ok()), (Some(at), Some(newest)) if newest < at)
    }

    /// Takes note of an event's version. Events come in the order of their versions; when one does not, what came before
    /// it may have been lost or be out of date, and only a list can tell.
    fn advance(&mut self, version: Option<&str>) -> Result<(), Failure> {
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
