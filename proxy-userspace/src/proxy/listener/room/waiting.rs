//! Those that wait for room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::{Place, Room, State};
use crate::domain::shares::Used;
use crate::proxy::holders::{Holder, HolderId};

/// A client that waits for room; it gives up its turn on drop.
#[derive(Debug)]
pub(in crate::proxy::listener) struct Waiting {
    room: Arc<Room>,
    holder: Arc<Holder>,
    number: u64,
    pub(super) told: oneshot::Receiver<Place>,
}

impl Waiting {
    pub(super) fn new(
        room: Arc<Room>,
        holder: Arc<Holder>,
        number: u64,
        told: oneshot::Receiver<Place>,
    ) -> Self {
        Self { room, holder, number, told }
    }

    /// Its place, as soon as there is one. `None` if there will be none.
    pub(in crate::proxy::listener) async fn place(mut self) -> Option<Place> {
        self.room.start_rounds();
        (&mut self.told).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.room.0.lock();
        state.give_up(self.holder.id, self.number);
        drop(state);
        // A place that was given to it meanwhile goes to the next one, with the receiver.
    }
}

impl State {
    /// One more of `holder` waits, unless too many do: one holder may have as many as are left for others.
    pub(super) fn wait(&mut self, holder: &Arc<Holder>) -> Option<(u64, oneshot::Receiver<Place>)> {
        let left = self.most_waiting.saturating_sub(self.waiting);
        let own = self.held.get(&holder.id).map_or(0, |held| held.waiting.len());
        if left == 0 || own > left {
            return None;
        }
        let number = self.number();
        let (tell, told) = oneshot::channel();
        self.of(holder).waiting.push_back((number, tell));
        self.waiting += 1;
        Some((number, told))
    }

    /// Takes out the next one that gets a place: of the holder that has the least, the first one.
    pub(super) fn next_waiting(&mut self) -> Option<(Arc<Holder>, oneshot::Sender<Place>)> {
        if self.waiting == 0 {
            return None;
        }
        let wanting = self.held.iter().filter(|(_, held)| !held.waiting.is_empty());
        let used = |id: &HolderId| -> Option<Used> {
            Some(self.ledger.used_by(&self.held.get(id)?.holder.group, *id))
        };
        let first = |id: &HolderId| self.held.get(id).and_then(|held| Some(held.waiting.front()?.0));
        let next = *wanting.map(|it| it.0).min_by_key(|id| (used(id), first(id)))?;
        let held = self.held.get_mut(&next)?;
        let (_, tell) = held.waiting.pop_front()?;
        let holder = held.holder.clone();
        self.one_less_waits();
        Some((holder, tell))
    }

    /// One does not wait any more.
    fn give_up(&mut self, id: HolderId, number: u64) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let Some(at) = held.waiting.iter().position(|it| it.0 == number) else { return };
        held.waiting.remove(at);
        self.forget(id);
        self.one_less_waits();
    }

    fn one_less_waits(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.held.values().for_each(|held| held.short.store(false, Ordering::Relaxed));
        }
    }
}
