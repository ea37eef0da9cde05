use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// A breaker with its own clock and linkerd's policy.
struct Bench {
    breaker: Breaker,
    policy: Policy,
    now: Instant,
    rng: fastrand::Rng,
}

impl Bench {
    fn new() -> Self {
        let (breaker, policy) = (Breaker::default(), Policy::default());
        Self { breaker, policy, now: Instant::now(), rng: fastrand::Rng::with_seed(7) }
    }

    fn state(&self) -> State {
        self.breaker.state(self.now, &self.policy)
    }

    fn admits(&self) -> bool {
        matches!(self.state(), State::Closed | State::Due)
    }

    fn begin(&mut self) -> Permit {
        self.breaker.begin(self.now, &self.policy)
    }

    fn end(&mut self, permit: Permit, verdict: Verdict) -> Option<Transition> {
        self.breaker.end(self.now, permit, verdict, Peers::Usable, (&self.policy, &mut self.rng))
    }

    fn end_alone(&mut self, permit: Permit, verdict: Verdict) -> Option<Transition> {
        self.breaker.end(self.now, permit, verdict, Peers::None, (&self.policy, &mut self.rng))
    }

    /// One whole request.
    fn request(&mut self, verdict: Verdict) -> Option<Transition> {
        let permit = self.begin();
        self.end(permit, verdict)
    }

    fn ejected() -> Self {
        let mut bench = Self::new();
        for _ in 0..5 {
            bench.request(Verdict::Failure);
        }
        assert!(matches!(bench.state(), State::Open { .. }));
        bench
    }

    fn due() -> Self {
        let mut bench = Self::ejected();
        bench.now += 8 * SECOND;
        assert_eq!(bench.state(), State::Due);
        bench
    }
}

/// The wait after a first ejection.
#[track_caller]
fn first_wait(transition: Option<Transition>) -> Duration {
    let Some(Transition::Ejected { retry_in }) = transition else { panic!("{transition:?} is no ejection") };
    assert!((5 * SECOND..=15 * SECOND / 2).contains(&retry_in), "{retry_in:?}");
    retry_in
}

#[test]
fn the_first_waits_of_many_that_saw_the_same_failure_differ() {
    let wait = |seed| {
        let mut bench = Bench { rng: fastrand::Rng::with_seed(seed), ..Bench::new() };
        (0..5).find_map(|_| bench.request(Verdict::Failure))
    };
    let waits: std::collections::BTreeSet<_> = (0..100).map(|seed| first_wait(wait(seed))).collect();
    assert!(waits.len() > 90, "{waits:?}");
}

#[test]
fn an_endpoint_that_is_spared_is_not_one_to_rely_on() {
    let mut bench = Bench::new();
    for failures in 0..10 {
        assert_eq!(bench.breaker.is_usable(&bench.policy), failures < 5, "{failures}");
        let permit = bench.begin();
        assert_eq!(bench.end_alone(permit, Verdict::Failure), None);
    }
    bench.request(Verdict::Success);
    assert!(bench.breaker.is_usable(&bench.policy));
}

#[test]
fn another_policy_holds_from_the_next_outcome_on_and_forgets_nothing() {
    let mut bench = Bench::new();
    bench.request(Verdict::Failure);
    bench.request(Verdict::Failure);
    bench.policy = Policy { failures: 3, backoff: Backoff { min: SECOND, max: SECOND }, ..bench.policy };
    assert_eq!(bench.request(Verdict::Failure), Some(Transition::Ejected { retry_in: SECOND }));
    bench.policy = Policy::default();
    assert_eq!(
        bench.state(),
        State::Open { until: bench.now + 5 * SECOND },
        "it stays open, no less than the shortest wait"
    );
}

#[test]
fn the_default_is_linkerds() {
    let policy = Policy::default();
    assert_eq!(policy.failures, 5);
    assert_eq!(policy.backoff, Backoff { min: 5 * SECOND, max: 300 * SECOND });
}

#[test]
fn the_fifth_failure_in_a_row_ejects() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        assert_eq!(bench.request(Verdict::Failure), None);
        assert!(bench.admits());
    }
    let retry_in = first_wait(bench.request(Verdict::Failure));
    assert_eq!(bench.state(), State::Open { until: bench.now + retry_in });
    assert!(!bench.admits());
}

#[test]
fn a_success_in_between_starts_the_count_again() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        for _ in 0..4 {
            assert_eq!(bench.request(Verdict::Failure), None);
        }
        assert_eq!(bench.request(Verdict::Success), None);
    }
}

#[test]
fn a_client_that_leaves_neither_adds_to_the_count_nor_resets_it() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.request(Verdict::Failure);
        assert_eq!(bench.request(Verdict::Unknown), None);
    }
    assert!(bench.request(Verdict::Failure).is_some());
}

#[test]
fn exactly_one_request_probes() {
    let mut bench = Bench::due();
    assert!(bench.admits());
    assert!(matches!(bench.begin(), Permit::Probe(..)));
    assert_eq!(bench.state(), State::Probing);
    assert!(!bench.admits());
    assert!(matches!(bench.begin(), Permit::Forced(_)));
}

#[test]
fn a_successful_probe_restores() {
    let mut bench = Bench::due();
    assert_eq!(bench.request(Verdict::Success), Some(Transition::Restored));
    assert_eq!(bench.state(), State::Closed);
    // Both are reset: the failure count and the backoff step.
    for _ in 0..4 {
        assert_eq!(bench.request(Verdict::Failure), None);
    }
    first_wait(bench.request(Verdict::Failure));
}

#[test]
fn each_failed_probe_waits_longer_up_to_the_maximum() {
    let mut bench = Bench::due();
    let bounds = [(5, 10), (10, 20), (20, 40), (40, 80), (80, 160), (150, 300), (150, 300)];
    for (low, high) in bounds {
        let Some(Transition::Ejected { retry_in }) = bench.request(Verdict::Failure) else {
            panic!("a failed probe ejects again");
        };
        assert!((low * SECOND..=high * SECOND).contains(&retry_in), "{retry_in:?} in {low}..={high}");
        bench.now += retry_in - SECOND / 1000;
        assert!(matches!(bench.state(), State::Open { .. }));
        bench.now += SECOND / 1000;
        assert_eq!(bench.state(), State::Due);
    }
}

#[test]
fn a_probe_without_a_verdict_lets_the_next_request_probe() {
    let mut bench = Bench::due();
    assert_eq!(bench.request(Verdict::Unknown), None);
    assert_eq!(bench.state(), State::Due);
    assert_eq!(bench.request(Verdict::Success), Some(Transition::Restored));
}

#[test]
fn a_probe_that_hangs_does_not_block_for_ever() {
    let mut bench = Bench::due();
    let hung = bench.begin();
    bench.now += 10 * SECOND;
    assert_eq!(bench.state(), State::Due);
    let second = bench.begin();
    assert!(matches!(second, Permit::Probe(..)));
    assert_eq!(bench.state(), State::Probing);

    // The client of the hanging probe leaves: that must not end the second probe.
    bench.end(hung, Verdict::Unknown);
    assert_eq!(bench.state(), State::Probing);
    assert_eq!(bench.end(second, Verdict::Success), Some(Transition::Restored));
}

#[test]
fn a_slow_probe_is_still_heard() {
    let mut bench = Bench::due();
    let slow = bench.begin();
    bench.now += 25 * SECOND;
    assert_eq!(bench.end(slow, Verdict::Success), Some(Transition::Restored));

    let mut bench = Bench::due();
    let (slow, _) = (bench.begin(), bench.now += 25 * SECOND);
    let Some(Transition::Ejected { retry_in }) = bench.end(slow, Verdict::Failure) else {
        panic!("a slow failure ejects again");
    };
    assert!(retry_in > 5 * SECOND, "with the next step of the backoff");
}

#[test]
fn of_two_failed_probes_one_counts() {
    let mut bench = Bench::due();
    let (hung, _) = (bench.begin(), bench.now += 10 * SECOND);
    let second = bench.begin();
    assert!(bench.end(second, Verdict::Failure).is_some());
    let open = bench.state();
    assert_eq!(bench.end(hung, Verdict::Failure), None);
    assert_eq!(bench.state(), open);
}

#[test]
fn failures_of_requests_begun_before_an_ejection_do_not_prolong_it() {
    let mut bench = Bench::new();
    let in_flight: Vec<_> = (0..100).map(|_| bench.begin()).collect();
    let transitions: Vec<_> =
        in_flight.into_iter().filter_map(|permit| bench.end(permit, Verdict::Failure)).collect();
    assert_eq!(transitions.len(), 1);
    first_wait(transitions.first().copied());
}

#[test]
fn requests_begun_before_an_ejection_say_nothing_after_the_restoration() {
    let mut bench = Bench::new();
    let old: Vec<_> = (0..20).map(|_| bench.begin()).collect();
    for _ in 0..5 {
        bench.request(Verdict::Failure);
    }
    bench.now += 8 * SECOND;
    assert_eq!(bench.request(Verdict::Success), Some(Transition::Restored));
    for permit in old {
        assert_eq!(bench.end(permit, Verdict::Failure), None);
    }
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_late_success_from_before_the_ejection_does_not_restore() {
    let mut bench = Bench::new();
    let old = bench.begin();
    for _ in 0..5 {
        bench.request(Verdict::Failure);
    }
    assert_eq!(bench.end(old, Verdict::Success), None);
    assert!(matches!(bench.state(), State::Open { .. }));
}

#[test]
fn the_last_usable_endpoint_is_not_ejected_until_another_is_usable() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        let permit = bench.begin();
        assert_eq!(bench.end_alone(permit, Verdict::Failure), None);
        assert_eq!(bench.state(), State::Closed);
    }
    assert!(matches!(bench.request(Verdict::Failure), Some(Transition::Ejected { .. })));
}

#[test]
fn a_failed_probe_ejects_again_even_with_no_other_usable() {
    let mut bench = Bench::due();
    let permit = bench.begin();
    assert!(matches!(bench.end_alone(permit, Verdict::Failure), Some(Transition::Ejected { .. })));
}

#[test]
fn a_forced_request_restores_if_it_succeeds_and_changes_nothing_else() {
    let mut bench = Bench::ejected();
    let open = bench.state();
    for verdict in [Verdict::Failure, Verdict::Unknown] {
        let permit = bench.begin();
        assert!(matches!(permit, Permit::Forced(_)));
        assert_eq!(bench.end(permit, verdict), None);
        assert_eq!(bench.state(), open);
    }
    assert_eq!(bench.request(Verdict::Success), Some(Transition::Restored));
}

#[test]
fn a_changed_number_of_failures_counts_those_that_were_seen() {
    for (seen, failures, ejects) in [(4, 5, true), (4, 4, true), (4, 2, true), (4, 6, false), (0, 2, false)] {
        let mut bench = Bench::new();
        for _ in 0..seen {
            assert_eq!(bench.request(Verdict::Failure), None);
        }
        bench.policy.failures = failures;
        assert_eq!(bench.state(), State::Closed, "a setting is no failure");
        assert_eq!(bench.breaker.is_usable(&bench.policy), seen < failures);
        assert_eq!(bench.request(Verdict::Failure).is_some(), ejects, "{seen} of {failures}");
    }
}

#[test]
fn a_wait_that_has_begun_keeps_to_the_bounds_of_the_moment_and_its_steps_go_on() {
    for (min, max, least, most) in
        [(5, 300, 5, 8), (20, 300, 20, 20), (1, 3, 3, 3), (1, 6, 5, 6), (6, 7, 6, 7), (400, 500, 400, 400)]
    {
        let mut bench = Bench::ejected();
        bench.policy.backoff = Backoff { min: min * SECOND, max: max * SECOND };
        let State::Open { until } = bench.state() else { panic!("a setting opens no breaker") };
        let wait = until - bench.now;
        assert!((least * SECOND..=most * SECOND).contains(&wait), "{wait:?} with {min} to {max}");
        bench.now = until;
        assert_eq!(bench.state(), State::Due);
        let again = bench.request(Verdict::Failure);
        let Some(Transition::Ejected { retry_in }) = again else { panic!("{again:?} is no ejection") };
        let (least, most) = (min.min(max) * SECOND, (2 * min).min(max) * SECOND);
        assert!((least..=most).contains(&retry_in), "{retry_in:?} is the second wait of {min} to {max}");
    }
}

#[test]
fn a_longer_backoff_does_not_keep_the_next_probe_waiting_that_may_come_at_once() {
    let mut bench = Bench::due();
    assert_eq!(bench.request(Verdict::Unknown), None);
    bench.policy.backoff = Backoff { min: 100 * SECOND, max: 300 * SECOND };
    assert_eq!(bench.state(), State::Due);
}

#[test]
fn a_policy_of_no_failures_ejects_at_the_first() {
    let mut bench = Bench::new();
    bench.policy.failures = 0;
    assert_eq!(bench.request(Verdict::Success), None);
    assert!(bench.request(Verdict::Failure).is_some());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Begin,
    /// Ends the n-th of the requests in flight.
    End(usize, Verdict, Peers),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict =
        prop::sample::select(vec![Verdict::Success, Verdict::Failure, Verdict::Failure, Verdict::Unknown]);
    let peers = prop::sample::select(vec![Peers::Usable, Peers::Usable, Peers::None]);
    let step = prop_oneof![
        (0u64..12_000).prop_map(Step::Wait),
        Just(Step::Begin),
        Just(Step::Begin),
        (any::<usize>(), verdict, peers).prop_map(|(index, verdict, peers)| Step::End(index, verdict, peers)),
        (any::<usize>(), Just(Verdict::Failure), Just(Peers::Usable))
            .prop_map(|(i, v, p)| Step::End(i, v, p)),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// The invariants of the module's documentation, for random events in any order.
    #[test]
    fn a_breaker_keeps_its_promises(steps in steps()) {
        let mut bench = Bench::new();
        let mut in_flight: Vec<Permit> = Vec::new();
        let mut probe_until = None;
        for step in steps {
            let before = bench.state();
            match step {
                Step::Wait(millis) => bench.now += Duration::from_millis(millis),
                Step::Begin => {
                    let admitted = bench.admits();
                    let permit = bench.begin();
                    prop_assert_eq!(admitted, !matches!(permit, Permit::Forced(_)));
                    if matches!(permit, Permit::Probe(..)) {
                        prop_assert!(probe_until.is_none_or(|until| until <= bench.now), "one at a time");
                        probe_until = Some(bench.now + Policy::default().probe);
                    }
                    in_flight.push(permit);
                }
                Step::End(..) if in_flight.is_empty() => {}
                Step::End(index, verdict, peers) => {
                    let permit = in_flight.swap_remove(index % in_flight.len());
                    let transition = bench.breaker.end(bench.now, permit, verdict, peers, (&bench.policy, &mut bench.rng));
                    match transition {
                        Some(Transition::Restored) => {
                            prop_assert_eq!(verdict, Verdict::Success);
                            prop_assert_ne!(before, State::Closed);
                            prop_assert_eq!(bench.state(), State::Closed);
                        }
                        Some(Transition::Ejected { retry_in }) => {
                            prop_assert_eq!(verdict, Verdict::Failure);
                            prop_assert!(before != State::Closed || peers == Peers::Usable);
                            prop_assert!(retry_in >= 5 * SECOND && retry_in <= 300 * SECOND);
                            let until = bench.now + retry_in;
                            prop_assert_eq!(bench.state(), State::Open { until });
                        }
                        None => {
                            let freed = before == State::Probing && bench.state() == State::Due;
                            prop_assert!(bench.state() == before || freed);
                            prop_assert!(!freed || verdict == Verdict::Unknown);
                        }
                    }
                    if bench.state() != State::Probing {
                        probe_until = None;
                    }
                }
            }
        }
        // Whatever its state, it admits a request within the longest wait.
        bench.now += 300 * SECOND;
        prop_assert!(bench.admits());
    }
}
