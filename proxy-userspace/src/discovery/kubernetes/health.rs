//! The state of discovery: for readiness, the admin and metrics.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::failure::Failure;
use super::resource::Resource;
use crate::telemetry::Counter;

/// Maximum number of ignored objects that are named; more are only counted.
const NAMED: usize = 100;

/// The state of the connection to the API server, and of its resources.
#[derive(Debug)]
pub struct Health {
    resources: [Mutex<Status>; Resource::ALL.len()],
    /// Counters per resource.
    pub counts: [Counts; Resource::ALL.len()],
    /// Connections made to an endpoint of the API server because its Service did not answer.
    pub by_endpoint: Counter,
    problems: Mutex<BTreeMap<(Resource, String), String>>,
    /// What is wrong with this node's name.
    misnamed: Mutex<Option<String>>,
    changed: watch::Sender<()>,
}

/// The state of a resource.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The current activity.
    pub state: State,
    /// Whether a list was ever complete and its result published.
    pub known: bool,
    /// When the server last responded for it.
    pub contact: Option<Instant>,
    /// The last failure, until a success.
    pub failure: Option<Failure>,
}

/// The current activity for a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Before its first list.
    #[default]
    Waiting,
    /// Its list is being read.
    Listing,
    /// Its changes are being read.
    Watching,
    /// Waiting to retry after a failure.
    Pausing,
}

/// Counters of a resource.
#[derive(Debug, Default)]
pub struct Counts {
    /// Lists started.
    pub lists: Counter,
    /// Watches started.
    pub watches: Counter,
    /// Events of watches, bookmarks included.
    pub events: Counter,
    /// Invalid objects, and invalid endpoints of slices.
    pub ignored: Counter,
    /// Failures, by [`Failure::KINDS`].
    pub failures: [Counter; Failure::KINDS.len()],
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Listing, Self::Watching, Self::Pausing];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Listing => "listing",
            Self::Watching => "watching",
            Self::Pausing => "pausing",
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            resources: Default::default(),
            counts: Default::default(),
            by_endpoint: Counter::default(),
            problems: Mutex::default(),
            misnamed: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Health {
    /// The state of `resource`.
    pub fn status(&self, resource: Resource) -> Status {
        self.resources[resource.index()].lock().clone()
    }

    /// A receiver for changes of [`waits_for`](Self::waits_for) and [`off`](Self::off).
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What weir still needs to become ready, and why it is missing; `None` once it was known.
    pub fn waits_for(&self) -> Option<String> {
        self.waits(ToString::to_string)
    }

    /// The same without texts from the server.
    pub fn waits_for_in_brief(&self) -> Option<String> {
        self.waits(|failure| failure.brief().to_owned())
    }

    fn waits(&self, say: impl Fn(&Failure) -> String) -> Option<String> {
        let (mut waits, mut said) = (Vec::new(), None);
        for resource in Resource::ALL.into_iter().filter(|it| it.is_needed()) {
            let Status { known, failure, .. } = self.status(resource);
            if known {
                continue;
            }
            waits.push(match &failure {
                Some(_) if failure == said => format!("waiting for {resource}: the same"),
                Some(failure) => format!("waiting for {resource}: {}", say(failure)),
                None => format!("waiting for {resource}"),
            });
            said = failure.or(said);
        }
        (!waits.is_empty()).then(|| waits.join("; "))
    }

    /// The problems with objects of `resource`.
    pub fn problems_of(&self, resource: Resource) -> Vec<String> {
        let problems = self.problems.lock();
        let of = problems.iter().filter(|((it, _), _)| *it == resource);
        of.map(|((_, name), why)| format!("{name}: {why}")).collect()
    }

    /// Whether the last attempt to get some of that failed.
    pub fn is_failing(&self) -> bool {
        Resource::ALL.into_iter().filter(|it| it.is_needed()).any(|resource| {
            let Status { known, failure, .. } = self.status(resource);
            !known && failure.is_some()
        })
    }

    /// What is disabled for lack of permission, or because the node's name matches no node.
    pub fn off(&self) -> Option<String> {
        let off = Resource::ALL.into_iter().filter_map(|resource| match self.status(resource).failure {
            Some(failure @ Failure::Forbidden(_)) => {
                Some(format!("{} is off, for {resource} are {failure}", resource.feature()))
            }
            _ => None,
        });
        let off: Vec<_> = off.chain(self.misnamed.lock().clone()).collect();
        (!off.is_empty()).then(|| off.join("; "))
    }

    /// The objects with a problem now, and the reason.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.problems.lock();
        problems.iter().map(|((resource, name), why)| format!("{resource} {name}: {why}")).collect()
    }

    pub(super) fn counts(&self, resource: Resource) -> &Counts {
        &self.counts[resource.index()]
    }

    /// Records a response of the server.
    pub(super) fn contact(&self, resource: Resource) {
        self.resources[resource.index()].lock().contact = Some(Instant::now());
    }

    pub(super) fn set(&self, resource: Resource, state: State) {
        self.resources[resource.index()].lock().state = state;
    }

    /// Records a successful step.
    pub(super) fn well(&self, resource: Resource, state: State) {
        {
            let mut status = self.resources[resource.index()].lock();
            if let Some(failure) = status.failure.take() {
                tracing::info!(%resource, "discovery works again, after: {failure}");
            }
            status.state = state;
            status.contact = Some(Instant::now());
        }
        self.changed.send_replace(());
    }

    /// Sets or clears the problem with the node's name. Logged once.
    pub(super) fn names_node(&self, wrong: Option<String>) {
        let before = std::mem::replace(&mut *self.misnamed.lock(), wrong.clone());
        if before == wrong {
            return;
        }
        match wrong {
            Some(wrong) => tracing::error!("{wrong}"),
            None => tracing::info!("this node is known by its name now"),
        }
        self.changed.send_replace(());
    }

    /// Records that the result of the resource's list was published.
    pub(super) fn known(&self, resource: Resource) {
        let new = !std::mem::replace(&mut self.resources[resource.index()].lock().known, true);
        if new {
            self.changed.send_replace(());
        }
    }

    /// `resource` is no longer followed: removes its status and its problems.
    pub(super) fn forget(&self, resource: Resource) {
        *self.resources[resource.index()].lock() = Status::default();
        self.keep_problems(resource, &[]);
        self.changed.send_replace(());
    }

    /// Records a failed step. Each failure is logged once.
    pub(super) fn failed(&self, resource: Resource, failure: &Failure) {
        self.counts(resource).failures[failure.kind()].inc();
        if *failure == Failure::Gone {
            tracing::info!(%resource, "{failure}; it is listed again");
            return;
        }
        {
            let mut status = self.resources[resource.index()].lock();
            let new = status.failure.as_ref().is_none_or(|before| before.kind() != failure.kind());
            if new {
                let consequence = match status.known {
                    true => "what is known stays in force",
                    false => "nothing is known of it yet",
                };
                tracing::warn!(%resource, "{failure}; {consequence}");
            }
            status.failure = Some(failure.clone());
            status.state = State::Pausing;
        }
        self.changed.send_replace(());
    }

    /// Records that an object is invalid and ignored.
    pub(super) fn ignore(&self, resource: Resource, name: String, why: &str) {
        self.counts(resource).ignored.inc();
        self.report(resource, name, format!("ignored: {why}"));
    }

    /// Records a problem with an object; each is logged once.
    pub(super) fn report(&self, resource: Resource, name: String, why: String) {
        let mut problems = self.problems.lock();
        let full = problems.len() >= NAMED;
        let key = (resource, name);
        if problems.get(&key).is_some_and(|before| *before == why) || full && !problems.contains_key(&key) {
            return;
        }
        tracing::warn!(%resource, name = key.1, "{why}");
        problems.insert(key, why);
    }

    /// Clears the problem of an object that is valid or gone.
    pub(super) fn heed(&self, resource: Resource, name: &str) {
        let mut problems = self.problems.lock();
        if !problems.is_empty() {
            problems.remove(&(resource, name.to_owned()));
        }
    }

    /// At the start of a new list: drops problems of objects that are not in it.
    pub(super) fn keep_problems(&self, resource: Resource, named: &[String]) {
        self.problems.lock().retain(|(of, name), _| *of != resource || named.contains(name));
    }
}
