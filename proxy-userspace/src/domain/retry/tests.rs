use super::*;
use proptest::prelude::*;
use std::time::Duration;

const LINKERD: Backoff = Backoff { min: Duration::from_secs(5), max: Duration::from_secs(300) };

#[test]
fn the_default_is_linkerds() {
    assert_eq!(Backoff::default(), LINKERD);
}

#[test]
fn each_step_lies_between_a_half_and_a_whole_of_twice_the_last() {
    let mut rng = fastrand::Rng::with_seed(7);
    let bounds = [(5, 5), (5, 10), (10, 20), (20, 40), (40, 80), (80, 160), (150, 300), (150, 300)];
    for (step, (low, high)) in bounds.into_iter().enumerate() {
        let delays: Vec<_> = (0..1000).map(|_| LINKERD.delay(step as u32, &mut rng)).collect();
        let (low, high) = (Duration::from_secs(low), Duration::from_secs(high));
        assert!(delays.iter().all(|delay| (low..=high).contains(delay)), "step {step}");
        let spread = *delays.iter().max().unwrap() - *delays.iter().min().unwrap();
        assert!(spread >= (high - low).mul_f64(0.95), "step {step} uses its range");
    }
}

#[test]
fn a_maximum_below_the_minimum_wins() {
    let backoff = Backoff { min: Duration::from_secs(5), max: Duration::from_secs(1) };
    assert_eq!(backoff.delay(0, &mut fastrand::Rng::with_seed(7)), Duration::from_secs(1));
}

proptest! {
    #[test]
    fn no_step_passes_the_maximum_or_panics(
        min in any::<u64>(), max in any::<u64>(), step in any::<u32>(), seed in any::<u64>(),
    ) {
        let backoff = Backoff { min: Duration::from_nanos(min), max: Duration::from_nanos(max) };
        let delay = backoff.delay(step, &mut fastrand::Rng::with_seed(seed));
        prop_assert!(delay <= backoff.max);
        prop_assert!(delay >= backoff.min.min(backoff.max / 2));
    }
}
