//! Who is refused, and what ends.

use std::task::Waker;

use super::*;
use crate::proxy::holders::Holders;

const BUDGET: u64 = 1 << 40;

/// A holder that has more than its share, as [`Memory::set_above`] takes it, its number, and that of another one.
fn holders() -> (HashMap<HolderId, Above>, HolderId, HolderId) {
    let holders = Holders::default();
    let of = |address: &str| holders.of(address.parse().unwrap(), None);
    let (greedy, other) = (of("10.0.0.1"), of("10.0.0.2"));
    let (id, above) = (greedy.id, Above { holder: greedy, bytes: 2, share: 1 });
    (HashMap::from([(id, above)]), id, other.id)
}

#[test]
fn who_is_above_its_share_is_refused_from_ninety_percent_on_and_everybody_near_the_end() {
    let memory = Memory::default();
    let (above, greedy, other) = holders();
    memory.set_above(above);
    for (percent, refused) in [
        (50, (false, false)),
        (89, (false, false)),
        (91, (true, false)),
        (98, (true, true)),
        (93, (true, true)),
        (91, (true, false)),
        (86, (true, false)),
        (84, (false, false)),
    ] {
        memory.measured(BUDGET / 100 * percent, BUDGET, in_large_blocks());
        assert_eq!((memory.refuses(|| greedy), memory.refuses(|| other)), refused, "{percent} %");
    }
    memory.measured(BUDGET / 100 * 91, BUDGET, in_large_blocks());
    assert!(memory.admit(|| greedy).is_err() && memory.admit(|| other).is_ok());
}

#[test]
fn what_is_added_between_two_measurements_counts_at_once() {
    let memory = Memory::default();
    let marks = || [&memory.refuse_at, &memory.full_at].map(|it| it.load(Ordering::Relaxed));
    let mib = |count: u64| count << 20;
    for (used, at) in [(500, [1_400, 1_470]), (895, [1_005, 1_075]), (940, [0, 1_030]), (990, [0, 0])] {
        memory.measured(mib(used), mib(1_000), 1_000 << 20);
        assert_eq!(marks(), at.map(|it: usize| it << 20), "{used} MiB in use, and 1,000 in large blocks");
    }
}

#[test]
fn while_much_is_in_use_it_is_measured_anew_only_as_more_is_added() {
    let memory = Memory::default();
    let alert = || memory.alert_at.load(Ordering::Relaxed);
    let mib = |count: u64| count << 20;
    for (used, at) in [(100, 1_500), (595, 1_010), (600, 1_010), (790, 1_010), (850, 0)] {
        memory.measured(mib(used), mib(1_000), 1_000 << 20);
        // Hundredths of a budget are whole bytes.
        assert!(
            alert().abs_diff(at << 20) < 200,
            "{used} MiB in use, and 1,000 in large blocks: {}",
            alert()
        );
    }
}

#[test]
fn only_a_large_head_is_not_read_any_further_and_what_a_greedy_client_moves_ends_at_last() {
    let memory = Memory::default();
    let (above, greedy, other) = holders();
    memory.set_above(above);
    memory.measured(BUDGET / 100 * 91, BUDGET, 0);
    let activity = Activity::new(Instant::now());
    activity.bytes_came(&[b'x'; 4095], false);
    assert_eq!(memory.cuts(|| greedy, &activity), None);
    activity.bytes_came(b"x", false);
    assert_eq!(memory.cuts(|| greedy, &activity), Some(Held::Head(4096)));
    assert_eq!(memory.cuts(|| other, &activity), None);
    activity.begin(Instant::now());
    assert_eq!(memory.cuts(|| greedy, &activity), None);
    memory.measured(BUDGET, BUDGET, 0);
    assert_eq!(memory.cuts(|| greedy, &activity), Some(Held::Exchanges(1)));
    assert_eq!(memory.cuts(|| other, &activity), None);
}

#[test]
fn a_tunnel_that_moves_ends_when_little_is_left_as_an_exchange_does() {
    let memory = Memory::default();
    let (above, greedy, other) = holders();
    memory.set_above(above);
    let (tunnel, exchange) = (Activity::new(Instant::now()), Activity::new(Instant::now()));
    tunnel.carries_bytes(Instant::now());
    exchange.begin(Instant::now());
    for (percent, ends) in [(79, false), (91, false), (94, true), (98, true), (92, false)] {
        memory.measured(BUDGET / 100 * percent, BUDGET, in_large_blocks());
        for (activity, held) in [(&tunnel, Held::Tunnel), (&exchange, Held::Exchanges(1))] {
            let expected = ends.then_some(held);
            assert_eq!(memory.cuts(|| greedy, activity), expected, "{held:?} at {percent} %");
            assert_eq!(memory.cuts(|| other, activity), None, "another's {held:?} at {percent} %");
        }
    }
    memory.cut(Held::Tunnel, &tunnel);
    memory.cut(Held::Exchanges(1), &exchange);
    assert_eq!(memory.shed.each_ref().map(Counter::value), [0, 0, 1, 1, 0, 0]);
}

#[test]
fn a_connection_that_was_told_to_end_does_so_however_many_streams_it_opens_while_it_gets_nothing_new() {
    let memory = Memory::default();
    for (percent, ends) in [(81, false), (91, true), (98, true), (86, true), (81, false)] {
        memory.measured(BUDGET / 100 * percent, BUDGET, in_large_blocks());
        let activity = Activity::new(Instant::now());
        activity.may_make_room(Waker::noop());
        memory.begin_further(&activity, Instant::now());
        assert!(activity.shed() && activity.is_shed());
        memory.begin_further(&activity, Instant::now());
        assert_eq!((activity.is_shed(), activity.held()), (ends, Held::Exchanges(2)), "{percent} %");
    }
}

#[test]
fn who_is_above_is_told_the_worst_first_and_comes_back_as_the_same_one() {
    let (memory, holders) = (Memory::default(), Holders::default());
    let of = |address: &str| holders.of(address.parse().unwrap(), None);
    let ids = [("10.0.0.1", 7), ("10.0.0.2", 9), ("10.0.0.3", 8)].map(|(address, bytes)| {
        let holder = of(address);
        (holder.id, Above { holder, bytes, share: 5 })
    });
    memory.set_above(ids.iter().cloned().collect());
    let named = memory.above(2).iter().map(|it| it.holder.name.to_string()).collect::<Vec<_>>();
    assert_eq!(named, ["10.0.0.2", "10.0.0.3"]);
    let first = ids[0].0;
    drop(ids);
    memory.measured(BUDGET / 100 * 91, BUDGET, in_large_blocks());
    assert_eq!(of("10.0.0.1").id, first);
    assert!(memory.refuses(|| of("10.0.0.1").id), "its connections have ended, and it comes again at once");
    memory.clear_above();
    assert!(memory.above(9).is_empty() && !memory.refuses(|| first));
}

#[test]
fn the_workers_are_told_of_each_level_once() {
    let memory = Memory::default();
    let mut told = memory.follow();
    assert_eq!(memory.measured(85 << 30, 100 << 30, 0), (Level::Normal, Level::Shed));
    assert!(told.has_changed().unwrap());
    assert_eq!(*told.borrow_and_update(), Level::Shed);
    memory.measured(86 << 30, 100 << 30, 0);
    assert!(!told.has_changed().unwrap());
}
