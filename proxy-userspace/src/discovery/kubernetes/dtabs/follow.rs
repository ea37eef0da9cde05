//! One object, listed and then watched for as long as it is wanted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use http::header::{ACCEPT, HeaderValue};
use kube::client::Body;
use serde_json::Value;
use tokio::time::sleep;

use super::{DtabKeeper, object, report};
use crate::config::{DtabStore, Interpreter, Kubernetes};
use crate::discovery::kubernetes::access::Access;
use crate::discovery::kubernetes::call::{self, Event, Head, Lines, Page};
use crate::discovery::kubernetes::failure::Failure;
use crate::discovery::kubernetes::follow::At;
use crate::discovery::kubernetes::pace::{End, Pace, Step};
use crate::discovery::kubernetes::shallow;

/// Maximum duration of a watch, in seconds; reduced by up to a quarter at random.
const WATCH_SECONDS: u64 = 360;

/// Follows one object.
pub(super) struct Follower {
    pub(super) which: Interpreter,
    pub(super) settings: Arc<Kubernetes>,
    pub(super) access: Arc<Access>,
    pub(super) keeper: Arc<DtabKeeper>,
}

impl Follower {
    pub(super) async fn run(self) {
        let (mut rng, mut pace, mut step) = (fastrand::Rng::new(), Pace::default(), Step::List);
        loop {
            let end = match step {
                Step::List => self.list().await,
                Step::Watch(version) => self.watch(version, &mut rng).await,
            };
            if let End::NotListed(failure) | End::Watched { why: Some(failure), .. } = &end {
                if *failure != Failure::Gone {
                    self.keeper.update(&self.which, |stored| stored.failure = Some(failure.to_string()));
                }
                self.access.failed(failure).await;
            }
            let pause;
            (step, pause) = pace.after(end, self.settings.jitter, &mut rng);
            sleep(pause).await;
        }
    }

    async fn list(&self) -> End {
        match self.newest().await {
            Ok((version, object)) => {
                self.take(object.as_ref());
                End::Listed(version)
            }
            Err(failure) => End::NotListed(failure),
        }
    }

    /// The version of the list, and the object in it, if there is one.
    async fn newest(&self) -> Result<(String, Option<Value>), Failure> {
        let request = self.request(&[]);
        let body = call::page(&self.access.client().await?, request, self.settings.read_timeout).await?;
        let Page { metadata, items } = Page::from_body(&body)?;
        self.access.reached();
        let item = items.unwrap_or_default().first().map(|item| shallow::parse(item.get()));
        let item = item.transpose().map_err(|error| Failure::Garbage(error.to_string()))?;
        Ok((metadata.resource_version, item))
    }

    async fn watch(&self, version: String, rng: &mut fastrand::Rng) -> End {
        let seconds = WATCH_SECONDS - rng.u64(..WATCH_SECONDS / 4);
        let (asked, begun) = (Duration::from_secs(seconds), Instant::now());
        let mut lines = match self.open(&version, seconds).await {
            Ok(lines) => lines,
            Err(why) => return End::Watched { version, life: Duration::ZERO, asked, why: Some(why) },
        };
        self.access.reached();
        self.keeper.update(&self.which, |stored| stored.failure = None);
        let patience = self.settings.silence.min(asked + self.settings.read_timeout);
        let mut at = At::new(version);
        let (why, asked) = loop {
            match lines.next(patience).await {
                Ok(Some(event)) => {
                    if let Err(why) = self.event(event, &mut at) {
                        break (Some(why), asked);
                    }
                }
                Ok(None) => break (None, asked),
                // One object may not change for long.
                Err(Failure::Silent(_)) => break (self.why_silent(&at).await, begun.elapsed()),
                Err(why) => break (Some(why), asked),
            }
        };
        End::Watched { version: at.version, life: begun.elapsed(), asked, why }
    }

    fn event(&self, event: Event, at: &mut At) -> Result<(), Failure> {
        if event.kind == "ERROR" {
            return Err(Failure::of_event(event.object));
        }
        at.advance(Head::from_object(&event.object).version.as_deref())?;
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => self.take(Some(&event.object)),
            "DELETED" => self.take(None),
            _ => {}
        }
        Ok(())
    }

    /// Why a watch is silent, unless nothing happens: the server does not answer, or was restored from a backup and sends
    /// nothing until its versions reach the watch's again.
    async fn why_silent(&self, at: &At) -> Option<Failure> {
        match self.newest().await {
            Ok((version, _)) => at.is_after(&version).then_some(Failure::Gone),
            Err(failure) => Some(failure),
        }
    }

    async fn open(&self, version: &str, seconds: u64) -> Result<Lines, Failure> {
        let seconds = seconds.to_string();
        let request = self.request(&[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", &seconds),
            ("resourceVersion", version),
        ]);
        let client = self.access.client().await?;
        call::send(&client, request, self.settings.read_timeout).await.map(Lines::from_response)
    }

    /// Takes over what the object says now; `None` if there is none.
    fn take(&self, object: Option<&Value>) {
        let which = &self.which;
        let read = match object {
            Some(object) => object::read(which, object).map(Arc::new),
            None => Err("there is no such object (create it, or correct `outgoing.interpreter`)".to_owned()),
        };
        let text = object.filter(|_| read.is_err()).map(|object| object::text_hash(which, object));
        let (mut news, mut has_one) = (None, false);
        self.keeper.update(which, |stored| {
            (stored.known, stored.failure, has_one) = (true, None, stored.dtab.is_some());
            match &read {
                Ok(dtab) => {
                    let same = stored.dtab.as_ref().is_some_and(|before| before.entries == dtab.entries);
                    if !same || stored.problem.is_some() {
                        news = Some(None);
                    }
                    stored.problem = None;
                    if !same {
                        (stored.dtab, stored.is_judged) = (Some(dtab.clone()), false);
                    }
                }
                Err(why) => {
                    // Two texts may be wrong in the same way. A change of the status brings the same one again.
                    if stored.problem.as_ref() != Some(why) || stored.wrong != text {
                        news = Some(Some(why.clone()));
                    }
                    (stored.problem, stored.wrong) = (Some(why.clone()), text);
                }
            }
            let now = object.map(report::Object::of);
            stored.object = match (stored.object.take(), now) {
                (Some(before), Some(now)) if news.is_none() => Some(before.with_status_of(now)),
                (_, now) => now,
            };
        });
        let router = self.keeper.readers(which);
        let router = router.as_deref();
        match news {
            None => {}
            Some(None) => {
                self.keeper.applied.inc();
                tracing::info!(dtab = %which, router, "the dtab of the cluster is in force");
            }
            Some(Some(why)) => {
                self.keeper.rejected.inc();
                let now = if has_one { "the last good one stays" } else { "there was no good one before" };
                tracing::error!(dtab = %which, router, %why, "the dtab of the cluster is not in force; {now}");
            }
        }
    }

    fn request(&self, parameters: &[(&str, &str)]) -> Request<Body> {
        let Interpreter { store, namespace, name } = &self.which;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("fieldSelector", &format!("metadata.name={name}"));
        query.extend_pairs(parameters);
        let path = match store {
            DtabStore::Dtab => format!("/apis/l5d.io/v1alpha1/namespaces/{namespace}/dtabs"),
            DtabStore::ConfigMap(_) => format!("/api/v1/namespaces/{namespace}/configmaps"),
        };
        let mut request = Request::new(Body::empty());
        *request.uri_mut() =
            format!("{path}?{}", query.finish()).parse().expect("an encoded query makes a URI");
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        request
    }
}
