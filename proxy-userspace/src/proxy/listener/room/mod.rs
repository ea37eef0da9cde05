//! The room of a listener: how many connections may be open at the same time, and whose.
//!
//! It is shared fairly among the clients (`domain/shares`), first by namespace and then by pod. While it is not full, one
//! may have as much of it as it wants. When it is full, a newcomer whose pod is below its share gets room at once: the
//! pod most above its share loses the connection that was used least recently. Any other newcomer waits. Then connections
//! that nobody needs at the moment are asked to leave (`rounds`), of its own pod and of those that have more than it, and
//! who has the least gets what becomes free.
//!
//! The limit may change at run time. A lower limit closes nothing: it takes effect once enough connections have ended.

mod held;
mod rounds;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::held::Held;
pub(super) use self::rounds::IN_VAIN;
pub(super) use self::waiting::Waiting;
use crate::domain::shares::{Ledger, divide};
use crate::proxy::holders::{Group, Holder, HolderId};
use crate::transport::Activity;

/// The open connections of a listener, and those that wait.
#[derive(Debug)]
pub(super) struct Room(Mutex<State>);

#[derive(Debug)]
struct State {
    ledger: Ledger<Group, HolderId>,
    held: HashMap<HolderId, Held>,
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
    /// Whose it is.
    pub(super) holder: Arc<Holder>,
    number: u64,
    /// What the connection does.
    pub(super) activity: Activity,
    /// Whether connections of its holder are to end with their current answers.
    short: Arc<AtomicBool>,
}

/// What becomes of a newcomer.
pub(super) enum Entry {
    /// It has room. Where another connection was closed for it, that one's pod had more than its share.
    In { place: Place, displaced: bool },
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

/// A place that was given to one that waited. It is handed over outside the lock: if nobody takes it, it is dropped, and
/// that locks again.
struct Grant(oneshot::Sender<Place>, Place);

impl Grant {
    fn hand_over(self) {
        // It has left: the place goes to the next one.
        let _ = self.0.send(self.1);
    }
}

impl Room {
    /// Room for nobody yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            ledger: Ledger::new(0),
            held: HashMap::new(),
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
        let granted = self.grant(&mut state);
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

    /// A connection of `holder` comes at `now`.
    pub(super) fn enter(self: &Arc<Self>, holder: &Arc<Holder>, now: Instant) -> Entry {
        let mut state = self.0.lock();
        if !state.ledger.is_full() {
            return Entry::In { place: self.take(&mut state, holder, now), displaced: false };
        }
        let from = state.ledger.gives_way(&holder.group, holder.id).map(|(_, from)| from);
        if let Some(displaced) = from.and_then(|from| state.displace(from)) {
            let place = self.take(&mut state, holder, now);
            drop(state);
            displaced.displace();
            return Entry::In { place, displaced: true };
        }
        match state.wait(holder) {
            Some((number, told)) => {
                drop(state);
                Entry::Wait(Waiting::new(self.clone(), holder.clone(), number, told))
            }
            None => Entry::Full,
        }
    }

    /// One more place, for `holder`.
    fn take(self: &Arc<Self>, state: &mut State, holder: &Arc<Holder>, now: Instant) -> Place {
        let number = state.number();
        state.ledger.add(&holder.group, holder.id);
        let activity = Activity::new(now);
        let held = state.of(holder);
        held.open.insert(number, activity.clone());
        Place { room: self.clone(), holder: holder.clone(), number, activity, short: held.short.clone() }
    }

    /// Gives free places to those that wait: the one whose pod has the least is next.
    fn grant(self: &Arc<Self>, state: &mut State) -> Vec<Grant> {
        let mut granted = Vec::new();
        while !state.ledger.is_full()
            && let Some((holder, tell)) = state.next_waiting()
        {
            granted.push(Grant(tell, self.take(state, &holder, Instant::now())));
        }
        granted
    }

    /// Those that have the most, at most `most` of them.
    pub(super) fn shares(&self, most: usize) -> Vec<Share> {
        let state = self.0.lock();
        let limit = state.ledger.limit() as u64;
        let wanted = |held: &Held| (held.open.len() + held.waiting.len()) as u64;
        let demands: Vec<(&Group, HolderId, u64)> =
            state.held.iter().map(|(id, held)| (&held.holder.group, *id, wanted(held))).collect();
        let share = |of: HolderId| {
            // It could want all.
            let demands: Vec<_> =
                demands.iter().map(|it| (it.0, if it.1 == of { limit } else { it.2 })).collect();
            let at = state.held.keys().position(|id| *id == of);
            at.and_then(|at| divide(limit, &demands).get(at).copied()).unwrap_or(0)
        };
        let listed = state.ledger.from_most().take(most).filter_map(|(_, id, used)| {
            let held = state.held.get(&id)?;
            Some(Share {
                holder: held.holder.name.clone(),
                open: used.own,
                waiting: held.waiting.len(),
                share: usize::try_from(share(id)).unwrap_or(usize::MAX),
            })
        });
        listed.collect()
    }
}

impl State {
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
        self.ledger.remove(&held.holder.group, from);
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
    /// Whether somebody waits for this place, so that its connection ends with its current answers.
    pub(super) fn is_short_of_room(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.room.0.lock();
        let id = self.holder.id;
        let held = state.held.get_mut(&id);
        // One that was displaced has lost its place already.
        if held.and_then(|held| held.open.remove(&self.number)).is_none() {
            return;
        }
        state.ledger.remove(&self.holder.group, id);
        state.forget(id);
        let granted = self.room.grant(&mut state);
        drop(state);
        granted.into_iter().for_each(Grant::hand_over);
    }
}
