//! Who gets a place: a free one, one that was kept, or another connection's.
//!
//! A place that a newcomer below its share took from another connection is kept for such newcomers for a while after it
//! has ended. If it went back to whom it was taken from at once, a pod that opens and closes one connection again and
//! again would cost others one connection each time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Grant, Place, Room, State};
use crate::proxy::holders::{Holder, HolderId, Holders};
use crate::transport::Activity;

/// How long a place is kept: all together never more than were taken from others.
pub(super) const KEPT: Duration = Duration::from_secs(5);

/// A place that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    until: Instant,
    /// Whose it was. Kept as well, since who comes back later has another number.
    holder: Arc<Holder>,
}

/// How there is room for one more connection.
pub(super) struct Admission {
    /// The connection that has lost its place.
    pub(super) displaced: Option<Activity>,
    /// Whether its place was taken from another one, now or earlier.
    pub(super) is_taken: bool,
}

impl State {
    /// Makes room for one more connection of `holder`, if it is due some.
    pub(super) fn admit(&mut self, holder: &Holder, now: Instant) -> Option<Admission> {
        while self.kept.front().is_some_and(|it| it.until <= now) {
            self.kept.pop_front();
        }
        let free = self.ledger.limit().saturating_sub(self.ledger.used());
        if free > self.kept.len() {
            return Some(Admission { displaced: None, is_taken: false });
        }
        if free == 0 {
            let from = self.ledger.gives_way(&holder.group, holder.id)?.1;
            return Some(Admission { displaced: Some(self.displace(from)?), is_taken: true });
        }
        let at = self.kept_for(holder)?;
        self.kept.remove(at);
        Some(Admission { displaced: None, is_taken: true })
    }

    /// Which kept place `holder` may have: its own one, or any if it would take one from another connection otherwise. Of
    /// a namespace all of whose pods have one at most, one that has none may, too.
    fn kept_for(&self, holder: &Holder) -> Option<usize> {
        let own = self.kept.iter().position(|it| it.holder.id == holder.id);
        let is_below = || self.ledger.gives_way(&holder.group, holder.id).is_some();
        let has_none = || self.ledger.used_by(&holder.group, holder.id).own == 0;
        let of_group = || self.kept.iter().position(|it| has_none() && it.holder.group == holder.group);
        own.or_else(of_group).or_else(|| is_below().then_some(0))
    }

    /// Keeps the place of a connection of `holder` that has ended.
    pub(super) fn keep(&mut self, holder: Arc<Holder>, now: Instant) {
        self.kept.push_back(Kept { until: now + KEPT, holder });
    }

    /// Charges a connection of the holder `from` to `to`.
    fn recharge(&mut self, from: HolderId, number: u64, to: &Arc<Holder>) {
        let account = self.of(to).account.clone();
        let Some(held) = self.held.get_mut(&from) else { return };
        let group = held.holder().group.clone();
        if let Some(mut open) = held.open.remove(&number) {
            open.charge.move_to(account);
            self.ledger.remove(&group, from);
            self.ledger.add(&to.group, to.id);
            self.of(to).open.insert(number, open);
        } else if let Some(at) = held.waiting.iter().position(|it| it.number == number)
            && let Some(mut queued) = held.waiting.remove(at)
        {
            queued.charge.move_to(account);
            let waiting = &mut self.of(to).waiting;
            waiting.insert(waiting.partition_point(|it| it.number < number), queued);
        }
        self.forget(from);
        self.forget(to.id);
    }
}

impl Room {
    /// Charges connections to the pods that their clients have turned out to be.
    pub(in crate::proxy::listener) fn recharge(self: &Arc<Self>, holders: &Holders) {
        let mut state = self.0.lock();
        let strangers = state.held.iter().flat_map(|(id, held)| {
            held.strangers().filter_map(|(number, it)| Some((*id, number, holders.known(it)?)))
        });
        for (from, number, to) in strangers.collect::<Vec<_>>() {
            state.recharge(from, number, &to);
        }
        let granted = self.grant(&mut state, Instant::now());
        drop(state);
        granted.into_iter().for_each(Grant::hand_over);
    }
}

impl Place {
    /// Charges the connection to `to`, whose it has turned out to be.
    pub(in crate::proxy::listener) fn charge_to(&self, to: &Arc<Holder>) {
        let mut state = self.room.0.lock();
        let from = self.charge.holder().id;
        if from == to.id || self.charge.has_moved() {
            return;
        }
        state.recharge(from, self.number, to);
        let granted = self.room.grant(&mut state, Instant::now());
        drop(state);
        granted.into_iter().for_each(Grant::hand_over);
    }
}
