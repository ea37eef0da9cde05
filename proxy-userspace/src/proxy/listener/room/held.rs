//! What one holder has of a listener.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Place;
use crate::proxy::holders::Holder;
use crate::transport::{Activity, Phase};

/// When the connections of a holder are looked through, one in so many is noted to be the next: a look costs time in
/// proportion to their number.
const PART: usize = 64;

/// The connections of a holder.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) holder: Arc<Holder>,
    /// See [`Place::is_short_of_room`].
    pub(super) short: Arc<AtomicBool>,
    /// Those that are open, by number.
    pub(super) open: HashMap<u64, Activity>,
    /// Those that wait, the first one first.
    pub(super) waiting: VecDeque<(u64, oneshot::Sender<Place>)>,
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
            holder,
            short: Arc::default(),
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
        self.open.remove(&number)
    }

    /// The next one that was noted and has not been used since.
    fn noted(&mut self) -> Option<Activity> {
        let since = self.looked?.elapsed();
        while let Some(number) = self.least_used.pop() {
            if self.open.get(&number).is_some_and(|activity| activity.lasted() >= since) {
                return self.open.remove(&number);
            }
        }
        None
    }

    /// Notes the connections that are needed least.
    fn look(&mut self) {
        type Order = Reverse<(Rank, Duration)>;
        let order = |activity: &Activity| Reverse((Rank::of(activity), activity.lasted()));
        let mut all: Vec<(Order, u64)> = self.open.iter().map(|(number, it)| (order(it), *number)).collect();
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
