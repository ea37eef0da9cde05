//! Dtabs that are kept in the cluster: `Dtab` objects and keys of ConfigMaps, each listed and then watched.
//!
//! Of each the last good dtab stays in force, whatever becomes of the object: an edit that cannot be read, an object that
//! is deleted, a server that does not answer. What can be read is put in force at once, as linkerd did, and then judged
//! ([`judge`]): entries that lead nowhere or in a circle are warnings. What is wrong is said until it is right again: in
//! the log, in metrics, in the detail of `/ready`, in an Event, and in the status of a `Dtab` ([`report`]).
//!
//! [`DtabEditor`] reads and writes single objects, for `weir dtab`.

mod edit;
mod edit_error;
mod follow;
mod judge;
mod object;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use edit::{DtabEditor, DtabObject, NewDtab, Write};
pub use edit_error::EditError;

use super::access::Access;
use super::detour::Detour;
use crate::config::{Interpreter, Kubernetes, Settings};
use crate::domain::dtab::Dtab;
use crate::telemetry::Counter;

/// What is known of one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// The last good dtab; none before the first.
    pub dtab: Option<Arc<Dtab>>,
    /// Whether the server has answered at all.
    pub known: bool,
    /// Why the object as it is now is not in force.
    pub problem: Option<String>,
    /// The text that `problem` is about.
    wrong: Option<object::TextHash>,
    /// Why the object cannot be followed now; what was known stays in force.
    pub failure: Option<String>,
    /// What of `dtab` can never be bound, with place and cure; until it is judged, what was found in the one before.
    pub warnings: Arc<[String]>,
    /// Whether it is judged.
    is_judged: bool,
    /// The object that says so, if there is one.
    object: Option<report::Object>,
}

/// All of them.
pub type Dtabs = BTreeMap<Interpreter, Stored>;

/// Follows the dtabs that are wanted.
#[derive(Debug)]
pub struct DtabKeeper {
    wanted: watch::Sender<Arc<BTreeSet<Interpreter>>>,
    known: watch::Sender<Dtabs>,
    /// The labels of the routers that read them, for the log.
    readers: Mutex<BTreeMap<Interpreter, String>>,
    /// What the dtabs are judged by: the routers that read them, and their namers.
    settings: watch::Sender<Arc<Settings>>,
    /// Whoever judges: one at a time.
    judging: Arc<Semaphore>,
    /// Edits that were put into force.
    pub applied: Counter,
    /// Edits that were not.
    pub rejected: Counter,
}

impl Default for DtabKeeper {
    fn default() -> Self {
        Self {
            wanted: watch::Sender::default(),
            known: watch::Sender::default(),
            readers: Mutex::default(),
            settings: watch::Sender::default(),
            judging: Arc::new(Semaphore::new(1)),
            applied: Counter::default(),
            rejected: Counter::default(),
        }
    }
}

impl DtabKeeper {
    /// Judges the dtabs by these settings from now on.
    pub fn judge_by(&self, settings: &Settings) {
        self.settings.send_if_modified(|now| {
            let differs = **now != *settings;
            if differs {
                *now = Arc::new(settings.clone());
            }
            differs
        });
    }

    /// Follows these from now on, each with the labels of its routers, if they have any. What is known of others is
    /// forgotten.
    pub fn want(&self, readers: BTreeMap<Interpreter, String>) {
        let wanted: BTreeSet<_> = readers.keys().cloned().collect();
        *self.readers.lock() = readers;
        self.known.send_if_modified(|known| {
            let before = known.len();
            known.retain(|it, _| wanted.contains(it));
            let mut differs = known.len() != before;
            for it in &wanted {
                if !known.contains_key(it) {
                    known.insert(it.clone(), Stored::default());
                    differs = true;
                }
            }
            differs
        });
        self.wanted.send_if_modified(|now| {
            let differs = **now != wanted;
            if differs {
                *now = Arc::new(wanted);
            }
            differs
        });
    }

    /// The labels of the routers that read it, if they have any.
    fn readers(&self, which: &Interpreter) -> Option<String> {
        self.readers.lock().get(which).filter(|labels| !labels.is_empty()).cloned()
    }

    /// What is known of them.
    pub fn known(&self) -> watch::Receiver<Dtabs> {
        self.known.subscribe()
    }

    /// Waits until the server has answered for each, for `limit` at most.
    pub async fn known_within(&self, limit: Duration) {
        let mut known = self.known();
        let all = async {
            while !known.borrow_and_update().values().all(|stored| stored.known || stored.failure.is_some()) {
                let _ = known.changed().await;
            }
        };
        let _ = timeout(limit, all).await;
    }

    /// Changes what is known of one, if it is still wanted and differs then.
    fn update(&self, which: &Interpreter, change: impl FnOnce(&mut Stored)) {
        self.known.send_if_modified(|known| {
            let Some(stored) = known.get_mut(which) else { return false };
            let before = stored.clone();
            change(stored);
            *stored != before
        });
    }

    /// Follows the objects that the current settings name, until shutdown.
    ///
    /// # Errors
    ///
    /// A follower ended, which never happens by itself.
    pub(super) async fn follow(
        self: Arc<Self>,
        mut settings: watch::Receiver<Arc<Kubernetes>>,
        detour: Arc<Detour>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut wanted = self.wanted.subscribe();
        loop {
            let (now, which) = (settings.borrow_and_update().clone(), wanted.borrow_and_update().clone());
            let access = Arc::new(Access::new((*now).clone(), detour.clone()));
            let mut followers = JoinSet::new();
            for which in which.iter() {
                let (keeper, which) = (self.clone(), which.clone());
                let (settings, access) = (now.clone(), access.clone());
                followers.spawn(judge::run(which.clone(), keeper.clone()));
                followers.spawn(report::run(which.clone(), keeper.clone(), access.clone(), now.jitter));
                followers.spawn(follow::Follower { which, settings, access, keeper }.run());
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(ended) = followers.join_next() => match ended {
                    Ok(()) => bail!("a follower of dtabs ended"),
                    Err(panicked) => bail!("a follower of dtabs ended: {panicked}"),
                },
                // The senders live as long as the cluster.
                Ok(()) = settings.changed() => {}
                Ok(()) = wanted.changed() => {}
            }
        }
    }
}
