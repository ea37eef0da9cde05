use super::*;
use proptest::prelude::*;

const FREE: View = View { usable: Usable::Yes, cost: 1.0 };
const OUT: View = View { usable: Usable::No, cost: 1.0 };

/// How often each candidate is picked in `rounds` picks.
fn tally(views: &[View], avoid: Option<usize>, rounds: usize) -> Vec<usize> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut counts = vec![0; views.len()];
    for _ in 0..rounds {
        let picked = pick(&Shares::equal(views.len()), avoid, &mut rng, |index| views[index]).unwrap();
        counts[picked.index] += 1;
    }
    counts
}

fn once(views: &[View], avoid: Option<usize>) -> Option<Picked> {
    pick(&Shares::equal(views.len()), avoid, &mut fastrand::Rng::with_seed(7), |index| views[index])
}

#[test]
fn of_no_candidates_none_is_picked() {
    assert_eq!(once(&[], None), None);
    assert_eq!(once(&[], Some(0)), None);
}

#[test]
fn the_only_candidate_is_picked_even_if_avoided_or_out() {
    assert_eq!(once(&[FREE], Some(0)), Some(Picked { index: 0, choice: Choice::Usable }));
    assert_eq!(once(&[OUT], None), Some(Picked { index: 0, choice: Choice::Forced }));
    assert_eq!(once(&[OUT], Some(0)), Some(Picked { index: 0, choice: Choice::Forced }));
}

#[test]
fn equals_share_equally() {
    for count in tally(&[FREE; 5], None, 50_000) {
        assert!((9_500..10_500).contains(&count), "{count} of 50,000 among five");
    }
}

#[test]
fn of_two_the_cheaper_always_wins() {
    let cheap = View { cost: 0.5, ..FREE };
    assert_eq!(tally(&[FREE, cheap], None, 1000), [0, 1000]);
}

#[test]
fn the_dearest_of_many_is_never_picked_and_the_cheapest_not_always() {
    let views: Vec<_> = (0..10).map(|i| View { cost: f64::from(i), ..FREE }).collect();
    let counts = tally(&views, None, 9_000);
    // The cheapest wins whenever it is drawn: in two of ten draws of two.
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
    let dear = View { cost: 9.0, ..FREE };
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
    let cheap = View { cost: 0.5, ..OUT };
    for _ in 0..100 {
        assert_eq!(once(&[OUT, cheap], None), Some(Picked { index: 1, choice: Choice::Forced }));
    }
}

#[test]
fn a_retry_goes_elsewhere_even_where_it_is_dearer() {
    let cheap = View { cost: 0.1, ..FREE };
    assert_eq!(tally(&[cheap, FREE, FREE], Some(0), 1000)[0], 0);
}

#[test]
fn a_retry_goes_back_to_the_only_usable_endpoint_before_an_ejected_one() {
    assert_eq!(once(&[FREE, OUT, OUT], Some(0)), Some(Picked { index: 0, choice: Choice::Usable }));
}

#[test]
fn a_retry_with_all_ejected_goes_elsewhere() {
    let picked = once(&[OUT, OUT], Some(0));
    assert_eq!(picked, Some(Picked { index: 1, choice: Choice::Forced }));
}

#[test]
fn an_avoided_index_that_is_gone_is_forgotten() {
    let counts = tally(&[FREE; 3], Some(3), 3000);
    assert!(counts.iter().all(|&count| count > 800), "{counts:?}");
}

#[test]
fn cost_grows_with_latency_and_load_and_weight_bears_load() {
    assert_eq!(cost(2e6, 0, 1.0), 2e6);
    assert_eq!(cost(2e6, 3, 1.0), 8e6);
    assert_eq!(cost(2e6, 6, 2.0), 8e6);
    assert!(cost(0.0, 5, 1.0) > cost(0.0, 4, 1.0), "load counts even without latency");
    assert!(!cost(1e6, 0, 0.0).is_nan() && !cost(1e6, 1, 0.0).is_nan());
}

fn views() -> impl Strategy<Value = Vec<View>> {
    let view = (any::<bool>(), 0.0..1e9)
        .prop_map(|(usable, cost)| View { usable: if usable { Usable::Yes } else { Usable::No }, cost });
    prop::collection::vec(view, 1..12)
}

/// Weights for `len` candidates, half of the time all the same.
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
        let shares = Shares::new(weights.iter().copied());
        let picked = pick(&shares, avoid, &mut rng, |index| views[index]).unwrap();
        let usable = |index: &usize| views[*index].usable == Usable::Yes;
        let usable_others = (0..views.len()).filter(|&i| Some(i) != avoid).filter(usable).count();

        prop_assert!(picked.index < views.len());
        prop_assert_eq!(picked.choice == Choice::Usable, usable(&picked.index));
        prop_assert_eq!(picked.choice == Choice::Forced, (0..views.len()).all(|i| !usable(&i)));
        if Some(picked.index) == avoid {
            prop_assert!(views.len() == 1 || (usable(&picked.index) && usable_others == 0));
        }
        // Of distinct candidates the dearest never wins.
        if usable_others >= 2 && weights.iter().all(|&weight| weight == weights[0]) {
            let dearer = |i: &usize| views[*i].cost >= views[picked.index].cost && *i != picked.index;
            prop_assert!((0..views.len()).filter(usable).any(|i| dearer(&i)));
        }
    }
}
