//! A cluster: one destination at run time, and its endpoints.
//!
//! The set of endpoints is an immutable snapshot, replaced as a whole when the catalog changes ([`Cluster::apply`]); an
//! endpoint that stays keeps its [`Backend`], and with it its load, breaker and connections. The same is true when the
//! cluster's settings change ([`Cluster::adopt`]): a [`ClusterPolicy`] is not part of a cluster's identity. A request
//! owns a [`Lease`]: the right to use one endpoint once, which reports its outcome exactly once however it ends.

mod backend;
mod grpc;
mod lazy;
mod lease;
mod members;
mod policy;
mod registry;
mod view;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use backend::{Backend, Stats as BackendStats};
pub use grpc::GrpcStatuses;
pub use lazy::LazyCluster;
pub use lease::Lease;
pub use members::{Member, Members};
pub use policy::ClusterPolicy;
pub use registry::{ClusterRegistry, LATELY};
pub use view::View;

use self::backend::Common;
use crate::domain::balance::{Choice, score};
use crate::domain::catalog::Endpoint;
use crate::domain::health::breaker::State;
use crate::domain::health::{self, Caller, Norms, Selected, select};
use crate::domain::outcome::Outcome;
use crate::domain::ssrf::Exempt;
use crate::proxy::fault::{Fault, Kind};
use crate::telemetry::{Counter, Histogram};

/// One destination at run time.
#[derive(Debug)]
pub struct Cluster {
    /// Its canonical name in logs, metrics and the admin: `/svc/hello`, `/svc/hello:8080`.
    pub name: Box<str>,
    /// Which otherwise refused addresses its endpoints may have.
    pub exempt: Exempt,
    /// What its endpoints share.
    common: Arc<Common>,
    policy: ArcSwap<ClusterPolicy>,
    /// Its counters.
    pub stats: Stats,
    /// What is normal for its endpoints, to compare with.
    norms: Norms,
    members: ArcSwap<Members>,
    /// No snapshot names it any more.
    retired: AtomicBool,
    /// Whether it was used since that was last looked at.
    used: AtomicBool,
    /// The clusters that transformers derive from it. The lock also serialises [`Cluster::apply`] and
    /// [`Cluster::adopt`]; requests with a bound route do not take it.
    views: Mutex<Vec<View>>,
}

/// Whether an endpoint is ejected, for some caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ejected {
    /// Every breaker is closed.
    None,
    /// A breaker has waited for long enough: the next request is a probe.
    Due,
    /// It is.
    Now,
}

/// The counters of a cluster.
#[derive(Debug, Default)]
pub struct Stats {
    /// Attempts by outcome, see [`Outcome::slot`].
    pub outcomes: [Counter; Outcome::LABELS.len()],
    /// Answers to gRPC calls, by status.
    pub grpc: GrpcStatuses,
    /// From the start of an attempt to the end of its answer.
    pub duration: Histogram,
    /// Attempts beyond the first of their request.
    pub retries: Counter,
    /// Picks where no endpoint was reliable, so that breakers were ignored.
    pub forced: Counter,
}

impl Stats {
    /// Counts also what `other` has counted.
    pub fn absorb(&self, other: &Self) {
        for (own, other) in self.outcomes.iter().zip(&other.outcomes) {
            own.add(other.value());
        }
        self.grpc.absorb(&other.grpc);
        self.duration.absorb(&other.duration);
        self.retries.add(other.retries.value());
        self.forced.add(other.forced.value());
    }
}

impl Cluster {
    /// A cluster without endpoints.
    pub fn new(name: Box<str>, exempt: Exempt, workers: usize, policy: Arc<ClusterPolicy>) -> Self {
        let members = ArcSwap::from_pointee(Members::default());
        let (policy, retired) = (ArcSwap::new(policy), AtomicBool::new(false));
        let (stats, norms, views, used) = Default::default();
        let common = Common::new(workers);
        Self { name, exempt, common, policy, stats, norms, members, retired, used, views }
    }

    /// Its present settings.
    pub fn policy(&self) -> arc_swap::Guard<Arc<ClusterPolicy>> {
        self.policy.load()
    }

    /// Adopts other settings. They apply to new requests, and to the outcome of those in progress; endpoints keep their
    /// health, connections and counters.
    pub fn adopt(&self, policy: &Arc<ClusterPolicy>) {
        let _order = self.views.lock();
        let before = self.policy.swap(policy.clone());
        if before.balancer != policy.balancer {
            let members = self.members.load_full();
            self.members.store(Arc::new(self.successor(&members, &members.source)));
        }
    }

    /// The present endpoints.
    pub fn members(&self) -> arc_swap::Guard<Arc<Members>> {
        self.members.load()
    }

    /// Its endpoints that were used, also those that have left it and are in use: a small part of a large service.
    pub fn used_backends(&self) -> Vec<Arc<Backend>> {
        self.common.used()
    }

    /// Applies `endpoints`. Those that stay keep their state; connections to those that were removed, or are not to be
    /// used now, are closed once unused: requests on them finish.
    pub fn apply(&self, endpoints: &Arc<[Endpoint]>) {
        let views = self.views.lock();
        let before = self.members.load_full();
        if Arc::ptr_eq(&before.source, endpoints) {
            return;
        }
        let after = self.successor(&before, endpoints);
        let used: HashSet<*const Backend> = identities(after.active()).collect();
        self.members.store(Arc::new(after));
        for (at, Member { backend, .. }) in before.all.iter().enumerate() {
            if !used.contains(&Arc::as_ptr(backend)) {
                backend.retire();
            } else if at >= before.active().len() {
                backend.resume();
            }
        }
        views.iter().for_each(|view| view.apply(endpoints));
    }

    /// The members that follow `before`, for `endpoints`.
    fn successor(&self, before: &Members, endpoints: &Arc<[Endpoint]>) -> Members {
        let exempt = |endpoint: &Endpoint| match self.exempt {
            Exempt::ServiceEndpoint if endpoint.on_node => Exempt::OnNode,
            exempt => exempt,
        };
        before.successor(endpoints, self.policy.load().balancer, (exempt, &self.common))
    }

    /// Closes every unused connection, and those in use when they are returned: no snapshot names this cluster any
    /// more. Requests that still use it, by an older snapshot, are served.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        for member in &self.members.load().all {
            member.backend.retire();
        }
        self.views.lock().iter().for_each(|view| view.cluster.retire());
    }

    /// Whether no snapshot names it any more, so that it keeps no connections.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Whether it, or one of its views, was used since this was last asked.
    fn takes_used(&self) -> bool {
        let views = self.views.lock().iter().filter(|view| view.cluster.takes_used()).count();
        self.used.swap(false, Ordering::Relaxed) || views > 0
    }

    /// Whether nobody has any of its views.
    fn has_unused_views(&self) -> bool {
        self.views.lock().iter().all(|view| Arc::strong_count(&view.cluster) == 1)
    }

    /// Whether an endpoint of it, or of one of its views, is ejected or left alone (`Retry-After`).
    fn ejected(&self, now: Instant) -> Ejected {
        let (policy, used) = (self.policy(), self.used_backends());
        let own = used.iter().map(|it| match it.breaker(now, &policy.breaker) {
            State::Open { .. } | State::Probing => Ejected::Now,
            // It has asked for that: a new one would not know.
            State::Closed | State::Due if it.left_alone(now).is_some() => Ejected::Now,
            State::Closed => Ejected::None,
            State::Due => Ejected::Due,
        });
        let views = self.views.lock();
        own.chain(views.iter().map(|view| view.cluster.ejected(now))).max().unwrap_or(Ejected::None)
    }

    /// The right to use one endpoint once: the balancer's choice for `client` among those whose breakers allow `caller` a
    /// request. Those that earlier attempts of the same request `tried` come last.
    ///
    /// # Errors
    ///
    /// [`Kind::NoEndpoint`] when there is none to choose from.
    pub fn lease(
        self: &Arc<Self>,
        now: Instant,
        rng: &mut fastrand::Rng,
        (client, caller): (&SocketAddr, Caller),
        tried: &[Arc<Backend>],
    ) -> Result<Lease, Fault> {
        // A store only where it changes something: workers share the cache line.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let members = self.members.load();
        let active = members.active();
        let last = tried.last().and_then(|last| active.iter().position(|it| Arc::ptr_eq(&it.backend, last)));
        let is_tried = |at: usize| is_among(tried, &active[at]);
        let rank = |at: usize| score(client.ip(), active[at].identity, active[at].weight);
        let policy = self.policy.load();
        let policy = health::Policy { balancer: policy.balancer, breaker: policy.breaker };
        let selected = select(caller, &**members, &self.norms, &policy, (now, rng), (is_tried, last), rank);
        let Selected { at, ticket, choice } = selected.ok_or_else(|| self.empty(&members))?;
        if choice == Choice::Forced && tried.is_empty() && !active[at].backend.is_in_doubt() {
            self.stats.forced.inc();
        }
        Ok(Lease::new(self.clone(), active[at].backend.clone(), ticket))
    }

    /// Whether some endpoint in use was not `tried` yet.
    pub fn has_untried(&self, tried: &[Arc<Backend>]) -> bool {
        let members = self.members.load();
        members.active().iter().any(|it| !is_among(tried, it))
    }

    fn empty(&self, members: &Members) -> Fault {
        let name = &self.name;
        match members.all.len() {
            0 => Fault::new(Kind::NoEndpoint, format!("{name} has no endpoint")),
            n => Fault::new(Kind::NoEndpoint, format!("{name} has no ready endpoint ({n} not ready)")),
        }
    }
}

fn is_among(tried: &[Arc<Backend>], member: &Member) -> bool {
    tried.iter().any(|it| Arc::ptr_eq(it, &member.backend))
}

/// The identities of endpoints' states.
fn identities(members: &[Member]) -> impl Iterator<Item = *const Backend> {
    members.iter().map(|member| Arc::as_ptr(&member.backend))
}
