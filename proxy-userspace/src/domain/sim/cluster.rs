//! A cluster as the proxy keeps one, less the sockets: it picks, begins, ends.

use super::server::{Reply, Server};
use crate::domain::balance::{Choice, PeakEwma, Picked, Shares, Usable, View, cost, pick};
use crate::domain::breaker::{Breaker, Peers, Permit, Policy, State, Transition, Verdict};
use std::time::{Duration, Instant};

/// One endpoint. It keeps its number when others leave.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) server: Server,
    pub(super) weight: f64,
    pub(super) presence: Presence,
    pub(super) in_flight: usize,
    pub(super) estimate: PeakEwma,
    pub(super) breaker: Breaker,
    /// When each probe under way began.
    pub(super) probes: Vec<Instant>,
}

/// Whether discovery knows an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Known,
    Gone,
}

/// The right to use an endpoint once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) endpoint: usize,
    pub(super) began: Instant,
    pub(super) permit: Permit,
    pub(super) choice: Choice,
}

#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) endpoints: Vec<Endpoint>,
    /// The numbers of the endpoints that are known, and their weights.
    tier: Vec<usize>,
    shares: Option<Shares>,
}

impl Cluster {
    pub(super) fn join(&mut self, now: Instant, server: Server, weight: f64) -> usize {
        let number = self.endpoints.len();
        self.endpoints.push(Endpoint {
            server,
            weight,
            presence: Presence::Known,
            in_flight: 0,
            estimate: PeakEwma::joining(now, self.observed(now, number), PeakEwma::DECAY),
            breaker: Breaker::new(Policy::default()),
            probes: Vec::new(),
        });
        self.rebuild();
        number
    }

    pub(super) fn leave(&mut self, endpoint: usize) {
        self.endpoints[endpoint].presence = Presence::Gone;
        self.rebuild();
    }

    fn rebuild(&mut self) {
        let known = |&number: &usize| self.endpoints[number].presence == Presence::Known;
        self.tier = (0..self.endpoints.len()).filter(known).collect();
        self.shares = Some(Shares::new(self.tier.iter().map(|&number| self.endpoints[number].weight)));
    }

    /// The endpoints that discovery knows.
    pub(super) fn known(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        self.tier.iter().map(|&number| (number, &self.endpoints[number]))
    }

    /// Leases an endpoint; `avoid` is the one that an earlier attempt used.
    pub(super) fn lease(
        &mut self,
        now: Instant,
        avoid: Option<usize>,
        rng: &mut fastrand::Rng,
    ) -> Option<Lease> {
        let shares = self.shares.as_ref()?;
        let avoid = avoid.and_then(|number| self.tier.iter().position(|&known| known == number));
        let Picked { index, choice } = pick(shares, avoid, rng, |index| {
            let endpoint = &self.endpoints[self.tier[index]];
            View {
                usable: if endpoint.breaker.admits(now) { Usable::Yes } else { Usable::No },
                cost: cost(endpoint.estimate.at(now), endpoint.in_flight, shares.weight(index)),
            }
        })?;
        let number = self.tier[index];
        let endpoint = &mut self.endpoints[number];
        endpoint.in_flight += 1;
        let permit = endpoint.breaker.begin(now);
        if matches!(permit, Permit::Probe(..)) {
            endpoint.probes.push(now);
        }
        Some(Lease { endpoint: number, began: now, permit, choice })
    }

    /// Gives a lease back; `None` for a reply means that the client left before there was one.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        lease: Lease,
        reply: Option<Reply>,
        rng: &mut fastrand::Rng,
    ) -> Option<Transition> {
        let verdict = match reply {
            Some(Reply::Answer) => Verdict::Success,
            Some(Reply::Failure) => Verdict::Failure,
            None => Verdict::Unknown,
        };
        let peers = self.peers(now, lease.endpoint);
        let endpoint = &mut self.endpoints[lease.endpoint];
        endpoint.in_flight -= 1;
        endpoint.probes.retain(|&began| !(matches!(lease.permit, Permit::Probe(..)) && began == lease.began));
        let transition = endpoint.breaker.end(now, lease.permit, verdict, peers, rng);
        if transition == Some(Transition::Restored) {
            let observed = self.observed(now, lease.endpoint);
            self.endpoints[lease.endpoint].estimate = PeakEwma::joining(now, observed, PeakEwma::DECAY);
        }
        let estimate = &mut self.endpoints[lease.endpoint].estimate;
        let first = estimate.observed(now).is_none();
        let latency: Duration = now - lease.began;
        match reply {
            Some(Reply::Answer) => estimate.observe(now, latency),
            Some(Reply::Failure) => estimate.observe_failure(now, latency),
            None => {}
        }
        if first && reply == Some(Reply::Answer) {
            self.revise_guesses(now);
        }
        transition
    }

    /// An endpoint has answered for the first time: the others that have not are guessed anew.
    fn revise_guesses(&mut self, now: Instant) {
        for &number in &self.tier {
            if self.endpoints[number].estimate.observed(now).is_none() {
                let peers = self.observed(now, number);
                self.endpoints[number].estimate = PeakEwma::joining(now, peers, PeakEwma::DECAY);
            }
        }
    }

    /// Whether another endpoint than this one can be relied on.
    fn peers(&self, now: Instant, except: usize) -> Peers {
        let mut others = self.known().filter(|&(number, _)| number != except);
        match others.any(|(_, endpoint)| endpoint.breaker.state(now) == State::Closed) {
            true => Peers::Usable,
            false => Peers::None,
        }
    }

    /// The estimates of the others that have one and are in use.
    fn observed(&self, now: Instant, except: usize) -> Vec<f64> {
        self.known()
            .filter(|&(number, endpoint)| number != except && endpoint.breaker.state(now) == State::Closed)
            .filter_map(|(_, endpoint)| endpoint.estimate.observed(now))
            .collect()
    }
}
