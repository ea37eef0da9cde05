//! Which connections are asked to leave while others wait for room.
//!
//! Only those of holders that wait themselves, or have more than one that waits. First go those whose client has closed
//! its sending side and on which no byte has passed for a second: most such clients have left. Then go connections between
//! two requests, the longest idle one first, of the holder that has the most. Then go the other ones whose client has
//! closed its sending side. A connection that is in use otherwise stays until its current answer is complete.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::held::{Held, Rank};
use super::{Grant, Room, State};
use crate::domain::shares::Used;
use crate::proxy::holders::Group;
use crate::transport::Activity;

/// The pause between two rounds: those that were asked leave meanwhile.
pub(super) const ROUND: Duration = Duration::from_millis(20);

/// The pause after a round that found nobody: a round looks at every connection.
pub(in crate::proxy::listener) const IN_VAIN: Duration = Duration::from_millis(200);

/// A round asks one in so many of all connections, or as many as wait, if that is more: a round looks at all of
/// them.
const PART: usize = 128;

/// A connection that could make room.
#[derive(Debug)]
struct Candidate {
    rank: Rank,
    lasted: Duration,
    activity: Activity,
}

impl Candidate {
    fn ask(self) {
        match self.rank {
            Rank::Silent | Rank::Idle => self.activity.ask_for_room(),
            Rank::HalfClosed => self.activity.ask_for_room_in_use(),
            Rank::InUse => {}
        }
    }
}

/// The least that any of those has that wait, of all groups and of each.
struct Least {
    group: usize,
    own: HashMap<Group, usize>,
}

/// The task that makes rounds; while it runs, no other one starts.
struct Rounds(Arc<Room>);

impl Drop for Rounds {
    fn drop(&mut self) {
        self.0.0.lock().has_rounds = false;
    }
}

impl Room {
    /// Makes rounds as long as a connection waits. A connection that was asked to leave may be in use again by the next
    /// round, which then asks others.
    pub(super) fn start_rounds(self: &Arc<Self>) {
        {
            let mut state = self.0.lock();
            if state.waiting == 0 || std::mem::replace(&mut state.has_rounds, true) {
                return;
            }
        }
        let rounds = Rounds(self.clone());
        tokio::spawn(async move {
            while rounds.0.make_room(Instant::now()) {
                sleep(ROUND).await;
            }
            // One that has begun to wait since starts them again.
            let room = rounds.0.clone();
            drop(rounds);
            room.start_rounds();
        });
    }

    /// Asks connections to make room, unless some were asked a moment before `now`. Returns whether anybody waits.
    ///
    /// Places that were kept long enough go to those that wait.
    pub(super) fn make_room(self: &Arc<Self>, now: Instant) -> bool {
        let mut state = self.0.lock();
        let granted = self.grant(&mut state, now);
        if !granted.is_empty() {
            drop(state);
            granted.into_iter().for_each(Grant::hand_over);
            return true;
        }
        if state.waiting == 0 {
            return false;
        }
        if state.next_round.is_none_or(|next| next <= now) {
            let chosen = state.choose();
            state.next_round = Some(now + if chosen.is_empty() { IN_VAIN } else { ROUND });
            drop(state);
            chosen.into_iter().for_each(Candidate::ask);
        }
        true
    }
}

impl State {
    /// Those that are asked now.
    fn choose(&self) -> Vec<Candidate> {
        let least = self.least_waiting();
        let (mut most, mut givers) = (HashMap::<&Group, usize>::new(), Vec::new());
        for (group, id, used) in self.ledger.from_most() {
            let most = *most.entry(group).or_insert(used.own);
            let Some(held) = self.held.get(&id) else { continue };
            let is_short = least.is_more(held, used, most);
            held.account.short.store(is_short, Ordering::Relaxed);
            if is_short {
                givers.push((group, used, of(held)));
            }
        }
        pick(givers, self.waiting.max(self.ledger.used() / PART))
    }

    fn least_waiting(&self) -> Least {
        let mut least = Least { group: usize::MAX, own: HashMap::new() };
        for (id, held) in self.held.iter().filter(|(_, held)| !held.waiting.is_empty()) {
            let used = self.ledger.used_by(&held.holder().group, *id);
            least.group = least.group.min(used.group);
            let own = least.own.entry(held.holder().group.clone()).or_insert(usize::MAX);
            *own = used.own.min(*own);
        }
        least
    }
}

impl Least {
    /// Whether connections of a holder that has this much make room for one that waits. `most` is the most that any of
    /// its group has: of a group with more than one that waits only those give that have the most in it.
    fn is_more(&self, held: &Held, used: Used, most: usize) -> bool {
        let in_group = self.own.get(&held.holder().group).is_some_and(|least| used.own > *least);
        let in_larger = used.group > self.group && used.own + 1 >= most;
        !held.waiting.is_empty() || in_group || in_larger
    }
}

/// The connections of a holder that could make room.
fn of(held: &Held) -> Vec<Candidate> {
    let all = held.open.values().map(|it| &it.activity).filter(|activity| activity.can_make_room());
    let all = all.map(|activity| Candidate {
        rank: Rank::of(activity),
        lasted: activity.lasted(),
        activity: activity.clone(),
    });
    all.filter(|it| it.rank != Rank::InUse).collect()
}

/// Up to `wanted` of the candidates, given what each of their holders uses.
fn pick(givers: Vec<(&Group, Used, Vec<Candidate>)>, wanted: usize) -> Vec<Candidate> {
    let (mut chosen, mut half_closed) = (Vec::new(), Vec::new());
    // What each group uses, and in it each holder and its idle connections.
    let mut groups = HashMap::<&Group, (usize, BinaryHeap<(usize, usize)>)>::new();
    let mut idle = Vec::new();
    for (group, used, mut all) in givers {
        // The last one goes first.
        all.sort_by_key(|it| (it.rank, it.lasted));
        chosen.extend(all.drain(all.partition_point(|it| it.rank < Rank::Silent)..));
        half_closed.extend(all.drain(..all.partition_point(|it| it.rank < Rank::Idle)));
        groups.entry(group).or_insert((used.group, BinaryHeap::new())).1.push((used.own, idle.len()));
        idle.push(all);
    }
    let longest_first = |them: &mut Vec<Candidate>| them.sort_by_key(|it| std::cmp::Reverse(it.lasted));
    longest_first(&mut chosen);
    chosen.truncate(wanted);
    let mut order: BinaryHeap<(usize, &Group)> = groups.iter().map(|(group, it)| (it.0, *group)).collect();
    while chosen.len() < wanted
        && let Some((used, group)) = order.pop()
    {
        let Some((own, holder)) = groups.get_mut(group).and_then(|it| it.1.pop()) else { continue };
        let next = idle.get_mut(holder).and_then(Vec::pop);
        if next.is_some()
            && let Some((_, holders)) = groups.get_mut(group)
        {
            holders.push((own - 1, holder));
        }
        order.push((used - usize::from(next.is_some()), group));
        chosen.extend(next);
    }
    longest_first(&mut half_closed);
    half_closed.truncate(wanted - chosen.len());
    chosen.extend(half_closed);
    chosen
}
