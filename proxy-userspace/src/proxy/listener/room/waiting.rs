//! Those that wait for room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::held::{Charge, Queued};
use super::{Place, Room, State};
use crate::domain::shares::Used;
use crate::proxy::holders::{Holder, HolderId, Stranger};

/// A client that waits for room; it gives up its turn on drop.
#[derive(Debug)]
pub(in crate::proxy::listener) struct Waiting {
    room: Arc<Room>,
    charge: Charge,
    number: u64,
    pub(super) told: oneshot::Receiver<Place>,
}

impl Waiting {
    pub(super) fn new(room: Arc<Room>, charge: Charge, number: u64, told: oneshot::Receiver<Place>) -> Self {
        Self { room, charge, number, told }
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
        state.give_up(self.charge.holder().id, self.number);
        drop(state);
        // A place that was given to it meanwhile goes to the next one, with the receiver.
    }
}

impl State {
    /// One more of `holder` waits, unless too many do: one holder may have as many as are left for others.
    pub(super) fn wait(
        &mut self,
        holder: &Arc<Holder>,
        stranger: Option<Stranger>,
    ) -> Option<(u64, Charge, oneshot::Receiver<Place>)> {
        let left = self.most_waiting.saturating_sub(self.waiting);
        let own = self.held.get(&holder.id).map_or(0, |held| held.waiting.len());
        if left == 0 || own > left {
            return None;
        }
        let number = self.number();
        let (tell, told) = oneshot::channel();
        let held = self.of(holder);
        let charge = Charge::new(held.account.clone(), stranger);
        held.waiting.push_back(Queued { number, tell, charge: charge.clone() });
        self.waiting += 1;
        Some((number, charge, told))
    }

    /// Whose turn it is to get a place: the holder's that has the least.
    pub(super) fn next_waiting(&self) -> Option<Arc<Holder>> {
        if self.waiting == 0 {
            return None;
        }
        let wanting = self.held.values().filter_map(|held| Some((held, held.waiting.front()?.number)));
        let used = |holder: &Holder| -> Used { self.ledger.used_by(&holder.group, holder.id) };
        let next = wanting.min_by_key(|(held, first)| (used(held.holder()), *first));
        next.map(|(held, _)| held.holder().clone())
    }

    /// Takes out the first one of this holder that waits.
    pub(super) fn pop_waiting(&mut self, id: HolderId) -> Option<Queued> {
        let first = self.held.get_mut(&id)?.waiting.pop_front()?;
        self.one_less_waits();
        Some(first)
    }

    /// One does not wait any more.
    fn give_up(&mut self, id: HolderId, number: u64) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let Some(at) = held.waiting.iter().position(|it| it.number == number) else { return };
        held.waiting.remove(at);
        self.forget(id);
        self.one_less_waits();
    }

    fn one_less_waits(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.held.values().for_each(|held| held.account.short.store(false, Ordering::Relaxed));
        }
    }
}
