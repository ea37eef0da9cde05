//! Which connections make room for new ones when a listener is full.
//!
//! First go those whose client has closed its sending side and on which no byte has passed for a second: most such
//! clients have left. Then go connections between two requests, the longest idle one first, of the client address that
//! has the most connections open: who holds few keeps them. Then go the other ones whose client has closed its sending
//! side. A connection that is in use otherwise stays.

use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::transport::{Activity, Phase};

/// The pause between two rounds: those that were asked leave meanwhile.
pub(super) const ROUND: Duration = Duration::from_millis(20);

/// The pause after a round that found nobody: a round looks at every connection.
const IN_VAIN: Duration = Duration::from_millis(200);

/// A round asks one in so many of all connections, or as many as clients wait, if that is more: a round looks at all of
/// them.
const PART: usize = 128;

/// The parts of the table; a connection locks only its own.
const SHARDS: usize = 16;

/// The open connections of a listener.
#[derive(Debug, Default)]
pub(super) struct Occupants {
    shards: [Mutex<HashMap<u64, Occupant>>; SHARDS],
    next: AtomicU64,
    /// How many accept tasks wait for room.
    waiting: AtomicUsize,
    /// When the next round may be.
    next_round: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Occupant {
    client: IpAddr,
    activity: Activity,
}

/// A connection that could make room.
#[derive(Debug)]
struct Candidate {
    rank: Rank,
    lasted: Duration,
    activity: Activity,
}

/// Who goes first: the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// An exchange runs, and its client has closed its sending side.
    HalfClosed,
    /// Between two requests.
    Idle,
    /// As [`Rank::HalfClosed`], and nothing passes.
    Silent,
}

impl Rank {
    fn of(activity: &Activity) -> Option<Self> {
        match activity.has_ended() && activity.has_exchange() {
            true if activity.is_likely_left() => Some(Self::Silent),
            true => Some(Self::HalfClosed),
            false => (activity.phase() == Phase::Idle).then_some(Self::Idle),
        }
    }
}

impl Candidate {
    fn ask(self) {
        match self.rank {
            Rank::Silent | Rank::Idle => self.activity.ask_for_room(),
            Rank::HalfClosed => self.activity.ask_for_room_in_use(),
        }
    }
}

impl Occupants {
    /// Adds a connection; returns its number.
    pub(super) fn add(&self, client: IpAddr, activity: &Activity) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.shard(number).lock().insert(number, Occupant { client, activity: activity.clone() });
        number
    }

    /// Removes one.
    pub(super) fn remove(&self, number: u64) {
        self.shard(number).lock().remove(&number);
    }

    /// Whether clients wait for room.
    pub(super) fn are_short_of_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// A client waits until the returned value is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Asks connections to make room, unless some were asked a moment before `now`.
    pub(super) fn make_room(&self, now: Instant) {
        {
            let mut next = self.next_round.lock();
            if next.is_some_and(|next| now < next) {
                return;
            }
            *next = Some(now + ROUND);
        }
        let (mut candidates, open) = self.candidates();
        let total: usize = open.values().sum();
        let wanted = self.waiting.load(Ordering::Relaxed).max(total / PART);
        let chosen = choose(&mut candidates, open, wanted);
        if chosen.is_empty() {
            *self.next_round.lock() = Some(now + IN_VAIN);
        }
        chosen.into_iter().for_each(Candidate::ask);
    }

    /// Those that could make room, by client, and how many connections each client has.
    fn candidates(&self) -> (HashMap<IpAddr, Vec<Candidate>>, HashMap<IpAddr, usize>) {
        let (mut candidates, mut open) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        for shard in &self.shards {
            for Occupant { client, activity } in shard.lock().values() {
                *open.entry(*client).or_default() += 1;
                if let Some(rank) = Rank::of(activity)
                    && activity.can_make_room()
                {
                    let candidate = Candidate { rank, lasted: activity.lasted(), activity: activity.clone() };
                    candidates.entry(*client).or_default().push(candidate);
                }
            }
        }
        (candidates, open)
    }

    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, Occupant>> {
        &self.shards[number as usize % SHARDS]
    }
}

/// Up to `wanted` of the candidates, given how many connections each client has open.
fn choose(
    candidates: &mut HashMap<IpAddr, Vec<Candidate>>,
    open: HashMap<IpAddr, usize>,
    wanted: usize,
) -> Vec<Candidate> {
    let (mut chosen, mut half_closed) = (Vec::new(), Vec::new());
    for of_client in candidates.values_mut() {
        // The last one goes first.
        of_client.sort_by_key(|it| (it.rank, it.lasted));
        chosen.extend(of_client.drain(of_client.partition_point(|it| it.rank < Rank::Silent)..));
        half_closed.extend(of_client.drain(..of_client.partition_point(|it| it.rank < Rank::Idle)));
    }
    let longest_first = |them: &mut Vec<Candidate>| them.sort_by_key(|it| std::cmp::Reverse(it.lasted));
    longest_first(&mut chosen);
    chosen.truncate(wanted);
    let mut clients: BinaryHeap<_> = open.into_iter().map(|(client, open)| (open, client)).collect();
    while chosen.len() < wanted
        && let Some((open, client)) = clients.pop()
    {
        if let Some(next) = candidates.get_mut(&client).and_then(Vec::pop) {
            chosen.push(next);
            clients.push((open - 1, client));
        }
    }
    longest_first(&mut half_closed);
    half_closed.truncate(wanted - chosen.len());
    chosen.extend(half_closed);
    chosen
}

/// A client that waits for room.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Occupants);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(occupants: &Occupants, client: &str, seconds: u64) -> Activity {
        let since = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let activity = Activity::new(since);
        activity.enter(Phase::Idle, since);
        activity.may_make_room(std::task::Waker::noop());
        occupants.add(client.parse().unwrap(), &activity);
        activity
    }

    fn asked(all: &[&Activity]) -> Vec<bool> {
        all.iter().map(|it| it.is_asked_for_room()).collect()
    }

    #[test]
    fn the_longest_idle_connection_of_who_has_the_most_goes_first() {
        let occupants = Occupants::default();
        let (of_few, old) = (idle(&occupants, "10.0.0.1", 500), idle(&occupants, "10.0.0.2", 30));
        let (older, new) = (idle(&occupants, "10.0.0.2", 60), idle(&occupants, "10.0.0.2", 1));
        let all = [&of_few, &old, &older, &new];
        let _waits = occupants.wait();
        let mut now = Instant::now();
        for expected in [[false, false, true, false], [false, true, true, false]] {
            occupants.make_room(now);
            assert_eq!(asked(&all), expected);
            occupants.make_room(now);
            assert_eq!(asked(&all), expected, "not twice within a moment");
            now += ROUND;
        }
    }

    #[test]
    fn what_is_in_use_stays_and_what_was_asked_is_not_asked_again() {
        let occupants = Occupants::default();
        let (first, busy) = (idle(&occupants, "10.0.0.1", 1), idle(&occupants, "10.0.0.1", 9));
        busy.begin(Instant::now());
        let nobodys = Activity::new(Instant::now());
        nobodys.enter(Phase::Idle, Instant::now());
        occupants.add("10.0.0.1".parse().unwrap(), &nobodys);
        let _waits = (occupants.wait(), occupants.wait());
        occupants.make_room(Instant::now());
        assert_eq!(asked(&[&first, &busy, &nobodys]), [true, false, false]);
        first.begin(Instant::now());
        assert!(!first.is_asked_for_room(), "it is in use again");
    }

    #[test]
    fn after_a_round_in_vain_the_next_one_takes_longer() {
        let occupants = Occupants::default();
        let now = Instant::now();
        let _waits = occupants.wait();
        occupants.make_room(now);
        let late = idle(&occupants, "10.0.0.1", 1);
        occupants.make_room(now + ROUND);
        assert!(!late.is_asked_for_room());
        occupants.make_room(now + IN_VAIN);
        assert!(late.is_asked_for_room());
    }

    #[test]
    fn those_that_left_are_forgotten() {
        let occupants = Occupants::default();
        let activity = Activity::new(Instant::now());
        let number = occupants.add("10.0.0.1".parse().unwrap(), &activity);
        occupants.remove(number);
        assert!(occupants.candidates().1.is_empty());
        assert!(!occupants.are_short_of_room());
    }
}
