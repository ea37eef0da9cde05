//! Endpoints that ask to be left alone for a while (Retry-After).

use super::*;

#[test]
fn answers_of_429_are_no_failures_and_put_off_the_next_request() {
    let mut bench = Bench::new(2);
    let counts = bench.counts(200, |at| if at == 0 { (MS / 10, Outcome::Answered(429)) } else { (MS, OK) });
    assert!(counts[0] <= 10, "{counts:?}");
    assert_eq!(bench.healths[0].breaker(bench.now, &bench.policy.breaker), State::Closed);
    assert_eq!(bench.healths[0].latency(), None, "how soon it refuses is not how soon it answers");
}

#[test]
fn who_asks_to_be_left_alone_is_until_then_and_no_longer() {
    let mut bench = Bench::new(2);
    bench.counts(20, |_| (MS, OK));
    let ticket = bench.ticket(0);
    let scene =
        Scene { tier: &bench, health: &bench.healths[0], norms: &bench.norms, policy: &bench.policy.breaker };
    ticket.leave_alone(bench.now, Duration::from_secs(3), 60 * SECOND, &scene);
    bench.end(0, ticket, MS, Outcome::Answered(429));
    assert!(bench.healths[0].left_alone(bench.now).is_some());
    assert_eq!(bench.counts(1000, |_| (MS, OK)), [0, 1000]);
    bench.now += Duration::from_secs(3);
    let counts = bench.counts(100, |_| (MS, OK));
    assert!(counts[0] >= 45, "{counts:?}");
}

#[test]
fn who_asks_for_a_year_gets_the_longest_that_is_set_and_nothing_where_that_is_nothing() {
    let mut bench = Bench::new(2);
    let ticket = bench.ticket(0);
    let scene =
        Scene { tier: &bench, health: &bench.healths[0], norms: &bench.norms, policy: &bench.policy.breaker };
    let (year, now) = (365 * 86_400 * SECOND, bench.now);
    ticket.leave_alone(now, year, Duration::ZERO, &scene);
    assert_eq!(bench.healths[0].left_alone(now), None);
    ticket.leave_alone(now, year, 300 * SECOND, &scene);
    assert_eq!(bench.healths[0].left_alone(now + 299 * SECOND), Some(SECOND));
    assert_eq!(bench.healths[0].left_alone(now + 300 * SECOND), None);
    ticket.leave_alone(now + SECOND, SECOND, 300 * SECOND, &scene);
    assert!(bench.healths[0].left_alone(now + 299 * SECOND).is_some(), "the longest that was asked for");
}

/// These endpoints ask to be left alone for a minute.
fn leave_alone(bench: &mut Bench, which: &[usize]) {
    for &at in which {
        let ticket = bench.ticket(at);
        let (health, policy) = (&bench.healths[at], &bench.policy.breaker);
        let scene = Scene { tier: bench, health, norms: &bench.norms, policy };
        ticket.leave_alone(bench.now, 60 * SECOND, 60 * SECOND, &scene);
        bench.end(at, ticket, MS, Outcome::Answered(503));
    }
}

#[test]
fn where_all_ask_to_be_left_alone_all_are_asked_alike() {
    let mut bench = Bench::new(3);
    leave_alone(&mut bench, &[0, 1, 2]);
    let counts = bench.counts(300, |_| (MS, OK));
    assert!(counts.iter().all(|&count| (80..=120).contains(&count)), "{counts:?}");
}

#[test]
fn who_asks_to_be_left_alone_is_asked_once_the_others_have_eight_times_as_much_to_do() {
    let mut bench = Bench::new(2);
    bench.counts(20, |_| (MS, OK));
    leave_alone(&mut bench, &[0]);
    let mut others = Vec::new();
    let first = loop {
        match bench.select(&[]) {
            Selected { at: 1, ticket, .. } => others.push(ticket),
            Selected { at, .. } => break at,
        }
        assert!(others.len() < 20, "a busy endpoint gets all");
    };
    assert_eq!(first, 0);
    assert!(others.len() >= 7, "{} were enough", others.len());
}
