//! The breakers of one endpoint: one for each caller.
//!
//! What one caller provokes says little about an endpoint: its requests may make it fail, or a policy may forbid it the
//! endpoint. So an endpoint is ejected for those callers only that it fails. A failure weighs more where others have seen the
//! same: once two other callers have ejected the endpoint, [`CORROBORATED`] failures in a row are enough. So a dead
//! endpoint costs each caller after the first ones less. An ejection does not count for others if a request of anybody has
//! succeeded since, or if its caller never had a connection: then it is about that caller.
//!
//! Only breakers that differ from a new one are kept, so that a good endpoint has none; and none of a caller that has not
//! asked for [`GONE`].

use std::time::{Duration, Instant};

use super::{Breaker, Peers, Period, Permit, Policy, Position, State, Transition, Verdict};

/// The failures in a row that eject an endpoint which two other callers have ejected, unless the policy says fewer.
pub const CORROBORATED: u32 = 2;

/// How many others must have ejected it for that.
const OTHERS: usize = 2;

/// How many callers have a breaker of their own at one endpoint; beyond, one is forgotten: one that has not ejected it, if
/// there is one, and of these the one that asked least recently. A node has some 110 pods.
const MOST: usize = 256;

/// For how long a breaker is kept, after its wait, of a caller that does not ask for the endpoint any more, such as a pod
/// that has ended.
const GONE: Duration = Duration::from_mins(10);

/// Whose request it is, by any number of a pod's. All that are no pod are 0, together: a client may have any number of
/// addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller(pub u64);

/// The breakers of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Breakers {
    known: Vec<Known>,
    /// The period of every other breaker.
    period: Period,
    /// The number of requests that succeeded, of all callers.
    successes: u64,
}

/// What happened to the requests of one caller.
#[derive(Clone, Debug)]
struct Known {
    caller: Caller,
    breaker: Breaker,
    /// When a request of it began or ended last.
    last: Instant,
    /// While it is ejected, if that says something to others: how many requests had succeeded by then.
    found: Option<u64>,
}

impl Known {
    fn is_gone(&self, now: Instant) -> bool {
        self.last + GONE < now && self.breaker.waits_until().is_none_or(|until| until + GONE < now)
    }
}

impl Breakers {
    /// The state for a caller.
    pub fn state(&self, caller: Caller, now: Instant, policy: &Policy) -> State {
        self.of(caller).map_or(State::Closed, |breaker| breaker.state(now, policy))
    }

    /// Whether the endpoint is healthy for a caller, see [`Breaker::is_usable`].
    pub fn is_usable(&self, caller: Caller, policy: &Policy) -> bool {
        self.of(caller).is_none_or(|breaker| breaker.is_usable(&self.weighed(caller, policy)))
    }

    /// The state for those callers for which it is worst.
    pub fn worst(&self, now: Instant, policy: &Policy) -> State {
        let badness = |state: &State| match state {
            State::Closed => 0,
            State::Due => 1,
            State::Probing => 2,
            State::Open { .. } => 3,
        };
        let states = self.known.iter().map(|it| it.breaker.state(now, policy));
        states.max_by_key(badness).unwrap_or(State::Closed)
    }

    /// For how many callers it is ejected.
    pub fn ejected_for(&self) -> usize {
        self.known.iter().filter(|it| it.breaker.is_out()).count()
    }

    /// See [`Breaker::begin`].
    pub fn begin(&mut self, caller: Caller, now: Instant, policy: &Policy) -> Permit {
        self.known.retain(|it| it.caller == caller || !it.is_gone(now));
        let period = self.period;
        self.of_mut(caller).map_or(Permit::Normal(period), |it| {
            it.last = now;
            it.breaker.begin(now, policy)
        })
    }

    /// The end of most requests: it was no failure, and the caller has no breaker of its own. Returns whether that was so;
    /// otherwise [`Breakers::end`] is still to be called.
    pub fn settle(&mut self, caller: Caller, verdict: Verdict) -> bool {
        if verdict == Verdict::Failure || self.of(caller).is_some() {
            return false;
        }
        self.successes = self.successes.wrapping_add(u64::from(verdict == Verdict::Success));
        true
    }

    /// See [`Breaker::end`]. A failure `is_news` for other callers if it may be the endpoint's.
    pub fn end(
        &mut self,
        caller: Caller,
        (now, permit): (Instant, Permit),
        (verdict, is_news): (Verdict, bool),
        peers: Peers,
        (policy, rng): (&Policy, &mut fastrand::Rng),
    ) -> Option<Transition> {
        if self.settle(caller, verdict) {
            return None;
        }
        if verdict == Verdict::Success {
            self.successes = self.successes.wrapping_add(1);
        }
        let weighed = self.weighed(caller, policy);
        if self.of(caller).is_none() {
            if permit != Permit::Normal(self.period) {
                return None;
            }
            if self.known.len() >= MOST {
                self.forget_one();
            }
            let breaker = Breaker { period: self.period, ..Breaker::default() };
            self.known.push(Known { caller, breaker, last: now, found: None });
        }
        let successes = self.successes;
        let known = self.of_mut(caller)?;
        known.last = now;
        let was_out = known.breaker.is_out();
        let transition = known.breaker.end(now, permit, verdict, peers, (&weighed, rng));
        if !was_out && known.breaker.is_out() {
            // A probe that fails later is no further news.
            known.found = is_news.then_some(successes);
        }
        if matches!(known.breaker.position, Position::Closed { failures: 0 }) {
            let period = known.breaker.period;
            // What began before the last transition does not count.
            self.period = self.period.max(period);
            self.known.retain(|it| it.caller != caller);
        }
        transition
    }

    fn forget_one(&mut self) {
        let order = |it: &(usize, &Known)| (it.1.breaker.is_out(), it.1.last);
        if let Some((at, _)) = self.known.iter().enumerate().min_by_key(order) {
            self.known.swap_remove(at);
        }
    }

    fn of(&self, caller: Caller) -> Option<&Breaker> {
        self.known.iter().find(|it| it.caller == caller).map(|it| &it.breaker)
    }

    fn of_mut(&mut self, caller: Caller) -> Option<&mut Known> {
        self.known.iter_mut().find(|it| it.caller == caller)
    }

    /// The policy for a caller, given what others have found.
    fn weighed(&self, caller: Caller, policy: &Policy) -> Policy {
        let is_same = |it: &&Known| it.breaker.is_out() && it.found == Some(self.successes);
        let others = self.known.iter().filter(is_same).filter(|it| it.caller != caller);
        match self.known.len() > OTHERS && others.count() >= OTHERS {
            true => Policy { failures: policy.failures.min(CORROBORATED), ..*policy },
            false => *policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Caller = Caller(1);
    const B: Caller = Caller(2);
    const C: Caller = Caller(3);
    const D: Caller = Caller(4);

    struct Bench {
        breakers: Breakers,
        policy: Policy,
        now: Instant,
        rng: fastrand::Rng,
    }

    impl Bench {
        fn new() -> Self {
            let rng = fastrand::Rng::with_seed(7);
            Self { breakers: Breakers::default(), policy: Policy::default(), now: Instant::now(), rng }
        }

        fn begin(&mut self, caller: Caller) -> Permit {
            self.breakers.begin(caller, self.now, &self.policy)
        }

        fn end(&mut self, caller: Caller, permit: Permit, verdict: Verdict) -> Option<Transition> {
            let (policy, rng) = (&self.policy, &mut self.rng);
            self.breakers.end(caller, (self.now, permit), (verdict, true), Peers::Usable, (policy, rng))
        }

        fn ask(&mut self, caller: Caller, verdict: Verdict) -> Option<Transition> {
            let permit = self.begin(caller);
            self.end(caller, permit, verdict)
        }

        fn is_out(&self, caller: Caller) -> bool {
            self.breakers.state(caller, self.now, &self.policy) != State::Closed
        }

        /// How many failures in a row eject it for a caller.
        fn fail(&mut self, caller: Caller) -> usize {
            (1..=20).find(|_| self.ask(caller, Verdict::Failure).is_some()).expect("no ejection")
        }
    }

    #[test]
    fn what_one_caller_provokes_ejects_nothing_for_others() {
        let mut bench = Bench::new();
        assert_eq!(bench.fail(A), 5, "alone it is as with a single breaker");
        for _ in 0..100 {
            bench.ask(A, Verdict::Failure);
            assert!(bench.is_out(A) && !bench.is_out(B));
            assert!(bench.breakers.is_usable(B, &bench.policy));
        }
        // Single failures of another one are still single failures.
        for _ in 0..100 {
            assert_eq!(bench.ask(B, Verdict::Failure), None);
            assert_eq!(bench.ask(B, Verdict::Success), None);
        }
        assert_eq!((bench.breakers.known.len(), bench.breakers.ejected_for()), (1, 1));
    }

    #[test]
    fn two_that_a_policy_forbids_an_endpoint_eject_it_for_nobody_else() {
        let mut bench = Bench::new();
        assert_eq!((bench.fail(A), bench.fail(B)), (5, 5));
        for _ in 0..100 {
            bench.ask(A, Verdict::Failure);
            bench.ask(B, Verdict::Failure);
            assert_eq!(bench.ask(C, Verdict::Success), None);
            assert!(!bench.is_out(C) && !bench.is_out(D));
            // One of a hundred.
            assert_eq!(bench.ask(D, Verdict::Failure), None);
            assert_eq!(bench.ask(D, Verdict::Success), None);
        }
    }

    #[test]
    fn a_dead_endpoint_costs_all_but_the_first_two_less() {
        let mut bench = Bench::new();
        assert_eq!([A, B, C, D].map(|caller| bench.fail(caller)), [5, 5, 2, 2]);
        assert_eq!(bench.breakers.ejected_for(), 4);
        bench.policy.failures = 1;
        assert_eq!(bench.fail(Caller(5)), 1);
    }

    #[test]
    fn each_caller_restores_it_for_itself() {
        let mut bench = Bench::new();
        for caller in [A, B] {
            bench.fail(caller);
        }
        bench.now += Duration::from_secs(8);
        assert!(matches!(bench.begin(A), Permit::Probe(..)));
        let probe = bench.begin(B);
        assert!(matches!(probe, Permit::Probe(..)), "A's probe is not B's");
        assert_eq!(bench.end(B, probe, Verdict::Success), Some(Transition::Restored));
        assert!(!bench.is_out(B) && bench.is_out(A));
        assert_eq!(bench.breakers.worst(bench.now, &bench.policy), State::Probing);
    }

    #[test]
    fn an_outcome_counts_only_in_the_period_in_which_its_request_began() {
        let mut bench = Bench::new();
        let early: Vec<Permit> = (0..100).map(|_| bench.begin(A)).collect();
        bench.fail(A);
        bench.now += Duration::from_secs(8);
        assert_eq!(bench.ask(A, Verdict::Success), Some(Transition::Restored));
        assert_eq!(bench.ask(A, Verdict::Success), None);
        assert!(bench.breakers.known.is_empty());
        for permit in early {
            assert_eq!(bench.end(A, permit, Verdict::Failure), None);
        }
        assert!(bench.breakers.known.is_empty() || !bench.is_out(A));
        assert_eq!(bench.fail(A), 5);
    }

    #[test]
    fn what_callers_found_that_are_gone_is_forgotten() {
        let mut bench = Bench::new();
        assert_eq!([A, B, C].map(|caller| bench.fail(caller)), [5, 5, 2]);
        bench.now += GONE + Duration::from_secs(60);
        bench.ask(A, Verdict::Failure);
        assert!(bench.is_out(A) && !bench.is_out(B) && !bench.is_out(C));
        assert_eq!((bench.breakers.ejected_for(), bench.fail(D)), (1, 5));
    }

    #[test]
    fn nothing_is_kept_of_callers_that_are_gone_whatever_they_left() {
        type Leave = fn(&mut Bench, Caller);
        let out: Leave = |bench, caller| {
            bench.fail(caller);
        };
        let due: Leave = |bench, caller| {
            bench.fail(caller);
            bench.now += Duration::from_secs(8);
            bench.ask(caller, Verdict::Unknown);
        };
        let probing: Leave = |bench, caller| {
            bench.fail(caller);
            bench.now += Duration::from_secs(8);
            bench.begin(caller);
        };
        let closed: Leave = |bench, caller| {
            bench.ask(caller, Verdict::Failure);
        };
        for (what, leave, first) in
            [("out", out, 2), ("due", due, 2), ("probing", probing, 2), ("closed", closed, 5)]
        {
            for (waited, kept, failures) in [(Duration::ZERO, 2, first), (2 * GONE, 0, 5)] {
                let mut bench = Bench::new();
                [A, B].into_iter().for_each(|caller| leave(&mut bench, caller));
                bench.now += waited;
                bench.begin(C);
                assert_eq!(bench.breakers.known.len(), kept, "{what} after {waited:?}");
                assert_eq!(bench.fail(C), failures, "{what} after {waited:?}");
            }
        }
    }

    #[test]
    fn who_waits_long_for_its_probe_is_not_gone() {
        let mut bench = Bench::new();
        bench.policy.backoff = super::super::Backoff { min: 2 * GONE, max: 2 * GONE };
        bench.fail(A);
        bench.now += 2 * GONE - Duration::from_secs(1);
        bench.ask(B, Verdict::Failure);
        assert!(bench.is_out(A));
    }

    /// Two pods that misbehave alike have ejected a good endpoint: (whose request succeeds then).
    #[test]
    fn a_good_endpoint_that_two_have_ejected_is_kept_by_one_that_fails_twice() {
        for good in [C, D] {
            let mut bench = Bench::new();
            assert_eq!([A, B].map(|caller| bench.fail(caller)), [5, 5]);
            bench.ask(good, Verdict::Success);
            for _ in 0..2 {
                // Their probes fail again and again.
                bench.now += Duration::from_secs(300);
                for caller in [A, B] {
                    assert!(bench.ask(caller, Verdict::Failure).is_some());
                }
                assert_eq!(bench.ask(D, Verdict::Failure), None);
            }
            assert!(!bench.is_out(D) && bench.breakers.is_usable(D, &bench.policy));
            assert_eq!(bench.fail(D), 3, "two have been counted");
        }
    }

    #[test]
    fn what_two_cannot_connect_to_costs_others_their_full_number() {
        let mut bench = Bench::new();
        for caller in [A, B] {
            for _ in 0..5 {
                let ended = (bench.now, bench.begin(caller));
                let scene = (&bench.policy, &mut bench.rng);
                bench.breakers.end(caller, ended, (Verdict::Failure, false), Peers::Usable, scene);
            }
            assert!(bench.is_out(caller));
        }
        assert_eq!(bench.fail(C), 5);
    }

    #[test]
    fn memory_is_bounded_and_who_has_ejected_it_is_forgotten_last() {
        let mut bench = Bench::new();
        bench.fail(A);
        for number in 10..1_000 {
            bench.now += Duration::from_millis(1);
            bench.ask(Caller(number), Verdict::Failure);
        }
        assert_eq!(bench.breakers.known.len(), MOST);
        assert!(bench.is_out(A), "those that have not ejected it go first");
        assert!(bench.breakers.of(Caller(999)).is_some() && bench.breakers.of(Caller(10)).is_none());
    }
}
