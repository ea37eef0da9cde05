//! The properties of fair shares.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Holder = (u8, u16);

/// What each of `wants` has after they have asked for units in this order, each until it has what it wants or gets
/// nothing more, several times; and how often each had to give one up.
fn settle(
    limit: usize,
    wants: &[(Holder, usize)],
    order: &[usize],
) -> (BTreeMap<Holder, usize>, BTreeMap<Holder, usize>) {
    let mut ledger = Ledger::new(limit);
    let mut lost = BTreeMap::new();
    let mut ask = |((group, number), want): (Holder, usize)| {
        if ledger.used_by(&group, number).own >= want {
            return false;
        }
        if ledger.is_full() {
            let Some((&of, from)) = ledger.gives_way(&group, number) else { return false };
            ledger.remove(&of, from);
            *lost.entry((of, from)).or_default() += 1;
        }
        ledger.add(&group, number);
        true
    };
    for &at in order {
        ask(wants[at % wants.len()]);
    }
    // What was taken from one is asked for again: it ends all the same.
    let mut turns = 0;
    while wants.iter().fold(false, |moved, it| ask(*it) | moved) {
        turns += 1;
        assert!(turns <= 4 * limit + 4, "units go round in a circle");
    }
    let has =
        wants.iter().map(|((group, number), _)| ((*group, *number), ledger.used_by(group, *number).own));
    (has.collect(), lost)
}

fn demands() -> impl Strategy<Value = Vec<(Holder, usize)>> {
    let one = ((0..5_u8, 0..6_u16), 0..40_usize);
    prop::collection::vec(one, 1..12).prop_map(|all| {
        let distinct: BTreeMap<Holder, usize> = all.into_iter().collect();
        distinct.into_iter().collect()
    })
}

fn shares(limit: usize, wants: &[(Holder, usize)]) -> Vec<u64> {
    let demands: Vec<_> = wants.iter().map(|((group, _), want)| (*group, *want as u64)).collect();
    divide(limit as u64, &demands)
}

fn sum_by_group(all: impl Iterator<Item = (Holder, usize)>) -> BTreeMap<u8, usize> {
    all.fold(BTreeMap::new(), |mut sums, ((group, _), one)| {
        *sums.entry(group).or_default() += one;
        sums
    })
}

proptest! {
    #[test]
    fn shares_are_max_min_fair_by_group_and_then_by_holder(limit in 0..120_usize, wants in demands()) {
        let shares = shares(limit, &wants);
        let total: usize = wants.iter().map(|it| it.1).sum();
        let given: usize = shares.iter().map(|it| *it as usize).sum();
        prop_assert!(given <= limit.min(total));
        // Nothing is left that somebody wants, but for what rounding leaves.
        prop_assert!(given + 2 * wants.len() >= limit.min(total), "{given} of {limit}");
        let got: Vec<(Holder, usize)> = wants.iter().zip(&shares).map(|(it, share)| (it.0, *share as usize)).collect();
        let (of, wanted) = (sum_by_group(got.iter().copied()), sum_by_group(wants.iter().copied()));
        for ((holder, want), (_, share)) in wants.iter().zip(&got) {
            prop_assert!(share <= want);
            if share == want {
                continue;
            }
            // Nobody of its group has more than one that lacks something.
            for (other, theirs) in got.iter().filter(|it| it.0.0 == holder.0) {
                prop_assert!(theirs <= share, "{other:?} has {theirs}, {holder:?} {share} of {want}");
            }
        }
        for (group, got) in &of {
            if got + wants.len() < wanted[group] {
                // A group may lack as many units as it has members, by rounding.
                prop_assert!(of.values().all(|theirs| *theirs <= got + wants.len()), "{of:?}, {wanted:?}");
            }
        }
    }

    #[test]
    fn a_ledger_ends_in_these_shares_whoever_comes_first(
        limit in 1..100_usize,
        wants in demands(),
        order in prop::collection::vec(any::<usize>(), 0..200),
    ) {
        let (has, _) = settle(limit, &wants, &order);
        let total: usize = wants.iter().map(|it| it.1).sum();
        prop_assert_eq!(has.values().sum::<usize>(), limit.min(total), "a unit is unused that somebody wants");
        let (of, wanted) = (sum_by_group(has.clone().into_iter()), sum_by_group(wants.iter().copied()));
        for ((group, number), want) in &wants {
            let own = has[&(*group, *number)];
            if own == *want {
                continue;
            }
            for (other, theirs) in has.iter().filter(|it| it.0.0 == *group) {
                prop_assert!(*theirs <= own + 1, "{other:?} has {theirs}, {:?} {own} of {want}", (group, number));
            }
            for (other, theirs) in &of {
                prop_assert!(*theirs <= of[group] + 1, "group {other} has {theirs}, {group} {} of {}", of[group], wanted[group]);
            }
        }
    }

    #[test]
    fn who_stays_within_its_share_never_gives_anything_up(
        limit in 1..100_usize,
        others in demands(),
        order in prop::collection::vec(any::<usize>(), 0..200),
    ) {
        // One more, in a group of its own, that wants no more than it is due whatever the others want.
        let honest = (99_u8, 0_u16);
        let groups = others.iter().map(|it| it.0.0).collect::<std::collections::BTreeSet<_>>().len() + 1;
        let want = limit / groups;
        let mut wants = others;
        wants.push((honest, want));
        let (has, lost) = settle(limit, &wants, &order);
        prop_assert_eq!(lost.get(&honest), None);
        prop_assert_eq!(has[&honest], want);
    }
}

#[test]
fn beside_fifty_small_attackers_a_large_pod_loses_nothing() {
    // In per mille of the pool: fifty that use 15 each, and one that uses 50, in as many namespaces or in one.
    for group in [|_: u16| 0, |number: u16| number as u8] {
        let mut wants: Vec<(Holder, usize)> = (0..50).map(|number| ((group(number), number), 15)).collect();
        wants.push(((group(50), 50), 50));
        let (has, lost) = settle(1000, &wants, &[]);
        assert_eq!((has[&(group(50), 50)], lost.len()), (50, 0));
        assert_eq!(shares(1000, &wants)[50], 50);
    }
    // And in a namespace of its own, however much they want.
    let mut wants: Vec<(Holder, usize)> = (0..50).map(|number| ((0, number), 1000)).collect();
    wants.push(((1, 50), 50));
    let everybody_first: Vec<usize> = (0..5000).map(|turn| turn % 50).collect();
    let (has, lost) = settle(1000, &wants, &everybody_first);
    assert_eq!((has[&(1, 50)], lost.get(&(1, 50))), (50, None));
}

#[test]
fn shares_by_example() {
    for (capacity, demands, expected) in [
        (0, vec![(0, 5)], vec![0]),
        (10, vec![], vec![]),
        (10, vec![(0, 3), (0, 4)], vec![3, 4]),
        (10, vec![(0, 30), (0, 4)], vec![6, 4]),
        (10, vec![(0, 30), (0, 30)], vec![5, 5]),
        // One pod beside nine of another namespace has half, if it wants it.
        (90, std::iter::once((0, 100)).chain((0..9).map(|_| (1, 100))).collect(), {
            std::iter::once(45).chain([5; 9]).collect()
        }),
        // What the one leaves, the nine have.
        (90, std::iter::once((0, 9)).chain((0..9).map(|_| (1, 100))).collect(), vec![9; 10]),
        (u64::MAX, vec![(0, u64::MAX), (0, u64::MAX)], vec![u64::MAX / 2; 2]),
    ] {
        assert_eq!(divide(capacity, &demands), expected, "{demands:?} of {capacity}");
    }
}

#[test]
fn a_pool_that_shrinks_keeps_what_is_used() {
    let mut ledger = Ledger::new(3);
    (0..3).for_each(|_| ledger.add(&"a", 1));
    ledger.set_limit(2);
    assert!(ledger.is_full() && ledger.used() == 3);
    ledger.remove(&"a", 1);
    ledger.remove(&"b", 1);
    assert!(ledger.is_full());
    ledger.remove(&"a", 1);
    assert!(!ledger.is_full());
    ledger.remove(&"a", 1);
    ledger.remove(&"a", 1);
    assert_eq!((ledger.used(), ledger.from_most().count(), ledger.limit()), (0, 0, 2));
}

#[test]
fn those_that_use_the_most_are_listed_first() {
    let mut ledger = Ledger::new(10);
    for (group, holder) in [("a", 1), ("a", 1), ("a", 1), ("b", 2), ("b", 3), ("b", 3), ("b", 4)] {
        ledger.add(&group, holder);
    }
    let listed: Vec<_> = ledger.from_most().map(|(group, holder, used)| (*group, holder, used.own)).collect();
    assert_eq!(listed, [("b", 3, 2), ("b", 4, 1), ("b", 2, 1), ("a", 1, 3)]);
}
