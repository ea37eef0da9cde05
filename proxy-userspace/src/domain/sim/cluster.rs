//! A cluster as in the proxy, without sockets: endpoints, and which of them are known.
//!
//! The decisions are the product's own code: [`select`], [`Ticket`], [`Health`] and [`Norms`]. Only the list of
//! endpoints is here, which the product keeps in its `Members`.

use super::server::Server;
use crate::domain::balance::{Choice, Usable, Weights};
use crate::domain::health::breaker::{State, Transition};
use crate::domain::health::{Caller, Health, Norms, Policy, Scene, Selected, Ticket, Tier, select};
use crate::domain::outcome::Outcome;
use std::time::{Duration, Instant};

/// One endpoint. It keeps its number if others leave.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) server: Server,
    pub(super) weight: f64,
    pub(super) presence: Presence,
    pub(super) health: Health,
    /// The result of the next request, independent of the server.
    pub(super) once: Option<(Outcome, Duration)>,
    /// When each current probe began.
    pub(super) probes: Vec<Instant>,
}

/// Whether discovery knows an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Known,
    Gone,
}

/// The permission to use an endpoint once.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) endpoint: usize,
    pub(super) choice: Choice,
    pub(super) began: Instant,
    pub(super) is_probe: bool,
    ticket: Ticket,
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) policy: Policy,
    norms: Norms,
    /// The numbers and weights of the known endpoints.
    tier: Vec<usize>,
    weights: Weights,
}

impl Tier for Cluster {
    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn health(&self, at: usize) -> &Health {
        &self.endpoints[self.tier[at]].health
    }
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self {
            endpoints: Vec::new(),
            policy: Policy::default(),
            norms: Norms::default(),
            tier: Vec::new(),
            weights: Weights::equal(0),
        }
    }

    pub(super) fn join(&mut self, server: Server, weight: f64, rng: &mut fastrand::Rng) -> usize {
        let number = self.endpoints.len();
        self.endpoints.push(Endpoint {
            server,
            weight,
            presence: Presence::Known,
            health: Health::new(rng.fork()),
            once: None,
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
        self.weights = Weights::new(self.tier.iter().map(|&number| self.endpoints[number].weight));
    }

    /// The endpoints that discovery knows.
    pub(super) fn known(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        self.tier.iter().map(|&number| (number, &self.endpoints[number]))
    }

    /// How many endpoints, except `avoid`, let a request through.
    pub(super) fn admitting(&self, now: Instant, avoid: Option<usize>) -> usize {
        let others = self.known().filter(|(number, _)| Some(*number) != avoid);
        others
            .filter(|(_, it)| it.health.usable(Caller::default(), now, &self.policy.breaker) == Usable::Yes)
            .count()
    }

    /// Leases an endpoint; `avoid` is the one used by an earlier attempt.
    pub(super) fn lease(
        &mut self,
        now: Instant,
        avoid: Option<usize>,
        rng: &mut fastrand::Rng,
    ) -> Option<Lease> {
        let avoid = avoid.and_then(|number| self.tier.iter().position(|&known| known == number));
        let Selected { at, ticket, choice } = select(
            Caller::default(),
            self,
            &self.norms,
            &self.policy,
            (now, rng),
            (|at| Some(at) == avoid, avoid),
            |_| 1.0,
        )?;
        let number = self.tier[at];
        let is_probe = ticket.is_probe() && choice != Choice::Forced;
        if is_probe {
            self.endpoints[number].probes.push(now);
        }
        Some(Lease { endpoint: number, choice, began: now, is_probe, ticket })
    }

    /// A tunnel has lived for a moment.
    pub(super) fn lived(&mut self, now: Instant, lease: &mut Lease) -> Option<Transition> {
        let health = &self.endpoints[lease.endpoint].health;
        let scene = Scene { tier: self, health, norms: &self.norms, policy: &self.policy.breaker };
        let transition = lease.ticket.answered(now, Outcome::Carried, &scene);
        self.probe_ended(lease);
        transition
    }

    /// Returns a lease.
    pub(super) fn finish(&mut self, now: Instant, mut lease: Lease, outcome: Outcome) -> Option<Transition> {
        let health = &self.endpoints[lease.endpoint].health;
        let scene = Scene { tier: self, health, norms: &self.norms, policy: &self.policy.breaker };
        let at_its_head = match outcome {
            Outcome::Answered(_) => lease.ticket.answered(now, outcome, &scene),
            _ => None,
        };
        let transition = at_its_head.or(lease.ticket.finish(now, outcome, &scene).transition);
        health.release();
        self.probe_ended(&lease);
        transition
    }

    fn probe_ended(&mut self, lease: &Lease) {
        if lease.is_probe {
            self.endpoints[lease.endpoint].probes.retain(|&began| began != lease.began);
        }
    }

    pub(super) fn state(&self, endpoint: usize, now: Instant) -> State {
        self.endpoints[endpoint].health.breaker(now, &self.policy.breaker)
    }
}
