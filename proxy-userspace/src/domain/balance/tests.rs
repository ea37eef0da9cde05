use super::*;
use proptest::prelude::*;

const FREE: View = View { usable: Usable::Yes, load: 1.0, latency: 1e6, due: false, waited: 0.0 };
const OUT: View = View { usable: Usable::No, ..FREE };

/// How often each candidate is picked in `rounds` picks.
fn tally(views: &[View], avoid: Option<usize>, rounds: usize) -> Vec<usize> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut counts = vec![0; views.len()];
    for _ in 0..rounds {
        let picked = pick(&Weights::equal(views.len()), avoid, &mut rng, |index| views[index]).unwrap();
        counts[picked.index] += 1;
    }
    counts
}

fn once(views: &[View], avoid: Option<usize>) -> Option<Picked> {
    pick(&Weights::equal(views.len()), avoid, &mut fastrand::Rng::with_seed(7), |index| views[index])
}

#[test]
fn of_no_candidates_none_is_picked() {
    assert_eq!(once(&[], None), None);
    assert_eq!(once(&[], Some(0)), None);
}

#[test]
fn the_only_candidate_is_picked_even_if_avoided_or_out() {
    assert_eq!(once(&[FREE], Some(0)), Some(Picked::alone(0, Choice::Usable)));
    assert_eq!(once(&[OUT], None), Some(Picked::alone(0, Choice::Forced)));
    assert_eq!(once(&[OUT], Some(0)), Some(Picked::alone(0, Choice::Forced)));
}

#[test]
fn equals_share_equally() {
    for count in tally(&[FREE; 5], None, 50_000) {
        assert!((9_500..10_500).contains(&count), "{count} of 50,000 among five");
    }
}

#[test]
fn of_two_the_cheaper_always_wins() {
    let cheap = View { load: 0.5, ..FREE };
    assert_eq!(tally(&[FREE, cheap], None, 1000), [0, 1000]);
}

#[test]
fn the_dearest_of_many_is_never_picked_and_the_cheapest_not_always() {
    let views: Vec<_> = (0..10).map(|i| View { load: f64::from(i), ..FREE }).collect();
    let counts = tally(&views, None, 9_000);
    // The cheapest wins whenever it is drawn: in two of ten pairs.
    assert!((1_600..2_000).contains(&counts[0]), "{counts:?}");
    assert_eq!(counts[9], 0, "{counts:?}");
    assert!(counts.windows(2).all(|pair| pair[0] > pair[1]), "{counts:?}");
}

#[test]
fn an_ejected_candidate_is_never_picked_while_another_is_usable() {
    let mut views = [OUT; 20];
    views[13] = FREE;
    let counts = tally(&views, None, 1000);
    assert_eq!(counts[13], 1000);
}

#[test]
fn ejected_candidates_do_not_blind_the_choice_among_the_rest() {
    let dear = View { load: 9.0, ..FREE };
    assert_eq!(tally(&[OUT, FREE, OUT, dear, OUT], None, 1000), [0, 1000, 0, 0, 0]);
}

#[test]
fn ejected_candidates_do_not_skew_the_choice_among_the_rest() {
    let counts = tally(&[OUT, FREE, FREE, OUT, FREE], None, 30_000);
    for index in [1, 2, 4] {
        assert!((9_500..10_500).contains(&counts[index]), "{counts:?}");
    }
}

#[test]
fn with_all_ejected_the_breakers_are_ignored_and_load_still_counts() {
    let cheap = View { load: 0.5, ..OUT };
    for _ in 0..100 {
        assert_eq!(once(&[OUT, cheap], None), Some(Picked::alone(1, Choice::Forced)));
    }
}

#[test]
fn a_retry_goes_elsewhere_even_where_it_is_dearer() {
    let cheap = View { load: 0.1, ..FREE };
    assert_eq!(tally(&[cheap, FREE, FREE], Some(0), 1000)[0], 0);
}

#[test]
fn a_retry_goes_back_to_the_only_usable_endpoint_before_an_ejected_one() {
    assert_eq!(once(&[FREE, OUT, OUT], Some(0)), Some(Picked::alone(0, Choice::Usable)));
}

#[test]
fn a_retry_with_all_ejected_goes_elsewhere() {
    let picked = once(&[OUT, OUT], Some(0));
    assert_eq!(picked, Some(Picked::alone(1, Choice::Forced)));
}

#[test]
fn an_avoided_index_that_is_gone_is_forgotten() {
    let counts = tally(&[FREE; 3], Some(3), 3000);
    assert!(counts.iter().all(|&count| count > 800), "{counts:?}");
}

const SPARED: View = View { usable: Usable::Spared, ..FREE };

#[test]
fn while_only_spared_ones_are_left_breakers_are_ignored() {
    let counts = tally(&[OUT, SPARED, OUT], None, 3000);
    assert!(counts.iter().all(|&count| count > 800), "{counts:?}");
    assert_eq!(once(&[SPARED, OUT], None).map(|it| it.choice), Some(Choice::Forced));
    let counts = tally(&[OUT, SPARED, FREE], None, 1000);
    assert_eq!(counts[0], 0, "beside one that can be relied on, a spared one has its share: {counts:?}");
    assert!(counts[1] > 300 && counts[2] > 300, "{counts:?}");
    assert_eq!(tally(&[&[FREE][..], &[OUT; 30]].concat(), None, 100)[0], 100);
}

#[test]
fn latencies_less_than_three_times_each_other_are_alike() {
    let other = |ratio: f64| View { latency: FREE.latency * ratio, ..FREE };
    for ratio in [0.35, 0.9, 1.1, 2.9] {
        let waiting = View { waited: 1.0, ..FREE };
        assert_eq!(tally(&[waiting, other(ratio)], None, 100), [100, 0], "{ratio}");
        assert_eq!(tally(&[FREE, View { waited: 1.0, ..other(ratio) }], None, 100), [0, 100], "{ratio}");
    }
    assert_eq!(tally(&[FREE, other(3.1)], None, 100), [100, 0]);
    assert_eq!(tally(&[FREE, other(0.3)], None, 100), [0, 100]);
}

#[test]
fn the_slower_one_is_asked_when_the_other_has_so_much_more_to_do() {
    let slow = View { latency: FREE.latency * 10.0, ..FREE };
    for (load, picked) in [(9.0, 0), (11.0, 1)] {
        let busy = View { load, ..FREE };
        assert_eq!(once(&[busy, slow], None).map(|it| it.index), Some(picked), "{load}");
    }
}

#[test]
fn of_equals_the_one_that_has_waited_longest_is_asked() {
    let waits = |waited| View { waited, ..FREE };
    assert_eq!(tally(&[waits(3.0), waits(5.0)], None, 100), [0, 100]);
    let less = View { load: 0.5, ..FREE };
    assert_eq!(tally(&[less, waits(5.0)], None, 100), [100, 0], "load comes first");
}

#[test]
fn a_slower_one_that_is_due_is_tried_as_if_it_were_not_and_says_whom_it_has_to_match() {
    let slow = View { latency: FREE.latency * 10.0, waited: 9.0, ..FREE };
    let lost = once(&[FREE, slow], None).unwrap();
    assert_eq!((lost.index, lost.loser, lost.trial), (0, Some(1), None));
    let tried = once(&[FREE, View { due: true, ..slow }], None).unwrap();
    assert_eq!((tried.index, tried.loser, tried.trial), (1, None, Some(FREE.latency)));
    let busy = View { due: true, load: 3.0, ..slow };
    assert_eq!(once(&[FREE, busy], None).unwrap().index, 0, "one trial at a time");
}

fn views() -> impl Strategy<Value = Vec<View>> {
    let view = (any::<bool>(), 0.0..1e9).prop_map(|(usable, load)| View {
        usable: if usable { Usable::Yes } else { Usable::No },
        load,
        ..FREE
    });
    prop::collection::vec(view, 1..12)
}

/// Weights for `len` candidates, all equal half of the time.
fn weights(len: usize) -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![Just(vec![2.5; len]), prop::collection::vec(1e-3..1e3, len)]
}

proptest! {
    #[test]
    fn a_pick_keeps_its_promises(
        (views, weights) in views().prop_flat_map(|views| (Just(views.clone()), weights(views.len()))),
        avoid in prop::option::of(0usize..14),
        seed in any::<u64>(),
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let shares = Weights::new(weights.iter().copied());
        let picked = pick(&shares, avoid, &mut rng, |index| views[index]).unwrap();
        let usable = |index: &usize| views[*index].usable == Usable::Yes;
        let usable_others = (0..views.len()).filter(|&i| Some(i) != avoid).filter(usable).count();

        prop_assert!(picked.index < views.len());
        prop_assert_eq!(picked.choice == Choice::Usable, usable(&picked.index));
        prop_assert_eq!(picked.choice == Choice::Forced, (0..views.len()).all(|i| !usable(&i)));
        if Some(picked.index) == avoid {
            prop_assert!(views.len() == 1 || (usable(&picked.index) && usable_others == 0));
        }
        // Of distinct candidates, the most expensive one never wins.
        if usable_others >= 2 && weights.iter().all(|&weight| weight == weights[0]) {
            let dearer = |i: &usize| views[*i].load >= views[picked.index].load && *i != picked.index;
            prop_assert!((0..views.len()).filter(usable).any(|i| dearer(&i)));
        }
    }
}
