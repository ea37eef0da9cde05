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

/// An endpoint that fails one caller: (what it answers, whether the caller's requests go elsewhere soon).
#[test]
fn an_endpoint_that_fails_one_caller_is_ejected_for_that_caller_alone() {
    let other = Caller(2);
    for outcome in [
        Outcome::Answered(500),
        Outcome::Grpc(14),
        Outcome::Reset,
        Outcome::Timeout,
        Outcome::ConnectFailed,
        Outcome::ConnectTimeout,
        Outcome::NeverReached,
        Outcome::Silent,
        Outcome::BadFraming,
    ] {
        let mut bench = Bench::new(3);
        for _ in 0..5 {
            let ticket = bench.ticket(0);
            bench.end(0, ticket, MS, outcome);
        }
        let usable = |caller| bench.healths[0].usable(caller, bench.now, &bench.policy.breaker);
        assert_eq!((usable(ME), usable(other)), (Usable::No, Usable::Yes), "{outcome:?}");
        assert_eq!(bench.healths[0].ejected_for(), 1);
    }
}

#[test]
fn the_last_usable_endpoint_of_a_caller_stays_whatever_is_usable_for_others() {
    let other = Caller(2);
    let mut bench = Bench::new(2);
    for at in [0, 1] {
        for _ in 0..10 {
            let ticket = bench.ticket(at);
            bench.end(at, ticket, MS, Outcome::Answered(500));
        }
    }
    let usable = |at: usize, caller| bench.healths[at].usable(caller, bench.now, &bench.policy.breaker);
    assert_eq!((usable(0, ME), usable(1, ME)), (Usable::No, Usable::Spared));
    assert_eq!((usable(0, other), usable(1, other)), (Usable::Yes, Usable::Yes));
}

#[test]
fn what_a_pod_never_reached_is_no_news_of_the_endpoint_for_others() {
    let mut bench = Bench::new(1);
    let ticket = bench.ticket(0);
    bench.end(0, ticket, 10 * MS, OK);
    let before = bench.healths[0].latency();
    for _ in 0..20 {
        let ticket = bench.ticket(0);
        bench.end(0, ticket, SECOND, Outcome::NeverReached);
    }
    assert_eq!(bench.healths[0].latency(), before);
}
