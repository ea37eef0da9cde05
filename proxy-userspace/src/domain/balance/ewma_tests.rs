use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// A millisecond in the estimate's unit.
const MS_NS: f64 = 1e6;

fn observed(now: Instant, latency: Duration) -> PeakEwma {
    let mut estimate = PeakEwma::new(now, SECOND, PeakEwma::DECAY);
    estimate.observe(now, latency);
    estimate
}

#[track_caller]
fn close(actual: f64, expected: f64) {
    assert!((actual / expected - 1.0).abs() < 1e-6, "{actual} is not {expected}");
}

#[test]
fn a_guess_fades_until_the_endpoint_is_tried() {
    let now = Instant::now();
    let estimate = PeakEwma::new(now, SECOND, PeakEwma::DECAY);
    assert_eq!(estimate.observed(now), None);
    close(estimate.at(now), 1e9);
    close(estimate.at(now + PeakEwma::DECAY), 1e9 / std::f64::consts::E);
}

#[test]
fn the_first_observation_replaces_the_guess() {
    let now = Instant::now();
    let estimate = observed(now, 3 * MS);
    close(estimate.at(now), 3.0 * MS_NS);
    assert_eq!(estimate.observed(now), Some(estimate.at(now)));
}

#[test]
fn a_peak_is_believed_at_once() {
    let now = Instant::now();
    let mut estimate = observed(now, MS);
    estimate.observe(now + MS, 50 * MS);
    close(estimate.at(now + MS), 50.0 * MS_NS);
}

#[test]
fn better_latency_is_believed_slowly() {
    let now = Instant::now();
    let mut estimate = observed(now, 100 * MS);
    // Finagle's arithmetic: the old value weighs e^(-elapsed / decay), the new one the rest.
    estimate.observe(now + SECOND, 10 * MS);
    let old = (-0.1f64).exp();
    close(estimate.at(now + SECOND), (100.0 * old + 10.0 * (1.0 - old)) * MS_NS);
}

#[test]
fn reading_changes_nothing() {
    let now = Instant::now();
    let estimate = observed(now, MS);
    let later = estimate.at(now + SECOND);
    let _ = estimate.at(now + 100 * SECOND);
    assert_eq!(estimate.at(now + SECOND), later);
}

#[test]
fn a_fast_failure_does_not_look_fast() {
    let start = Instant::now();
    let idle = observed(start, 10 * MS);
    let mut failing = idle.clone();
    for step in 1..=100 {
        failing.observe_failure(start + step * 10 * MS, MS / 100);
    }
    close(failing.at(start + SECOND), idle.at(start + SECOND));
}

#[test]
fn a_slow_failure_counts_for_its_time() {
    let now = Instant::now();
    let mut estimate = observed(now, MS);
    estimate.observe_failure(now, 2 * SECOND);
    close(estimate.at(now), 2e9);
}

#[test]
fn a_new_endpoint_that_fails_keeps_its_guess() {
    let now = Instant::now();
    let mut estimate = PeakEwma::new(now, MS, PeakEwma::DECAY);
    estimate.observe_failure(now, MS / 100);
    close(estimate.at(now), MS_NS);
    estimate.observe_failure(now, 5 * MS);
    close(estimate.at(now), 5.0 * MS_NS);
    assert_eq!(estimate.observed(now), None, "it is still a guess");
}

#[test]
fn a_clock_read_before_the_lock_does_no_harm() {
    let now = Instant::now();
    let mut estimate = observed(now + SECOND, 10 * MS);
    estimate.observe(now, MS);
    close(estimate.at(now), 10.0 * MS_NS);
    close(estimate.at(now + SECOND), 10.0 * MS_NS);
}

#[test]
fn a_decay_of_zero_believes_the_last_observation() {
    let now = Instant::now();
    let mut estimate = PeakEwma::new(now, SECOND, Duration::ZERO);
    estimate.observe(now, 9 * MS);
    estimate.observe(now + MS, MS);
    close(estimate.at(now + MS), MS_NS);
}

#[test]
fn a_joining_endpoint_starts_at_the_median_of_its_peers() {
    let now = Instant::now();
    let joining = |peers: &[f64]| PeakEwma::joining(now, peers.iter().copied(), PeakEwma::DECAY);
    close(joining(&[]).at(now), 1e9);
    close(joining(&[3e6]).at(now), 3e6);
    close(joining(&[60e9, 3e6, 2e6]).at(now), 3e6);
    close(joining(&[60e9, 3e6]).at(now), 3e6);
    assert_eq!(joining(&[3e6]).observed(now), None, "it is still a guess");
}

#[derive(Clone, Debug)]
enum Step {
    Success(Duration, Duration),
    Failure(Duration, Duration),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let times = || (0u64..20_000_000, 0u64..100_000_000);
    let micros = |(wait, latency)| (Duration::from_micros(wait), Duration::from_micros(latency));
    let step = prop_oneof![
        times().prop_map(micros).prop_map(|(wait, latency)| Step::Success(wait, latency)),
        times().prop_map(micros).prop_map(|(wait, latency)| Step::Failure(wait, latency)),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn an_estimate_is_finite_and_at_least_the_last_observation(steps in steps()) {
        let mut now = Instant::now();
        let mut estimate = PeakEwma::new(now, SECOND, PeakEwma::DECAY);
        let mut longest: f64 = nanoseconds(SECOND);
        for step in steps {
            let (Step::Success(wait, latency) | Step::Failure(wait, latency)) = step;
            now += wait;
            let before = estimate.at(now);
            match step {
                Step::Success(..) => estimate.observe(now, latency),
                Step::Failure(..) => estimate.observe_failure(now, latency),
            }
            longest = longest.max(nanoseconds(latency));
            let after = estimate.at(now);
            prop_assert!(after.is_finite() && after >= nanoseconds(latency) * (1.0 - 1e-9));
            prop_assert!(after <= longest * (1.0 + 1e-9));
            if matches!(step, Step::Failure(..)) {
                prop_assert!(after >= before * (1.0 - 1e-9), "a failure never makes an endpoint look better");
            }
        }
    }

    #[test]
    fn an_estimate_only_falls_while_nothing_is_observed(latency in 0u64..10_000, a in 0u64..100, b in 0u64..100) {
        let now = Instant::now();
        let estimate = observed(now, Duration::from_millis(latency));
        let (early, late) = (a.min(b), a.max(b));
        let at = |seconds| estimate.at(now + Duration::from_secs(seconds));
        prop_assert!(at(late) <= at(early));
    }
}
