use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

/// The estimate after these times.
fn after(times: &[Duration], norm: Option<f64>) -> f64 {
    let mut latency = Latency::default();
    times.iter().for_each(|&time| latency.observe(time, norm));
    latency.cost().unwrap()
}

#[test]
fn nothing_is_known_before_the_first_answer() {
    assert_eq!((Latency::default().cost(), Latency::default().estimate()), (None, None));
    assert_eq!(after(&[3 * MS], None), cost(3 * MS));
}

#[test]
fn the_estimate_is_shown_without_the_floor() {
    let mut latency = Latency::default();
    latency.observe(3 * MS, None);
    assert_eq!(latency.estimate(), Some(3 * MS));
}

#[test]
fn two_slow_answers_of_any_length_stay_below_what_matters_and_the_third_does_not() {
    for slow in [20 * MS, 100 * MS, 3_600_000 * MS] {
        let usual = [MS; 20];
        let ratio = |slow: &[Duration]| after(&[&usual, slow].concat(), None) / cost(MS);
        assert!(ratio(&[slow]) < 1.7 && ratio(&[slow; 2]) < super::super::ALIKE, "{slow:?}");
        assert!(ratio(&[slow; 3]) > super::super::ALIKE, "{slow:?}");
    }
}

#[test]
fn one_that_stays_slow_is_soon_known_as_that() {
    let times = [[MS; 10], [10 * MS; 10]].concat();
    assert!(after(&times, None) > 0.85 * cost(10 * MS));
}

#[test]
fn a_first_answer_is_one_among_those_of_the_cluster() {
    let norm = cost(MS);
    assert!(after(&[3000 * MS], Some(norm)) < 1.7 * norm);
    assert!(after(&[Duration::ZERO], Some(norm)) > 0.7 * norm);
}

#[test]
fn what_is_no_answer_makes_nobody_look_fast() {
    let mut latency = Latency::default();
    latency.observe(10 * MS, None);
    for _ in 0..100 {
        latency.observe_at_least(MS / 10, None);
    }
    assert_eq!(latency.cost(), Some(cost(10 * MS)));
    latency.observe_at_least(1000 * MS, None);
    assert!(latency.cost() > Some(cost(10 * MS)), "but it may show that it is slow");
    let mut new = Latency::default();
    new.observe_at_least(MS / 10, Some(cost(MS)));
    assert_eq!(new.cost(), None);
}

proptest! {
    #[test]
    fn an_estimate_lies_between_the_shortest_and_the_longest_answer(
        times in prop::collection::vec(0u64..100_000_000, 1..40),
    ) {
        let times: Vec<_> = times.into_iter().map(Duration::from_micros).collect();
        let (shortest, longest) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        let estimate = after(&times, None);
        prop_assert!(estimate >= cost(*shortest) * 0.999 && estimate <= cost(*longest) * 1.001);
    }
}
