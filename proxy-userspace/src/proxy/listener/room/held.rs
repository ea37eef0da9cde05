//! What one holder has of a listener.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Place;
use crate::proxy::holders::{Holder, Stranger};
use crate::transport::{Activity, Phase};

/// When the connections of a holder are looked through, one in so many is noted to be the next: a look costs time in
/// proportion to their number.
const PART: usize = 64;

/// What the connections of one holder have in common.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) holder: Arc<Holder>,
    /// See [`Place::is_short_of_room`].
    pub(super) short: AtomicBool,
}

/// Whom a connection is charged to: another one, once the pod of its client becomes known.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    accounts: Arc<Accounts>,
    /// Its client, as long as that is no known pod.
    pub(super) stranger: Option<Stranger>,
}

/// A connection moves once: that of a client that was no known pod, or of one that is another one than its address says. So each request can read the account for the
/// cost of a load.
#[derive(Debug)]
struct Accounts {
    first: Arc<Account>,
    known: OnceLock<Arc<Account>>,
}

impl Charge {
    pub(super) fn new(account: Arc<Account>, stranger: Option<Stranger>) -> Self {
        Self { accounts: Arc::new(Accounts { first: account, known: OnceLock::new() }), stranger }
    }

    fn account(&self) -> &Account {
        self.accounts.known.get().unwrap_or(&self.accounts.first)
    }

    pub(super) fn holder(&self) -> &Arc<Holder> {
        &self.account().holder
    }

    pub(super) fn is_short(&self) -> bool {
        self.account().short.load(Ordering::Relaxed)
    }

    /// Whether it was moved.
    pub(super) fn has_moved(&self) -> bool {
        self.accounts.known.get().is_some()
    }

    /// Moves it to the account of a known pod, once.
    pub(super) fn move_to(&mut self, account: Arc<Account>) {
        let moved = self.accounts.known.set(account);
        debug_assert!(moved.is_ok(), "a known pod's connection has no stranger");
        self.stranger = None;
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) activity: Activity,
    pub(super) charge: Charge,
}

/// A connection that waits.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) number: u64,
    pub(super) tell: oneshot::Sender<Place>,
    pub(super) charge: Charge,
}

/// The connections of a holder.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) account: Arc<Account>,
    /// Those that are open, by number.
    pub(super) open: HashMap<u64, Open>,
    /// Those that wait, the first one first.
    pub(super) waiting: VecDeque<Queued>,
    /// Open ones that were used least recently when that was looked up; the last one is next.
    least_used: Vec<u64>,
    looked: Option<Instant>,
}

/// How much a connection is needed: the last one goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A head arrives, an exchange runs, or bytes are carried.
    InUse,
    /// An exchange runs, and its client has closed its sending side.
    HalfClosed,
    /// Between two requests.
    Idle,
    /// As [`Rank::HalfClosed`], and nothing passes.
    Silent,
}

impl Rank {
    pub(super) fn of(activity: &Activity) -> Self {
        match activity.has_ended() && activity.has_exchange() {
            true if activity.is_likely_left() => Self::Silent,
            true => Self::HalfClosed,
            false if activity.phase() == Phase::Idle => Self::Idle,
            false => Self::InUse,
        }
    }
}

impl Held {
    pub(super) fn new(holder: Arc<Holder>) -> Self {
        Self {
            account: Arc::new(Account { holder, short: AtomicBool::new(false) }),
            open: HashMap::new(),
            waiting: VecDeque::new(),
            least_used: Vec::new(),
            looked: None,
        }
    }

    /// Takes out the connection that is needed least, and of several such the one that was used least recently.
    pub(super) fn least_used(&mut self) -> Option<Activity> {
        if let Some(activity) = self.noted() {
            return Some(activity);
        }
        self.look();
        let number = self.least_used.pop()?;
        self.open.remove(&number).map(|it| it.activity)
    }

    /// Its connections that may turn out to be a pod's, by number.
    pub(super) fn strangers(&self) -> impl Iterator<Item = (u64, &Stranger)> {
        let open = self.open.iter().map(|(number, it)| (*number, &it.charge));
        let all = open.chain(self.waiting.iter().map(|it| (it.number, &it.charge)));
        all.filter_map(|(number, charge)| Some((number, charge.stranger.as_ref()?)))
    }

    pub(super) fn holder(&self) -> &Arc<Holder> {
        &self.account.holder
    }

    /// The next one that was noted and has not been used since.
    fn noted(&mut self) -> Option<Activity> {
        let since = self.looked?.elapsed();
        while let Some(number) = self.least_used.pop() {
            if self.open.get(&number).is_some_and(|it| it.activity.lasted() >= since) {
                return self.open.remove(&number).map(|it| it.activity);
            }
        }
        None
    }

    /// Notes the connections that are needed least.
    fn look(&mut self) {
        type Order = Reverse<(Rank, Duration)>;
        let order = |activity: &Activity| Reverse((Rank::of(activity), activity.lasted()));
        let mut all: Vec<(Order, u64)> =
            self.open.iter().map(|(number, it)| (order(&it.activity), *number)).collect();
        let wanted = all.len().div_ceil(PART);
        if wanted < all.len() {
            all.select_nth_unstable(wanted);
            all.truncate(wanted);
        }
        all.sort_unstable_by(|one, other| other.cmp(one));
        self.least_used = all.into_iter().map(|it| it.1).collect();
        self.looked = Some(Instant::now());
    }
}
