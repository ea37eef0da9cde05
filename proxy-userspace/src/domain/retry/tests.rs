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
    let bounds = [
        (5_000, 7_500),
        (5_000, 10_000),
        (10_000, 20_000),
        (20_000, 40_000),
        (40_000, 80_000),
        (80_000, 160_000),
        (150_000, 300_000),
        (150_000, 300_000),
    ];
    for (step, (low, high)) in bounds.into_iter().enumerate() {
        let delays: Vec<_> = (0..1000).map(|_| LINKERD.delay(step as u32, &mut rng)).collect();
        let (low, high) = (Duration::from_millis(low), Duration::from_millis(high));
        assert!(delays.iter().all(|delay| (low..=high).contains(delay)), "step {step}");
        let spread = *delays.iter().max().unwrap() - *delays.iter().min().unwrap();
        assert!(spread >= (high - low).mul_f64(0.95), "step {step} uses its range");
    }
}

#[test]
fn no_wait_is_shorter_than_the_minimum_or_longer_than_the_maximum() {
    let mut rng = fastrand::Rng::with_seed(7);
    for (min, max) in [(5, 5), (5, 6), (5, 9), (5, 11), (200, 300)] {
        let (min, max) = (Duration::from_secs(min), Duration::from_secs(max));
        for step in 0..20 {
            let delay = Backoff { min, max }.delay(step, &mut rng);
            assert!((min..=max).contains(&delay), "step {step} of {min:?} to {max:?} is {delay:?}");
        }
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
        prop_assert!(delay >= backoff.min.min(backoff.max));
    }
}

const NONE: Duration = Duration::ZERO;
const BUDGET: Duration = Duration::from_secs(3);

#[test]
fn attempts_that_reached_an_endpoint_are_limited_by_their_number() {
    let mut tries = Tries::new(3, 1, BUDGET);
    assert_eq!([tries.reached(), tries.reached(), tries.reached()], [Next::Now, Next::Now, Next::Never]);
    assert_eq!(Tries::new(1, 1, BUDGET).reached(), Next::Never);
}

#[test]
fn connects_that_fail_use_up_no_attempt_while_an_endpoint_is_left() {
    let mut tries = Tries::new(3, 1, BUDGET);
    for _ in 0..7 {
        assert_eq!(tries.unreached(NONE, true), Next::Now);
    }
    assert!(tries.may_repeat());
    assert_eq!([tries.reached(), tries.reached(), tries.reached()], [Next::Now, Next::Now, Next::Never]);
}

#[test]
fn an_endpoint_that_was_tried_is_tried_again_only_as_often_as_attempts_says() {
    let mut tries = Tries::new(3, 1, BUDGET);
    assert_eq!(tries.unreached(NONE, false), Next::Now);
    assert_eq!(tries.unreached(NONE, false), Next::Now);
    assert_eq!(tries.unreached(NONE, false), Next::Never);
    let mut tries = Tries::new(3, 1, BUDGET);
    assert_eq!((0..4).map(|_| tries.unreached(NONE, true)).last(), Some(Next::Now));
    assert_eq!(tries.unreached(NONE, false), Next::Never);
}

#[test]
fn connects_that_fail_are_limited_by_their_time() {
    let mut tries = Tries::new(3, 1, BUDGET);
    let second = Duration::from_secs(1);
    assert_eq!(tries.connect(second), second);
    assert_eq!(tries.unreached(second, true), Next::Now);
    assert_eq!(tries.unreached(second + second / 2, true), Next::Now);
    assert_eq!(tries.connect(second), second / 2);
    assert_eq!(tries.unreached(second / 2, true), Next::Never);
}

#[test]
fn a_thousand_endpoints_that_refuse_cost_a_request_some_tens_of_connects() {
    let mut tries = Tries::new(3, 1, BUDGET);
    let (mut connects, mut waited) = (0, NONE);
    loop {
        connects += 1;
        match tries.unreached(NONE, true) {
            Next::Now => assert!(connects <= 8, "more than eight at once"),
            Next::After(pause) => waited += pause,
            Next::Never => break,
        }
    }
    assert!((30..60).contains(&connects), "{connects}");
    assert!(waited <= BUDGET, "{waited:?}");
}
