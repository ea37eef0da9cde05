//! The breakers of one endpoint: one for each caller.
//!
//! What one caller provokes says little about an endpoint: its requests may make it fail, or a policy may forbid it the
//! endpoint. So an endpoint is ejected for those callers only that it fails. A failure weighs more where others have seen the
//! same: once two other callers have ejected the endpoint, [`CORROBORATED`] failures in a row are enough. So a dead
//! endpoint costs each caller after the first ones less, and none loses a good one by what others do alone.
//!
//! Only breakers that differ from a new one are kept, so that a good endpoint has none.

use std::time::{Duration, Instant};

use super::{Breaker, Peers, Period, Permit, Policy, Position, State, Transition, Verdict};

/// The failures in a row that eject an endpoint which two other callers have ejected, unless the policy says fewer.
pub const CORROBORATED: u32 = 2;

/// How many others must have ejected it for that.
const OTHERS: usize = 2;

/// How many callers have a breaker of their own at one endpoint; beyond, the one that failed first is forgotten. A node has
/// some 110 pods.
const MOST: usize = 256;

/// How long after its wait an endpoint may still be ejected for a caller that does not ask for it any more, such as a pod that
/// has ended.
const GONE: Duration = Duration::from_mins(10);

/// Whose request it is, by any number of a pod's. All that are no pod are 0, together: a client may have any number of
/// addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller(pub u64);

/// The breakers of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Breakers {
    known: Vec<(Caller, Breaker)>,
    /// The period of every other breaker.
    period: Period,
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
        let states = self.known.iter().map(|(_, breaker)| breaker.state(now, policy));
        states.max_by_key(badness).unwrap_or(State::Closed)
    }

    /// For how many callers it is ejected.
    pub fn ejected_for(&self) -> usize {
        self.known.iter().filter(|(_, breaker)| breaker.is_out()).count()
    }

    /// See [`Breaker::begin`].
    pub fn begin(&mut self, caller: Caller, now: Instant, policy: &Policy) -> Permit {
        self.known.retain(|(other, breaker)| *other == caller || !breaker.is_left_since(now, GONE));
        let period = self.period;
        self.of_mut(caller).map_or(Permit::Normal(period), |breaker| breaker.begin(now, policy))
    }

    /// See [`Breaker::end`].
    pub fn end(
        &mut self,
        caller: Caller,
        (now, permit): (Instant, Permit),
        verdict: Verdict,
        peers: Peers,
        (policy, rng): (&Policy, &mut fastrand::Rng),
    ) -> Option<Transition> {
        let weighed = self.weighed(caller, policy);
        if self.of(caller).is_none() {
            if verdict != Verdict::Failure || permit != Permit::Normal(self.period) {
                return None;
            }
            if self.known.len() >= MOST {
                self.known.remove(0);
            }
            self.known.push((caller, Breaker { period: self.period, ..Breaker::default() }));
        }
        let breaker = self.of_mut(caller)?;
        let transition = breaker.end(now, permit, verdict, peers, (&weighed, rng));
        if matches!(breaker.position, Position::Closed { failures: 0 }) {
            let period = breaker.period;
            // What began before the last transition does not count.
            self.period = self.period.max(period);
            self.known.retain(|(other, _)| *other != caller);
        }
        transition
    }

    fn of(&self, caller: Caller) -> Option<&Breaker> {
        self.known.iter().find(|(other, _)| *other == caller).map(|it| &it.1)
    }

    fn of_mut(&mut self, caller: Caller) -> Option<&mut Breaker> {
        self.known.iter_mut().find(|(other, _)| *other == caller).map(|it| &mut it.1)
    }

    /// The policy for a caller, given what others have found.
    fn weighed(&self, caller: Caller, policy: &Policy) -> Policy {
        let others = self.known.iter().filter(|(other, breaker)| *other != caller && breaker.is_out());
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
            self.breakers.end(caller, (self.now, permit), verdict, Peers::Usable, (policy, rng))
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
    fn memory_is_bounded() {
        let mut bench = Bench::new();
        for number in 0..1_000 {
            bench.ask(Caller(number), Verdict::Failure);
        }
        assert_eq!(bench.breakers.known.len(), MOST);
    }
}
