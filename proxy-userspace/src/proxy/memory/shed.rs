//! Which clients' connections end when memory is scarce.
//!
//! Only those of pods that hold more than their fair share (`domain/shares`), and of these the idle ones first, then heads that take long,
//! then tunnels and at last exchanges on which nothing passes; of each kind the one that has been so for longest. How much
//! a connection holds is estimated by what it does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Memory, Shed};
use crate::domain::memory::Level;
use crate::domain::shares::divide;
use crate::proxy::holders::{Group, Holder, HolderId};
use crate::transport::{Activity, Held};

/// What any connection holds: its task, its timer, and hyper's first buffer.
const CONNECTION: u64 = 12 * 1024;

/// What an exchange holds besides: the endpoint's connection, and the buffers of the bodies.
const EXCHANGE: u64 = 64 * 1024;

/// Whoever holds no more than one of so many parts of the budget is above no share: something else uses the memory.
const LEAST: u64 = 256;

/// The connections of all listeners at one moment.
#[derive(Debug)]
pub struct Round {
    level: Level,
    /// Bytes of a tunnel's two buffers.
    tunnel: u64,
    /// Whoever holds no more than this is above no share.
    least: u64,
    clients: HashMap<HolderId, Holdings>,
}

/// What one holder has.
#[derive(Debug)]
struct Holdings {
    group: Group,
    bytes: u64,
    /// Of these, what connections hold that were told to end, and have not yet.
    ending: u64,
    /// What may end.
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    kind: Shed,
    lasted: Duration,
    bytes: u64,
    activity: Activity,
}

/// What a round has decided.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Who has more than a fair share.
    pub above: HashSet<HolderId>,
    /// Connections that are to end, with their kinds.
    activities: Vec<(Shed, Activity)>,
}

impl Round {
    /// A round at this `level` of this `budget`, where each direction of a tunnel has a buffer of this many bytes.
    pub fn new(level: Level, budget: u64, copy_buffer: usize) -> Self {
        Self { level, tunnel: 2 * copy_buffer as u64, least: budget / LEAST, clients: HashMap::new() }
    }

    /// A connection of `holder`.
    pub fn add(&mut self, holder: &Arc<Holder>, activity: &Activity) {
        let (held, lasted) = (activity.held(), activity.lasted());
        let bytes = CONNECTION + self.bytes(held);
        let new = || Holdings { group: holder.group.clone(), bytes: 0, ending: 0, candidates: Vec::new() };
        let of_client = self.clients.entry(holder.id).or_insert_with(new);
        of_client.bytes += bytes;
        let kind = kind(held);
        if activity.is_shed() {
            of_client.ending += bytes;
        } else if lasted >= patience(kind, self.level) {
            of_client.candidates.push(Candidate { kind, lasted, bytes, activity: activity.clone() });
        }
    }

    fn bytes(&self, held: Held) -> u64 {
        match held {
            Held::Idle => 0,
            // hyper's buffer grows by doubling.
            Held::Head(bytes) => u64::from(bytes).next_power_of_two(),
            Held::Tunnel => self.tunnel,
            Held::Exchanges(count) => EXCHANGE * u64::from(count),
        }
    }

    /// Who would have to give something so that `excess` bytes got free.
    pub fn above(&self, excess: u64) -> HashSet<HolderId> {
        self.shares(excess).into_keys().collect()
    }

    /// The fair share of each who holds more than that, where `excess` bytes less than now are to be held.
    fn shares(&self, excess: u64) -> HashMap<HolderId, u64> {
        let demands: Vec<_> = self.clients.values().map(|it| (&it.group, it.bytes)).collect();
        let total: u64 = demands.iter().map(|it| it.1).sum();
        let shares = divide(total.saturating_sub(excess), &demands);
        let shares = self.clients.iter().zip(shares).map(|(it, share)| (it, share.max(self.least)));
        shares.filter(|((_, it), share)| it.bytes > *share).map(|((id, _), share)| (*id, share)).collect()
    }

    /// What ends so that `excess` bytes get free: what each holds beyond its fair share of the rest.
    pub fn choose(mut self, excess: u64) -> Chosen {
        let mut chosen = Chosen::default();
        for (holder, share) in self.shares(excess) {
            chosen.above.insert(holder);
            let Some(holdings) = self.clients.get_mut(&holder) else { continue };
            holdings.candidates.sort_by_key(|it| (it.kind, std::cmp::Reverse(it.lasted)));
            let mut left = holdings.bytes - holdings.ending;
            for candidate in holdings.candidates.drain(..) {
                if left <= share {
                    break;
                }
                left -= candidate.bytes;
                chosen.activities.push((candidate.kind, candidate.activity));
            }
        }
        chosen
    }
}

impl Chosen {
    /// Ends the chosen connections, and counts them.
    pub fn end(&self, memory: &Memory) {
        for (kind, activity) in &self.activities {
            if activity.shed() {
                memory.shed[*kind as usize].inc();
            }
        }
    }
}

fn kind(held: Held) -> Shed {
    match held {
        Held::Idle => Shed::Idle,
        Held::Head(_) => Shed::Head,
        Held::Tunnel => Shed::Tunnel,
        Held::Exchanges(_) => Shed::Exchange,
    }
}

/// How long a connection must have been idle, slow or silent before it ends.
fn patience(kind: Shed, level: Level) -> Duration {
    const MS: Duration = Duration::from_millis(1);
    match (kind, level) {
        (_, Level::Full) => Duration::ZERO,
        (Shed::Idle, Level::Refuse) => 100 * MS,
        (Shed::Head, Level::Refuse) => 250 * MS,
        (_, Level::Refuse) => 1_000 * MS,
        (Shed::Idle | Shed::Head, _) => 1_000 * MS,
        (_, _) => 5_000 * MS,
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Instant;

    use super::*;
    use crate::proxy::holders::Holders;
    use crate::transport::Phase;

    const FEW: &str = "10.0.0.1";
    const MANY: &str = "10.0.0.2";

    fn connection(phase: Phase, seconds: u64) -> Activity {
        let since = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let activity = Activity::new(since);
        match phase {
            Phase::Busy => drop(activity.begin(since)),
            phase => activity.enter(phase, since),
        }
        activity.may_make_room(Waker::noop());
        activity
    }

    fn tunnel(seconds: u64) -> Activity {
        let activity = connection(Phase::Busy, seconds);
        activity.carries_bytes(Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap());
        activity.may_make_room(Waker::noop());
        activity
    }

    /// Which of `many`'s connections end, and which of the one that has few.
    fn ended(level: Level, few: &[Activity], many: &[Activity], excess: u64) -> (Vec<bool>, Vec<bool>) {
        let mut round = Round::new(level, 0, 16 * 1024);
        let holders = Holders::default();
        let [of_few, of_many] = [FEW, MANY].map(|address| holders.of(address.parse().unwrap(), None));
        few.iter().for_each(|it| round.add(&of_few, it));
        many.iter().for_each(|it| round.add(&of_many, it));
        let chosen = round.choose(excess);
        chosen.end(&Memory::default());
        let asked = |all: &[Activity]| all.iter().map(Activity::is_shed).collect();
        (asked(few), asked(many))
    }

    #[test]
    fn who_holds_more_than_a_share_gives_and_the_longest_idle_first() {
        let few = [connection(Phase::Idle, 1_000)];
        let many: Vec<_> = (2..6).map(|age| connection(Phase::Idle, age)).collect();
        let (of_few, of_many) = ended(Level::Shed, &few, &many, CONNECTION + 1);
        assert_eq!(of_few, [false]);
        assert_eq!(of_many, [false, false, true, true]);
    }

    #[test]
    fn idle_ones_go_before_heads_these_before_tunnels_and_these_before_exchanges() {
        let all =
            [tunnel(60), connection(Phase::Busy, 90), connection(Phase::Head, 5), connection(Phase::Idle, 2)];
        let rank = [2, 3, 1, 0];
        let bytes = |at: usize| Round::new(Level::Shed, 0, 16 * 1024).bytes(all[at].held()) + CONNECTION;
        let mut excess = 0;
        for at in [3, 2, 0, 1] {
            excess += bytes(at);
            let (_, is_ended) = ended(Level::Shed, &[], &all, excess);
            let expected: Vec<bool> = rank.iter().map(|it| *it <= rank[at]).collect();
            assert_eq!(is_ended, expected, "{excess} bytes");
        }
    }

    #[test]
    fn no_more_ends_while_what_was_told_to_has_not_yet() {
        let all: Vec<_> = (2..6).map(|age| connection(Phase::Idle, age)).collect();
        for _ in 0..3 {
            assert_eq!(ended(Level::Shed, &[], &all, CONNECTION).1, [false, false, false, true]);
        }
    }

    #[test]
    fn what_is_in_use_ends_only_when_nothing_else_helps() {
        for (level, expected) in [
            (Level::Shed, [false, false, false, false]),
            (Level::Refuse, [false, false, false, false]),
            (Level::Full, [true, true, true, true]),
        ] {
            let all = [
                connection(Phase::Idle, 0),
                connection(Phase::Head, 0),
                tunnel(0),
                connection(Phase::Busy, 0),
            ];
            assert_eq!(ended(level, &[], &all, u64::MAX).1, expected, "{level:?}");
        }
    }

    #[test]
    fn nothing_ends_where_all_fits_and_who_holds_next_to_nothing_is_above_no_share() {
        let all = [connection(Phase::Idle, 100)];
        assert_eq!(ended(Level::Shed, &[], &all, 0).1, [false]);
        for (budget, is_above) in [(0, true), (LEAST * CONNECTION, false), (LEAST * CONNECTION / 2, true)] {
            let mut round = Round::new(Level::Full, budget, 16 * 1024);
            round.add(&Holders::default().of(FEW.parse().unwrap(), None), &all[0]);
            assert_eq!(!round.above(u64::MAX).is_empty(), is_above, "{budget}");
        }
    }
}
