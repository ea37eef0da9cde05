//! The clock, the clients, and what must hold whatever happens.

use super::cluster::{Cluster, Lease};
use super::server::{Reply, Server};
use crate::domain::balance::Choice;
use crate::domain::breaker::{Permit, Policy, State, Transition};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// How many endpoints a request tries before its client sees a failure.
const ATTEMPTS: usize = 2;

/// A cluster, its clients, and all that is going to happen.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) record: Record,
    rng: fastrand::Rng,
    start: Instant,
    now: Instant,
    /// The mean time between two requests.
    pace: Duration,
    /// How many requests of a thousand are given up by their clients.
    impatience: u32,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    /// Requests begun and not ended.
    open: usize,
}

/// What happened.
#[derive(Default)]
pub(super) struct Record {
    /// Every attempt: when it began, and at which endpoint.
    pub(super) attempts: Vec<(Duration, usize)>,
    /// When a client saw a failure.
    pub(super) failures: Vec<Duration>,
    /// Every change of a breaker's mind.
    pub(super) transitions: Vec<(Duration, usize, Transition)>,
    /// When the breakers were ignored.
    pub(super) forced: Vec<Duration>,
    /// The most requests an endpoint ever had in flight, since the record was last cleared.
    pub(super) crowd: Vec<usize>,
}

struct Scheduled {
    at: Instant,
    /// Breaks ties, in the order of scheduling.
    number: u64,
    event: Event,
}

enum Event {
    /// A client asks.
    Ask,
    /// An attempt ends; no reply if its client gave up.
    End { lease: Lease, reply: Option<Reply>, attempt: usize },
    /// The scenario intervenes.
    Act(Box<dyn FnOnce(&mut World)>),
}

impl World {
    /// A world of endpoints of weight 1, with a request every `pace` on average.
    pub(super) fn new(seed: u64, servers: &[Server], pace: Duration) -> Self {
        let start = Instant::now();
        let mut world = Self {
            cluster: Cluster::default(),
            record: Record::default(),
            rng: fastrand::Rng::with_seed(seed),
            start,
            now: start,
            pace,
            impatience: 5,
            events: BinaryHeap::new(),
            scheduled: 0,
            open: 0,
        };
        for &server in servers {
            world.join(server, 1.0);
        }
        world.schedule(Duration::ZERO, Event::Ask);
        world
    }

    pub(super) fn join(&mut self, server: Server, weight: f64) -> usize {
        self.cluster.join(self.now, server, weight)
    }

    pub(super) fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// Has something happen so many seconds after the start.
    pub(super) fn at(&mut self, second: u64, act: impl FnOnce(&mut Self) + 'static) {
        let wait = (self.start + Duration::from_secs(second)).saturating_duration_since(self.now);
        self.schedule(wait, Event::Act(Box::new(act)));
    }

    /// Runs until so many seconds after the start.
    pub(super) fn run(&mut self, until: u64) {
        let end = self.start + Duration::from_secs(until);
        while self.events.peek().is_some_and(|Reverse(next)| next.at < end) {
            let Some(Reverse(next)) = self.events.pop() else { break };
            assert!(next.at >= self.now, "time went backwards");
            self.now = next.at;
            match next.event {
                Event::Ask => self.ask(),
                Event::End { lease, reply, attempt } => self.end(lease, reply, attempt),
                Event::Act(act) => act(self),
            }
            self.check_invariants();
        }
        self.now = end;
    }

    /// The time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn state(&self, endpoint: usize) -> State {
        self.cluster.endpoints[endpoint].breaker.state(self.now)
    }

    fn schedule(&mut self, wait: Duration, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled { at: self.now + wait, number: self.scheduled, event }));
    }

    fn ask(&mut self) {
        // A Poisson process, as of many clients that know nothing of each other.
        let wait = self.pace.mul_f64(-(1.0 - self.rng.f64()).ln());
        self.schedule(wait, Event::Ask);
        self.attempt(1, None);
    }

    fn attempt(&mut self, attempt: usize, avoid: Option<usize>) {
        let admitting =
            self.cluster.known().filter(|(_, endpoint)| endpoint.breaker.admits(self.now)).count();
        let known = self.cluster.known().count();
        let Some(lease) = self.cluster.lease(self.now, avoid, &mut self.rng) else {
            assert_eq!(known, 0, "an endpoint is picked if there is one");
            self.record.failures.push(self.elapsed());
            return;
        };
        assert!(Some(lease.endpoint) != avoid || known == 1 || admitting == 1, "a retry goes elsewhere");
        assert_eq!(
            lease.choice == Choice::Forced,
            admitting == 0,
            "breakers are ignored only when all are out"
        );
        assert_eq!(lease.choice == Choice::Forced, matches!(lease.permit, Permit::Forced(_)));

        self.open += 1;
        self.record.attempts.push((self.elapsed(), lease.endpoint));
        if lease.choice == Choice::Forced {
            self.record.forced.push(self.elapsed());
        }
        let endpoint = &self.cluster.endpoints[lease.endpoint];
        let (reply, latency) = endpoint.server.serve(endpoint.in_flight, &mut self.rng);
        self.record.crowd.resize(self.cluster.endpoints.len(), 0);
        let crowd = &mut self.record.crowd[lease.endpoint];
        *crowd = (*crowd).max(endpoint.in_flight);
        let (reply, latency) = match self.rng.u32(..1000) < self.impatience {
            true => (None, latency / 2),
            false => (Some(reply), latency),
        };
        self.schedule(latency, Event::End { lease, reply, attempt });
    }

    fn end(&mut self, lease: Lease, reply: Option<Reply>, attempt: usize) {
        self.open -= 1;
        let before = self.state(lease.endpoint);
        if let Some(transition) = self.cluster.finish(self.now, lease, reply, &mut self.rng) {
            if before == State::Closed {
                let closed = |(_, endpoint): (usize, &super::cluster::Endpoint)| {
                    endpoint.breaker.state(self.now) == State::Closed
                };
                assert!(self.cluster.known().any(closed), "the last usable endpoint was ejected");
            }
            self.record.transitions.push((self.elapsed(), lease.endpoint, transition));
        }
        if reply == Some(Reply::Failure) {
            match attempt < ATTEMPTS {
                true => self.attempt(attempt + 1, Some(lease.endpoint)),
                false => self.record.failures.push(self.elapsed()),
            }
        }
    }

    fn check_invariants(&self) {
        let in_flight: usize = self.cluster.endpoints.iter().map(|endpoint| endpoint.in_flight).sum();
        assert_eq!(in_flight, self.open, "every request is counted at exactly one endpoint");
        for endpoint in &self.cluster.endpoints {
            let estimate = endpoint.estimate.at(self.now);
            assert!(estimate.is_finite() && estimate >= 0.0, "{endpoint:?}");
            let fresh = |began: &&Instant| self.now < **began + Policy::default().probe;
            assert!(endpoint.probes.iter().filter(fresh).count() <= 1, "probes are single: {endpoint:?}");
        }
    }
}

impl Record {
    /// How many attempts each endpoint got between two seconds, as parts of all of them.
    pub(super) fn shares(&self, from: u64, to: u64) -> Vec<f64> {
        let span = Duration::from_secs(from)..Duration::from_secs(to);
        let mut counts = Vec::new();
        for &(at, endpoint) in &self.attempts {
            if counts.len() <= endpoint {
                counts.resize(endpoint + 1, 0.0);
            }
            counts[endpoint] += f64::from(u8::from(span.contains(&at)));
        }
        let all: f64 = counts.iter().sum();
        counts.into_iter().map(|count| count / all.max(1.0)).collect()
    }

    /// How many attempts an endpoint got between two seconds.
    pub(super) fn count(&self, endpoint: usize, from: u64, to: u64) -> usize {
        let span = Duration::from_secs(from)..Duration::from_secs(to);
        self.attempts.iter().filter(|(at, number)| *number == endpoint && span.contains(at)).count()
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}
