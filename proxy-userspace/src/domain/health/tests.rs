mod callers;
mod left_alone;
mod norms;

use super::*;
use crate::domain::balance::{Balancer, Choice, Weights};
use crate::domain::outcome::Outcome;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const OK: Outcome = Outcome::Answered(200);

/// Everybody's requests, where nothing else is said.
const ME: Caller = Caller(1);

/// Endpoints with a clock that the test controls.
struct Bench {
    healths: Vec<Health>,
    weights: Weights,
    norms: Norms,
    policy: Policy,
    now: Instant,
    rng: fastrand::Rng,
}

impl Tier for Bench {
    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn health(&self, at: usize) -> &Health {
        &self.healths[at]
    }
}

impl Bench {
    fn new(endpoints: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(7);
        Self {
            healths: (0..endpoints).map(|_| Health::new(rng.fork())).collect(),
            weights: Weights::equal(endpoints),
            norms: Norms::default(),
            policy: Policy { balancer: Balancer::P2c, ..Policy::default() },
            now: Instant::now(),
            rng,
        }
    }

    fn select(&mut self, tried: &[usize]) -> Selected {
        let mut rng = self.rng.fork();
        let last = tried.last().copied();
        select(
            ME,
            self,
            &self.norms,
            &self.policy,
            (self.now, &mut rng),
            (|at| tried.contains(&at), last),
            |_| 1.0,
        )
        .unwrap()
    }

    /// A request to endpoint `at`, bypassing the balancer.
    fn ticket(&mut self, at: usize) -> Ticket {
        let begun = self.healths[at].begin(ME, self.now, &self.norms, &self.policy.breaker);
        Ticket::new(ME, begun, self.now, None)
    }

    fn end(&mut self, at: usize, mut ticket: Ticket, took: Duration, outcome: Outcome) -> Finished {
        self.now += took;
        let health = &self.healths[at];
        let scene = Scene { tier: self, health, norms: &self.norms, policy: &self.policy.breaker };
        if matches!(outcome, Outcome::Answered(_)) {
            ticket.answered(self.now, outcome, &scene);
        }
        let finished = ticket.finish(self.now, outcome, &scene);
        health.release();
        finished
    }

    /// One request at a time; returns the endpoint that got it.
    fn request(&mut self, serve: impl Fn(usize) -> (Duration, Outcome)) -> usize {
        let Selected { at, ticket, .. } = self.select(&[]);
        let (took, outcome) = serve(at);
        self.end(at, ticket, took, outcome);
        at
    }

    fn counts(&mut self, requests: usize, serve: impl Fn(usize) -> (Duration, Outcome)) -> Vec<usize> {
        let mut counts = vec![0; self.healths.len()];
        for _ in 0..requests {
            counts[self.request(&serve)] += 1;
        }
        counts
    }
}

#[test]
fn equals_take_turns() {
    let mut bench = Bench::new(3);
    let counts = bench.counts(600, |_| (MS, OK));
    assert!(counts.iter().all(|count| (190..=210).contains(count)), "{counts:?}");
}

#[test]
fn a_tie_goes_to_whoever_was_asked_longest_ago() {
    let mut bench = Bench::new(2);
    let mut turns: Vec<_> = (0..10).map(|_| bench.request(|_| (MS, OK))).collect();
    turns.dedup();
    assert_eq!(turns.len(), 10, "two equals alternate");
}

#[test]
fn who_has_less_to_do_is_asked_however_long_the_other_has_waited() {
    let mut bench = Bench::new(2);
    let (first, second) = (bench.select(&[]), bench.select(&[]));
    assert_ne!(first.at, second.at);
    bench.end(second.at, second.ticket, MS, OK);
    for _ in 0..5 {
        assert_eq!(bench.request(|_| (MS, OK)), second.at);
    }
}

#[test]
fn a_request_that_was_tried_goes_elsewhere_also_when_all_are_out() {
    let mut bench = Bench::new(3);
    for _ in 0..50 {
        let Selected { at, ticket, .. } = bench.select(&[0, 2]);
        assert_eq!(at, 1);
        bench.end(at, ticket, MS, OK);
        let Selected { at, choice, .. } = bench.select(&[0, 1, 2]);
        assert!(at < 3 && choice == Choice::Forced, "where all were tried any of them will do");
    }
}

#[test]
fn the_breaker_hears_of_a_failure_at_the_head_and_only_once() {
    let mut bench = Bench::new(2);
    for _ in 0..5 {
        let ticket = bench.ticket(0);
        let finished = bench.end(0, ticket, MS, Outcome::Answered(500));
        assert_eq!(finished.verdict, breaker::Verdict::Failure);
    }
    assert!(matches!(bench.healths[0].breaker(bench.now, &bench.policy.breaker), State::Open { .. }));
    assert_eq!(bench.healths[0].in_flight(), 0);
}

#[test]
fn an_answer_cut_short_is_a_failure_whatever_its_status_said() {
    let mut bench = Bench::new(2);
    for _ in 0..5 {
        let mut ticket = bench.ticket(0);
        let health = &bench.healths[0];
        let scene = Scene { tier: &bench, health, norms: &bench.norms, policy: &bench.policy.breaker };
        assert_eq!(ticket.answered(bench.now, OK, &scene), None);
        ticket.finish(bench.now, Outcome::Reset, &scene);
        health.release();
    }
    assert!(matches!(bench.healths[0].breaker(bench.now, &bench.policy.breaker), State::Open { .. }));
}

#[test]
fn a_tunnel_that_has_lived_works_and_may_fail_all_the_same() {
    let mut bench = Bench::new(2);
    for failures in [4, 5] {
        for _ in 0..failures {
            let ticket = bench.ticket(0);
            bench.end(0, ticket, MS, Outcome::ConnectFailed);
        }
        if failures == 5 {
            break;
        }
        // It restarts the count, long before it ends.
        let mut ticket = bench.ticket(0);
        let health = &bench.healths[0];
        let scene = Scene { tier: &bench, health, norms: &bench.norms, policy: &bench.policy.breaker };
        assert_eq!(ticket.answered(bench.now, Outcome::Carried, &scene), None);
        health.release();
    }
    assert!(matches!(bench.healths[0].breaker(bench.now, &bench.policy.breaker), State::Open { .. }));

    let mut bench = Bench::new(2);
    for _ in 0..5 {
        let mut ticket = bench.ticket(0);
        let health = &bench.healths[0];
        let scene = Scene { tier: &bench, health, norms: &bench.norms, policy: &bench.policy.breaker };
        ticket.answered(bench.now, Outcome::Carried, &scene);
        assert_eq!(ticket.finish(bench.now, Outcome::Reset, &scene).verdict, breaker::Verdict::Failure);
        health.release();
    }
    assert_eq!(
        bench.healths[0].breaker(bench.now, &bench.policy.breaker),
        State::Closed,
        "each had lived before"
    );
}

#[test]
fn an_endpoint_that_ends_its_tunnels_early_while_those_of_others_live_is_ejected() {
    let mut bench = Bench::new(2);
    for _ in 0..40 {
        let ticket = bench.ticket(1);
        bench.end(1, ticket, SECOND, Outcome::Carried);
    }
    let is_open = |bench: &Bench, at: usize| {
        matches!(bench.healths[at].breaker(bench.now, &bench.policy.breaker), State::Open { .. })
    };
    let mut verdicts = Vec::new();
    while !is_open(&bench, 0) && verdicts.len() < 50 {
        let ticket = bench.ticket(0);
        verdicts.push(bench.end(0, ticket, MS, Outcome::EndedEarly).verdict);
    }
    assert!(is_open(&bench, 0) && !is_open(&bench, 1), "{verdicts:?}");
    // The first four may be chance; from then on each is a failure, and five failures eject.
    let unknown = verdicts.iter().filter(|it| **it == breaker::Verdict::Unknown).count();
    assert_eq!((unknown, verdicts.len()), (4, 9), "{verdicts:?}");
}

#[test]
fn the_only_endpoint_is_asked_whatever_it_says() {
    let mut bench = Bench::new(1);
    for outcome in [Outcome::Answered(429), Outcome::Answered(500), Outcome::EndedEarly, Outcome::Timeout] {
        assert_eq!(bench.counts(20, |_| (MS, outcome)), [20], "{outcome:?}");
    }
}

#[test]
fn a_restored_endpoint_begins_anew() {
    for others in [false, true] {
        let mut bench = Bench::new(2);
        bench.counts(50, |_| (MS, OK));
        if others {
            bench.healths[0].begin(Caller(2), bench.now, &bench.norms, &bench.policy.breaker);
            bench.healths[0].release();
        }
        for _ in 0..5 {
            let ticket = bench.ticket(0);
            bench.end(0, ticket, Duration::from_secs(2), Outcome::Timeout);
        }
        assert!(matches!(bench.healths[0].breaker(bench.now, &bench.policy.breaker), State::Open { .. }));
        bench.now += Duration::from_secs(8);
        let ticket = bench.ticket(0);
        bench.end(0, ticket, MS, OK);
        assert_eq!(bench.healths[0].breaker(bench.now, &bench.policy.breaker), State::Closed);
        let latency = bench.healths[0].latency();
        assert!(latency.is_some_and(|it| it < 5 * MS), "{latency:?} with others: {others}");
        let counts = bench.counts(100, |_| (MS, OK));
        assert!(counts[0] >= 45, "{counts:?}");
    }
}

#[test]
fn the_cost_of_a_pick_does_not_grow_with_the_number_of_endpoints() {
    // Counts, instead of timing, how many endpoints are looked at.
    struct Counted<'a>(&'a Bench, std::cell::Cell<usize>);
    impl Tier for Counted<'_> {
        fn weights(&self) -> &Weights {
            &self.0.weights
        }
        fn health(&self, at: usize) -> &Health {
            self.1.set(self.1.get() + 1);
            &self.0.healths[at]
        }
    }
    for endpoints in [3, 5000] {
        let bench = Bench::new(endpoints);
        let tier = Counted(&bench, std::cell::Cell::new(0));
        let mut rng = fastrand::Rng::with_seed(7);
        for request in 0..1000 {
            let before = tier.1.get();
            let (norms, policy) = (&bench.norms, &bench.policy);
            let selected =
                select(ME, &tier, norms, policy, (bench.now, &mut rng), (|_| false, None), |_| 1.0);
            let Selected { at, mut ticket, .. } = selected.unwrap();
            let health = &bench.healths[at];
            let scene = Scene { tier: &tier, health, norms: &bench.norms, policy: &bench.policy.breaker };
            ticket.answered(bench.now, OK, &scene);
            ticket.finish(bench.now, OK, &scene);
            health.release();
            assert!(tier.1.get() - before <= 4, "request {request} of {endpoints}");
        }
    }
}

#[test]
fn an_endpoint_in_doubt_is_left_alone_while_there_is_another() {
    let mut bench = Bench::new(3);
    bench.healths[1].doubts().add();
    for _ in 0..100 {
        assert_ne!(bench.request(|_| (MS, OK)), 1);
    }
    // If all of them are in doubt, one is picked anyway.
    for at in [0, 2] {
        bench.healths[at].doubts().add();
    }
    let Selected { at, ticket, .. } = bench.select(&[0, 2]);
    assert_eq!(at, 1);
    bench.end(at, ticket, MS, OK);
    for at in [0, 2] {
        bench.healths[at].doubts().remove();
    }
    bench.healths[1].doubts().remove();
    let asked: Vec<_> = (0..30).map(|_| bench.request(|_| (MS, OK))).collect();
    assert!(asked.contains(&1), "{asked:?}");
}
