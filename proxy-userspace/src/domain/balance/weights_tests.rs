use super::*;
use proptest::prelude::*;

/// How often each candidate is drawn, in per cent of all draws.
fn percent(len: usize, mut draw: impl FnMut(&mut fastrand::Rng) -> Option<(usize, usize)>) -> Vec<f64> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut counts = vec![0.0; len];
    for _ in 0..20_000 {
        let (first, second) = draw(&mut rng).unwrap();
        counts[first] += 1.0 / 400.0;
        counts[second] += 1.0 / 400.0;
    }
    counts
}

#[track_caller]
fn close(actual: &[f64], expected: &[f64]) {
    assert!(actual.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1.5), "{actual:?} is not {expected:?}");
}

#[test]
fn candidates_are_drawn_in_proportion_to_their_weights() {
    let shares = Weights::new([3.0, 1.0]);
    close(&percent(2, |rng| shares.draw_two(None, rng)), &[75.0, 25.0]);
    let shares = Weights::new([10.0, 40.0, 20.0, 30.0]);
    close(&percent(4, |rng| shares.draw_two(None, rng)), &[10.0, 40.0, 20.0, 30.0]);
    close(&percent(4, |rng| shares.draw_two(Some(1), rng)), &[16.7, 0.0, 33.3, 50.0]);
    close(&percent(4, |rng| shares.draw_two(Some(3), rng)), &[14.3, 57.1, 28.6, 0.0]);
    close(&percent(4, |rng| shares.draw_two_of([0, 2, 3].into_iter(), rng)), &[16.7, 0.0, 33.3, 50.0]);
}

#[test]
fn equal_candidates_are_drawn_equally() {
    let shares = Weights::new([0.5; 4]);
    assert_eq!(shares, Weights::equal(4));
    close(&percent(4, |rng| shares.draw_two(None, rng)), &[25.0; 4]);
    close(&percent(4, |rng| shares.draw_two(Some(0), rng)), &[0.0, 33.3, 33.3, 33.3]);
    // The first position as well as both: ties go to it.
    let firsts = percent(4, |rng| shares.draw_two_of(0..4, rng).map(|(first, _)| (first, first)));
    close(&firsts, &[25.0; 4]);
}

#[test]
fn weights_are_relative_to_their_mean() {
    let shares = Weights::new([1e300, 3e300]);
    assert!((shares.weight(0) - 0.5).abs() < 1e-9 && (shares.weight(1) - 1.5).abs() < 1e-9);
    assert_eq!(Weights::new([7.0, 7.0]).weight(1), 1.0);
}

#[test]
fn weights_no_source_produces_do_no_harm() {
    let mut rng = fastrand::Rng::with_seed(7);
    for weights in
        [[0.0, 1.0], [-1.0, 1.0], [f64::NAN, 1.0], [f64::INFINITY, 1.0], [f64::MAX, f64::MIN_POSITIVE]]
    {
        let shares = Weights::new(weights);
        for avoid in [None, Some(0), Some(1)] {
            let (first, second) = shares.draw_two(avoid, &mut rng).unwrap();
            assert!(first < 2 && second < 2 && Some(first) != avoid && Some(second) != avoid, "{weights:?}");
        }
    }
}

proptest! {
    #[test]
    fn draws_are_candidates_and_never_the_avoided(
        weights in prop_oneof![Just(vec![1.0; 7]), prop::collection::vec(1e-6..1e6, 2..20)],
        avoid in prop::option::of(0usize..20),
        seed in any::<u64>(),
    ) {
        let (len, shares) = (weights.len(), Weights::new(weights.iter().copied()));
        let avoid = avoid.filter(|&index| index < len);
        let mut rng = fastrand::Rng::with_seed(seed);
        let (first, second) = shares.draw_two(avoid, &mut rng).unwrap();
        prop_assert!(first < len && second < len);
        prop_assert!(Some(first) != avoid && Some(second) != avoid);

        let some = || (0..len).filter(|&index| Some(index) != avoid);
        let (first, second) = shares.draw_two_of(some(), &mut rng).unwrap();
        prop_assert!(some().any(|index| index == first) && some().any(|index| index == second));
        if weights.iter().all(|&weight| weight == 1.0) {
            prop_assert!(first != second);
        }
    }
}
