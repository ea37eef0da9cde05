//! The room of a listener: how many connections may be open at the same time, and whose.
//!
//! It is shared fairly among the clients (`domain/shares`), first by namespace and then by pod. While it is not full, one
//! may have as much of it as it wants. When it is full, a newcomer whose pod is below its share gets room at once: the
//! pod most above its share loses the connection that was used least recently. Any other newcomer waits. Then connections
//! that nobody needs at the moment are asked to leave (`rounds`), of its own pod and of those that have more than it, and
//! who has the least gets what becomes free.
//!
//! The limit may change at run time. A lower limit closes nothing: it takes effect once enough connections have ended.

mod admission;
mod held;
mod rounds;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::admission::{Admission, Kept};
use self::held::{Charge, Held, Open, Queued};
pub(super) use self::rounds::IN_VAIN;
pub(super) use self::waiting::Waiting;
use crate::domain::shares::{Ledger, divide};
use crate::proxy::holders::{Group, Holder, HolderId, Stranger};
use crate::transport::Activity;

/// The open connections of a listener, and those that wait.
#[derive(Debug)]
pub(super) struct Room(Mutex<State>);

#[derive(Debug)]
struct State {
    ledger: Ledger<Group, HolderId>,
    held: HashMap<HolderId, Held>,
    /// The places that are kept, the oldest one first.
    kept: VecDeque<Kept>,
    /// How many wait, and how many may.
    waiting: usize,
    most_waiting: usize,
    /// Whether a task makes rounds, and when the next one may be.
    has_rounds: bool,
    next_round: Option<Instant>,
    next: u64,
}

/// The place of one open connection, released on drop.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    charge: Charge,
    number: u64,
    /// What the connection does.
    pub(super) activity: Activity,
    /// Whether another connection was closed for it. That one's pod had more than its share.
    pub(super) has_displaced: bool,
    /// Whether it was taken from another connection, now or earlier: then it is kept for a while.
    is_taken: bool,
}

/// What becomes of a newcomer.
pub(super) enum Entry {
    /// It has room.
    In(Place),
    /// It has to wait.
    Wait(Waiting),
    /// As many wait as may.
    Full,
}

/// What a pod, or an address, has of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub holder: Box<str>,
    /// Its open connections.
    pub open: usize,
    /// Those that wait.
    pub waiting: usize,
    /// How many it could have now, if it wanted them.
    pub share: usize,
}

/// What each holder wants, with its group.
type Demands = Vec<(Group, u64)>;

/// A place that was given to one that waited. It is handed over outside the lock: if nobody takes it, it is dropped, and
/// that locks again.
struct Grant {
    tell: oneshot::Sender<Place>,
    place: Place,
    displaced: Option<Activity>,
}

impl Grant {
    fn hand_over(self) {
        if let Some(displaced) = self.displaced {
            displaced.displace();
        }
        // It has left: the place goes to the next one.
        let _ = self.tell.send(self.place);
    }
}

impl Room {
    /// A room of size 0; its size is set later.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            ledger: Ledger::new(0),
            held: HashMap::new(),
            kept: VecDeque::new(),
            waiting: 0,
            most_waiting: 0,
            has_rounds: false,
            next_round: None,
            next: 0,
        })))
    }

    /// Sets how many connections may be open, now or as soon as enough have ended, and how many may wait.
    pub(super) fn set(self: &Arc<Self>, open: usize, waiting: usize) {
        let mut state = self.0.lock();
        state.ledger.set_limit(open);
        state.most_waiting = waiting;
        let granted = self.grant(&mut state, Instant::now());
        drop(state);
        granted.into_iter().for_each(Grant::hand_over);
    }

    /// Whether the next one finds no free place.
    pub(super) fn is_full(&self) -> bool {
        self.0.lock().ledger.is_full()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().waiting
    }

    /// A connection of `holder` comes at `now`: of this client, if that may turn out to be a pod.
    pub(super) fn enter(
        self: &Arc<Self>,
        holder: &Arc<Holder>,
        stranger: Option<Stranger>,
        now: Instant,
    ) -> Entry {
        let mut state = self.0.lock();
        if let Some(Admission { displaced, is_taken }) = state.admit(holder, now) {
            let charge = Charge::new(state.of(holder).account.clone(), stranger);
            let mut place = self.take(&mut state, charge, is_taken, now);
            drop(state);
            if let Some(displaced) = displaced {
                place.has_displaced = true;
                displaced.displace();
            }
            return Entry::In(place);
        }
        match state.wait(holder, stranger) {
            Some((number, charge, told)) => {
                drop(state);
                Entry::Wait(Waiting::new(self.clone(), charge, number, told))
            }
            None => Entry::Full,
        }
    }

    /// One more place.
    fn take(self: &Arc<Self>, state: &mut State, charge: Charge, is_taken: bool, now: Instant) -> Place {
        let (number, holder) = (state.number(), charge.holder().clone());
        state.ledger.add(&holder.group, holder.id);
        let activity = Activity::new(now);
        let open = Open { activity: activity.clone(), charge: charge.clone() };
        state.of(&holder).open.insert(number, open);
        Place { room: self.clone(), charge, number, activity, has_displaced: false, is_taken }
    }

    /// Gives places to those that wait: the one whose pod has the least is next.
    fn grant(self: &Arc<Self>, state: &mut State, now: Instant) -> Vec<Grant> {
        let mut granted = Vec::new();
        while let Some(holder) = state.next_waiting()
            && let Some(Admission { displaced, is_taken }) = state.admit(&holder, now)
            && let Some(Queued { tell, charge, .. }) = state.pop_waiting(holder.id)
        {
            let mut place = self.take(state, charge, is_taken, now);
            place.has_displaced = displaced.is_some();
            granted.push(Grant { tell, place, displaced });
        }
        granted
    }

    /// Calls `with` for each open connection, without the lock.
    pub(super) fn visit(&self, mut with: impl FnMut(&Arc<Holder>, &Activity)) {
        let holders: Vec<HolderId> = self.0.lock().held.keys().copied().collect();
        let mut open = Vec::new();
        for id in holders {
            let state = self.0.lock();
            let Some(held) = state.held.get(&id) else { continue };
            open.extend(held.open.values().map(|it| it.activity.clone()));
            let holder = held.holder().clone();
            drop(state);
            open.drain(..).for_each(|activity| with(&holder, &activity));
        }
    }

    /// Those that have the most, at most `most` of them.
    pub(super) fn shares(&self, most: usize) -> Vec<Share> {
        // Computed without the lock.
        let (limit, mut demands, listed) = self.0.lock().demands(most);
        let share = |(at, mut share): (usize, Share)| {
            // It could want all.
            let wanted = demands.get_mut(at).map(|it| std::mem::replace(&mut it.1, limit));
            let could = divide(limit, &demands).get(at).copied().unwrap_or(0);
            if let (Some(it), Some(wanted)) = (demands.get_mut(at), wanted) {
                it.1 = wanted;
            }
            share.share = usize::try_from(could).unwrap_or(usize::MAX);
            share
        };
        listed.into_iter().map(share).collect()
    }
}

impl State {
    /// The limit, what each holder wants, and those that have the most with their places in that list.
    fn demands(&self, most: usize) -> (u64, Demands, Vec<(usize, Share)>) {
        let wanted = |held: &Held| (held.open.len() + held.waiting.len()) as u64;
        let demands = self.held.values().map(|held| (held.holder().group.clone(), wanted(held))).collect();
        let listed = self.ledger.from_most().take(most).filter_map(|(_, id, used)| {
            let (holder, waiting) =
                self.held.get(&id).map(|it| (it.holder().name.clone(), it.waiting.len()))?;
            let at = self.held.keys().position(|other| *other == id)?;
            Some((at, Share { holder, open: used.own, waiting, share: 0 }))
        });
        (self.ledger.limit() as u64, demands, listed.collect())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn of(&mut self, holder: &Arc<Holder>) -> &mut Held {
        self.held.entry(holder.id).or_insert_with(|| Held::new(holder.clone()))
    }

    /// Takes the place of the connection of this holder that was used least recently.
    fn displace(&mut self, from: HolderId) -> Option<Activity> {
        let held = self.held.get_mut(&from)?;
        let displaced = held.least_used()?;
        self.ledger.remove(&held.account.holder.group, from);
        self.forget(from);
        Some(displaced)
    }

    /// Forgets a holder that has nothing and wants nothing.
    fn forget(&mut self, id: HolderId) {
        if self.held.get(&id).is_some_and(|held| held.open.is_empty() && held.waiting.is_empty()) {
            self.held.remove(&id);
        }
    }
}

impl Place {
    /// Whose it is.
    pub(super) fn holder(&self) -> &Arc<Holder> {
        self.charge.holder()
    }

    /// Whether somebody waits for this place, so that its connection ends with its current answers.
    pub(super) fn is_short_of_room(&self) -> bool {
        self.charge.is_short()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.room.0.lock();
        let (holder, now) = (self.charge.holder().clone(), Instant::now());
        let held = state.held.get_mut(&holder.id);
        // One that was displaced has lost its place already.
        if held.and_then(|held| held.open.remove(&self.number)).is_none() {
            return;
        }
        state.ledger.remove(&holder.group, holder.id);
        state.forget(holder.id);
        if self.is_taken {
            state.keep(holder, now);
        }
        let granted = self.room.grant(&mut state, now);
        drop(state);
        granted.into_iter().for_each(Grant::hand_over);
    }
}
