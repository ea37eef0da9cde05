//! What is normal in a cluster, and what a request weighs that was refused.

use super::*;

#[test]
fn lingering_requests_weigh_as_much_over_time_as_those_that_were_served() {
    let (start, hold) = (Instant::now(), Duration::from_millis(20));
    let mut lingering = Lingering::default();
    let mut sum = 0.0;
    for step in 0..20_000u32 {
        let now = start + step * MS / 10;
        // A refusal every 10 ms, of requests that take 20 ms: two are in flight at any time.
        if step % 100 == 0 {
            lingering.add(now, Duration::ZERO, hold);
        }
        sum += lingering.at(now, || hold);
    }
    let mean = sum / 20_000.0;
    assert!((1.8..2.2).contains(&mean), "{mean}");
    assert_eq!(lingering.at(start + Duration::from_secs(10), || hold), 0.0);
    lingering.add(start, hold * 2, hold);
    assert_eq!(lingering.at(start + Duration::from_secs(10), || hold), 0.0, "it took its time");
}

#[test]
fn levels_are_not_moved_far_by_one_observation() {
    let norms = Norms::default();
    assert_eq!(norms.answer(), None);
    for _ in 0..100 {
        norms.observe_answer(MS);
        norms.observe_hold(MS);
    }
    norms.observe_answer(Duration::from_secs(60));
    norms.observe_hold(Duration::from_secs(3600));
    let answer = norms.answer().unwrap() / latency::cost(MS);
    assert!((1.0..1.5).contains(&answer), "{answer}");
    assert!(norms.hold() < MS * 2);
}

#[test]
fn the_part_that_is_refused_is_no_norm_before_there_were_many() {
    let norms = Norms::default();
    let refuse = |times: usize| {
        for _ in 0..times {
            norms.pick();
            norms.begin();
            norms.refuse();
        }
    };
    refuse(5);
    assert!(norms.refused() < 0.2, "{}", norms.refused());
    refuse(1000);
    assert!(norms.refused() > 0.9, "{}", norms.refused());
}
