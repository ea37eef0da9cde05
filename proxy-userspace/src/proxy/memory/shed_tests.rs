use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::task::Waker;
use std::time::Instant;

use super::*;
use crate::proxy::holders::Holders;
use crate::transport::Phase;

const MIB: u64 = 1 << 20;
const SIZES: Sizes = Sizes { copy_buffer: 16 * 1024, received: 128 * 1024 };

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

/// The connections of each holder.
type Clients<'a> = &'a [&'a [Activity]];

/// A round over these connections, each holder's at another address.
fn round(level: Level, used: u64, budget: u64, clients: Clients<'_>) -> Round {
    let (mut round, holders) = (Round::new(level, used, budget, SIZES), Holders::default());
    for (number, activities) in (1_u8..).zip(clients) {
        let holder = holders.of([10, 0, 0, number].into(), None);
        activities.iter().for_each(|it| round.add(&holder, it));
    }
    round
}

/// Ends what is to end so that `excess` of the bytes that all hold get free, whoever holds how little. Returns which end.
fn ended(level: Level, clients: Clients<'_>, excess: u64) -> Vec<Vec<bool>> {
    let mut round = round(level, 0, 1024 * MIB, clients);
    round.used = round.clients.values().map(|it| it.bytes).sum();
    (round.excess, round.least) = (excess.min(round.used), 0);
    round.choose().end(&Memory::default());
    clients.iter().map(|all| all.iter().map(Activity::is_shed).collect()).collect()
}

/// The addresses of those that are above their share.
fn above(round: &Round) -> Vec<String> {
    let mut names: Vec<_> = round.above().values().map(|it| it.holder.name.to_string()).collect();
    names.sort_unstable();
    names
}

#[test]
fn who_holds_more_than_a_share_gives_and_the_longest_idle_first() {
    let few = [connection(Phase::Idle, 1_000)];
    let many: Vec<_> = (2..6).map(|age| connection(Phase::Idle, age)).collect();
    let ended = ended(Level::Shed, &[&few, &many], CONNECTION + 1);
    assert_eq!(ended, [&[false][..], &[false, false, true, true]]);
}

#[test]
fn idle_ones_go_before_heads_these_before_tunnels_and_these_before_exchanges() {
    let all =
        [tunnel(60), connection(Phase::Busy, 90), connection(Phase::Head, 5), connection(Phase::Idle, 2)];
    let rank = [2, 3, 1, 0];
    let bytes = |at: usize| Round::new(Level::Shed, 0, MIB, SIZES).bytes(all[at].held()) + CONNECTION;
    let mut excess = 0;
    for at in [3, 2, 0, 1] {
        excess += bytes(at);
        let expected: Vec<bool> = rank.iter().map(|it| *it <= rank[at]).collect();
        assert_eq!(ended(Level::Shed, &[&all], excess), [expected], "{excess} bytes");
    }
}

#[test]
fn no_more_ends_while_what_was_told_to_has_not_yet() {
    let all: Vec<_> = (2..6).map(|age| connection(Phase::Idle, age)).collect();
    for _ in 0..3 {
        assert_eq!(ended(Level::Shed, &[&all], CONNECTION), [[false, false, false, true]]);
    }
}

#[test]
fn what_is_in_use_ends_only_when_nothing_else_helps() {
    for (level, expected) in [(Level::Shed, false), (Level::Refuse, false), (Level::Full, true)] {
        let all =
            [connection(Phase::Idle, 0), connection(Phase::Head, 0), tunnel(0), connection(Phase::Busy, 0)];
        assert_eq!(ended(level, &[&all], u64::MAX), [[expected; 4]], "{level:?}");
    }
}

#[test]
fn when_little_is_left_what_drips_ends_after_what_is_silent() {
    const BUDGET: u64 = 100 * MIB;
    for (percent, dripping, silent) in
        [(85, false, false), (91, false, true), (93, false, true), (94, true, true), (98, true, true)]
    {
        let level = Level::Normal.next(percent * MIB, BUDGET);
        // A byte each 900 ms at most, and streams that are opened as often; silent for 2 s.
        let many = |seconds| {
            (0..200).map(move |at| match at % 2 {
                0 => tunnel(seconds),
                _ => connection(Phase::Busy, seconds),
            })
        };
        for (seconds, expected) in [(0, dripping), (2, silent)] {
            let all: Vec<_> = many(seconds).collect();
            round(level, percent * MIB, BUDGET, &[&all]).choose().end(&Memory::default());
            assert_eq!(all.iter().any(Activity::is_shed), expected, "{seconds} s at {percent} %");
        }
    }
    let (drips, silent) = ([tunnel(0)], [connection(Phase::Busy, 2)]);
    let all = [drips, silent].concat();
    assert_eq!(ended(Level::Full, &[&all], CONNECTION), [[false, true]]);
}

#[test]
fn nothing_ends_where_all_fits() {
    assert_eq!(ended(Level::Shed, &[&[connection(Phase::Idle, 100)]], 0), [[false]]);
}

#[test]
fn who_holds_next_to_nothing_is_above_no_share_until_nobody_gets_anything() {
    let exchanges = |count: usize| (0..count).map(|_| connection(Phase::Busy, 9)).collect::<Vec<_>>();
    let budget = 1024 * MIB;
    for (level, count, is_above) in [
        (Level::Shed, 5, false),
        (Level::Shed, 60, true),
        (Level::Refuse, 4, false),
        (Level::Refuse, 5, true),
        (Level::Full, 1, true),
    ] {
        let used = level.begins(budget) + MIB;
        let above = above(&round(level, used, budget, &[&exchanges(count)]));
        assert_eq!(!above.is_empty(), is_above, "{count} at {level:?}");
    }
    // A small budget, and one request.
    for level in [Level::Shed, Level::Refuse] {
        let used = level.begins(16 * MIB) + 1;
        assert_eq!(above(&round(level, used, 16 * MIB, &[&exchanges(1)])).len(), 0, "{level:?}");
    }
}

#[test]
fn an_honest_pod_gives_nothing_although_most_of_what_is_used_is_in_no_estimate() {
    let budget = 256 * MIB;
    for (level, used) in [(Level::Shed, 212), (Level::Refuse, 233), (Level::Refuse, 241), (Level::Full, 250)]
    {
        let honest: Vec<_> = (0..20).map(|_| connection(Phase::Busy, 90)).collect();
        let greedy: Vec<_> = (0..450).map(|_| tunnel(60)).collect();
        let round = round(level, used * MIB, budget, &[&honest, &greedy]);
        assert_eq!(above(&round), ["10.0.0.2"], "{level:?} at {used} MiB");
        round.choose().end(&Memory::default());
        assert!(!honest.iter().any(Activity::is_shed) && greedy.iter().any(Activity::is_shed), "{used} MiB");
    }
}

#[test]
fn who_is_below_the_common_level_keeps_all_and_only_the_largest_gives() {
    let budget = 256 * MIB;
    let small: Vec<Vec<_>> = (0..50).map(|_| (0..6).map(|_| connection(Phase::Busy, 9)).collect()).collect();
    let huge: Vec<_> = (0..400).map(|_| connection(Phase::Busy, 9)).collect();
    let mut clients: Vec<&[Activity]> = small.iter().map(Vec::as_slice).collect();
    clients.push(&huge);
    assert_eq!(above(&round(Level::Refuse, 233 * MIB, budget, &clients)), ["10.0.0.51"]);
}

#[test]
fn it_is_foreseen_by_the_same_rule_who_will_be_above() {
    let honest: Vec<_> = (0..20).map(|_| connection(Phase::Busy, 0)).collect();
    let greedy: Vec<_> = (0..200).map(|_| connection(Phase::Idle, 9)).collect();
    let foreseen = round(Level::Normal, 110 * MIB, 256 * MIB, &[&honest, &greedy]);
    assert_eq!(above(&foreseen), ["10.0.0.2"]);
    assert!(foreseen.clients.values().all(|it| it.candidates.is_empty()));
}

/// Both ends of a connection of which the kernel holds what it takes; the second one reads nothing.
fn full() -> (TcpStream, TcpStream, u64) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    near.set_nonblocking(true).unwrap();
    let mut written = 0;
    while let Ok(n) = near.write(&[0; 64 * 1024]) {
        written += n as u64;
    }
    (near, far, written)
}

#[test]
fn what_the_kernel_holds_of_a_connection_is_counted_once_memory_is_scarce() {
    let (near, far, written) = full();
    for (activity, own) in
        [(tunnel(9), 2 * 16 * 1024), (connection(Phase::Busy, 9), EXCHANGE), (connection(Phase::Idle, 9), 0)]
    {
        let bytes = |level| {
            round(level, 0, MIB, &[std::slice::from_ref(&activity)])
                .clients
                .into_values()
                .next()
                .unwrap()
                .bytes
        };
        activity.is_on(&far);
        let of_client = bytes(Level::Shed);
        activity.is_on(&near);
        assert!(bytes(Level::Shed) + of_client >= 2 * (CONNECTION + own) + written, "{of_client}");
        assert_eq!(bytes(Level::Normal), CONNECTION + own);
        // A closed window: what the endpoint has sent stays in the kernel.
        let before = bytes(Level::Shed);
        activity.set_waiting(true);
        let waits = if own > 0 { SIZES.received } else { 0 };
        assert_eq!(bytes(Level::Shed), before + waits);
        activity.set_waiting(false);
        assert_eq!(bytes(Level::Shed), before);
    }
}
