//! The clock, the clients, and the invariants.

use super::cluster::{Cluster, Lease};
use super::server::Server;
use crate::domain::balance::Choice;
use crate::domain::health::breaker::{State, Transition};
use crate::domain::outcome::{Outcome, Sign};
use crate::domain::tunnel::MOMENT;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

/// How many endpoints a request tries before its client gets a failure.
const ATTEMPTS: usize = 2;

/// A cluster, its clients, and all scheduled events.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) record: Record,
    rng: fastrand::Rng,
    start: Instant,
    now: Instant,
    /// When requests start.
    arrivals: Arrivals,
    /// How many requests of a thousand are aborted by their clients.
    pub(super) impatience: u32,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    /// Requests in flight.
    open: HashMap<u64, Lease>,
}

/// When requests start.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrivals {
    /// At random with this mean interval, as with many independent clients.
    Every(Duration),
    /// One client, which sends a request when it has the last answer.
    Sequential,
}

/// The record of a run.
#[derive(Default)]
pub(super) struct Record {
    /// Every attempt: when it began, and its endpoint.
    pub(super) attempts: Vec<(Duration, usize)>,
    /// Every end of an attempt that had an outcome, with its endpoint.
    pub(super) outcomes: Vec<(Duration, usize, Outcome)>,
    /// When a client got a failure.
    pub(super) failures: Vec<Duration>,
    /// Every transition of a breaker.
    pub(super) transitions: Vec<(Duration, usize, Transition)>,
    /// When breakers were ignored.
    pub(super) forced: Vec<Duration>,
    /// The most requests in flight at each endpoint since the record was cleared.
    pub(super) crowd: Vec<usize>,
}

struct Scheduled {
    at: Instant,
    /// The tie-breaker: the order of scheduling.
    number: u64,
    event: Event,
}

enum Event {
    /// A client sends a request.
    Ask,
    /// An attempt ends; without an outcome if its client aborted it.
    End { number: u64, outcome: Option<Outcome>, attempt: usize },
    /// A tunnel has lived for a moment.
    Lived { number: u64 },
    /// The scenario intervenes.
    Act(Box<dyn FnOnce(&mut World)>),
}

impl World {
    /// Endpoints of weight 1, with a request every `pace` on average.
    pub(super) fn new(seed: u64, servers: &[Server], pace: Duration) -> Self {
        Self::with(seed, servers, Arrivals::Every(pace))
    }

    /// Endpoints of weight 1.
    pub(super) fn with(seed: u64, servers: &[Server], arrivals: Arrivals) -> Self {
        let start = Instant::now();
        let mut world = Self {
            cluster: Cluster::new(),
            record: Record::default(),
            rng: fastrand::Rng::with_seed(seed),
            start,
            now: start,
            arrivals,
            impatience: 5,
            events: BinaryHeap::new(),
            scheduled: 0,
            open: HashMap::new(),
        };
        for &server in servers {
            world.join(server, 1.0);
        }
        world.schedule(Duration::ZERO, Event::Ask);
        world
    }

    pub(super) fn join(&mut self, server: Server, weight: f64) -> usize {
        self.cluster.join(server, weight, &mut self.rng)
    }

    pub(super) fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// Schedules `act` at this second after the start.
    pub(super) fn at(&mut self, second: u64, act: impl FnOnce(&mut Self) + 'static) {
        let wait = (self.start + Duration::from_secs(second)).saturating_duration_since(self.now);
        self.schedule(wait, Event::Act(Box::new(act)));
    }

    /// Runs until this second after the start.
    pub(super) fn run(&mut self, until: u64) {
        self.run_to(self.start + Duration::from_secs(until));
    }

    /// Runs for this time.
    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_to(self.now + time);
    }

    fn run_to(&mut self, end: Instant) {
        while self.events.peek().is_some_and(|Reverse(next)| next.at < end) {
            let Some(Reverse(next)) = self.events.pop() else { break };
            assert!(next.at >= self.now, "time went backwards");
            self.now = next.at;
            match next.event {
                Event::Ask => self.ask(),
                Event::End { number, outcome, attempt } => self.end(number, outcome, attempt),
                Event::Lived { number } => self.lived(number),
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
        self.cluster.state(endpoint, self.now)
    }

    fn schedule(&mut self, wait: Duration, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled { at: self.now + wait, number: self.scheduled, event }));
    }

    fn ask(&mut self) {
        if let Arrivals::Every(pace) = self.arrivals {
            let wait = pace.mul_f64(-(1.0 - self.rng.f64()).ln());
            self.schedule(wait, Event::Ask);
        }
        self.attempt(1, None);
    }

    fn attempt(&mut self, attempt: usize, avoid: Option<usize>) {
        let admitting = self.cluster.admitting(self.now, avoid);
        let known = self.cluster.known().count();
        let Some(lease) = self.cluster.lease(self.now, avoid, &mut self.rng) else {
            assert_eq!(known, 0, "an endpoint is picked if there is one");
            self.record.failures.push(self.elapsed());
            return;
        };
        assert!(Some(lease.endpoint) != avoid || known == 1, "a retry goes elsewhere");
        assert_eq!(
            lease.choice == Choice::Forced,
            admitting == 0,
            "breakers are ignored only when all are out"
        );

        self.record.attempts.push((self.elapsed(), lease.endpoint));
        if lease.choice == Choice::Forced {
            self.record.forced.push(self.elapsed());
        }
        let endpoint = &mut self.cluster.endpoints[lease.endpoint];
        let in_flight = endpoint.health.in_flight();
        let (outcome, time) =
            endpoint.once.take().unwrap_or_else(|| endpoint.server.serve(in_flight, &mut self.rng));
        self.record.crowd.resize(self.cluster.endpoints.len(), 0);
        let crowd = &mut self.record.crowd[lease.endpoint];
        *crowd = (*crowd).max(in_flight);
        let (outcome, time) = match self.rng.u32(..1000) < self.impatience {
            true => (None, time / 2),
            false => (Some(outcome), time),
        };
        let number = self.scheduled;
        self.open.insert(number, lease);
        if outcome == Some(Outcome::Carried) && time >= MOMENT {
            self.schedule(MOMENT, Event::Lived { number });
        }
        self.schedule(time, Event::End { number, outcome, attempt });
    }

    fn lived(&mut self, number: u64) {
        if let Some(lease) = self.open.get_mut(&number)
            && let Some(transition) = self.cluster.lived(self.now, lease)
        {
            self.record.transitions.push((self.now - self.start, lease.endpoint, transition));
        }
    }

    fn end(&mut self, number: u64, outcome: Option<Outcome>, attempt: usize) {
        let Some(lease) = self.open.remove(&number) else { return };
        let (endpoint, before) = (lease.endpoint, self.state(lease.endpoint));
        if let Some(outcome) = outcome {
            self.record.outcomes.push((self.elapsed(), endpoint, outcome));
        }
        if let Some(transition) = self.cluster.finish(self.now, lease, outcome.unwrap_or(Outcome::Abandoned))
        {
            if before == State::Closed {
                let closed = |(number, _): (usize, _)| self.state(number) == State::Closed;
                assert!(self.cluster.known().any(closed), "the last usable endpoint was ejected");
            }
            self.record.transitions.push((self.elapsed(), endpoint, transition));
        }
        if outcome.is_some_and(|it| it.sign() == Sign::Failed) {
            match attempt < ATTEMPTS {
                true => return self.attempt(attempt + 1, Some(endpoint)),
                false => self.record.failures.push(self.elapsed()),
            }
        }
        if matches!(self.arrivals, Arrivals::Sequential) {
            self.ask();
        }
    }

    fn check_invariants(&self) {
        let in_flight: usize =
            self.cluster.endpoints.iter().map(|endpoint| endpoint.health.in_flight()).sum();
        assert_eq!(in_flight, self.open.len(), "every request is counted at exactly one endpoint");
        let patience = self.cluster.policy.breaker.probe;
        for endpoint in &self.cluster.endpoints {
            let fresh = |began: &&Instant| self.now < **began + patience;
            assert!(endpoint.probes.iter().filter(fresh).count() <= 1, "probes are single: {endpoint:?}");
        }
    }
}

impl Record {
    /// The share of attempts of each endpoint between two seconds.
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

    /// The number of attempts at an endpoint between two seconds.
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
