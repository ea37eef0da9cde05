//! A cluster: one destination at run time, and the endpoints behind it.
//!
//! The set of endpoints is an immutable snapshot, swapped whole when the catalog says so ([`Cluster::apply`]);
//! an endpoint that stays keeps its [`Backend`], and with it its load, breaker and connections. So it does when the cluster's
//! settings change ([`Cluster::adopt`]): a [`ClusterPolicy`] is no part of what a cluster is. A request holds
//! a [`Lease`]: the right to use one endpoint once, which reports its outcome exactly once however it ends.

mod backend;
mod lazy;
mod lease;
mod members;
mod policy;
mod view;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use backend::{Backend, Stats as BackendStats};
pub use lazy::{ClusterRegistry, LazyCluster};
pub use lease::Lease;
pub use members::{Member, Members};
pub use policy::ClusterPolicy;
pub use view::View;

use crate::domain::balance::{Choice, score};
use crate::domain::catalog::Endpoint;
use crate::domain::health::{self, Norms, Selected, select};
use crate::domain::outcome::Outcome;
use crate::domain::ssrf::Exempt;
use crate::proxy::fault::{Fault, Kind};
use crate::telemetry::{Counter, Histogram};

/// One destination at run time.
#[derive(Debug)]
pub struct Cluster {
    /// Its canonical name, as in logs, metrics and the admin: `/svc/hello`, `/svc/hello:8080`.
    pub name: Box<str>,
    /// Which refused addresses its endpoints may have all the same.
    pub exempt: Exempt,
    /// Data-plane workers: each has its own connections to each endpoint.
    workers: usize,
    policy: ArcSwap<ClusterPolicy>,
    /// What passed.
    pub stats: Stats,
    /// What is normal here.
    norms: Norms,
    members: ArcSwap<Members>,
    /// Nothing names it any more.
    retired: AtomicBool,
    /// What transformers make of it. The lock also serialises [`Cluster::apply`] and [`Cluster::adopt`]; no request that is
    /// bound takes it.
    views: Mutex<Vec<View>>,
}

/// What a cluster counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// Attempts by outcome, see [`Outcome::slot`].
    pub outcomes: [Counter; Outcome::LABELS.len()],
    /// From the start of an attempt to the end of its answer.
    pub duration: Histogram,
    /// Attempts beyond the first of their request.
    pub retries: Counter,
    /// Picks for which no endpoint could be relied on, so that breakers were ignored.
    pub forced: Counter,
}

impl Cluster {
    /// A cluster without endpoints.
    pub fn new(name: Box<str>, exempt: Exempt, workers: usize, policy: Arc<ClusterPolicy>) -> Self {
        let members = ArcSwap::from_pointee(Members::default());
        let (policy, retired) = (ArcSwap::new(policy), AtomicBool::new(false));
        let (stats, norms) = Default::default();
        Self { name, exempt, workers, policy, stats, norms, members, retired, views: Mutex::default() }
    }

    /// Its settings as they are now.
    pub fn policy(&self) -> arc_swap::Guard<Arc<ClusterPolicy>> {
        self.policy.load()
    }

    /// Takes over other settings. They hold for what begins from now on, and for how what has begun ends; endpoints keep their
    /// health, their connections and their counts.
    pub fn adopt(&self, policy: &Arc<ClusterPolicy>) {
        let _order = self.views.lock();
        let before = self.policy.swap(policy.clone());
        if before.balancer != policy.balancer {
            let members = self.members.load_full();
            self.members.store(Arc::new(self.successor(&members, &members.source)));
        }
    }

    /// The endpoints as they are now.
    pub fn members(&self) -> arc_swap::Guard<Arc<Members>> {
        self.members.load()
    }

    /// Takes over `endpoints`. Those that stay keep their state; connections to those that went, or are not to be used now,
    /// are closed once they are unused: requests that run on them finish.
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

    /// The members after `before`, for `endpoints`.
    fn successor(&self, before: &Members, endpoints: &Arc<[Endpoint]>) -> Members {
        let new = |address| Backend::new(address, self.exempt, self.workers);
        before.successor(endpoints, self.policy.load().balancer, new)
    }

    /// Closes every unused connection, and those still to come back: nothing names this cluster any more. Requests that
    /// still do, by an older snapshot, are served.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        for member in &self.members.load().all {
            member.backend.retire();
        }
        self.views.lock().iter().for_each(|view| view.cluster.retire());
    }

    /// Whether nothing names it any more, so that it keeps no connections.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// The right to use one endpoint once: the balancer's choice for `client` among those whose breakers let a request through.
    /// Those that were `tried` by earlier attempts of the same request come last.
    ///
    /// # Errors
    ///
    /// [`Kind::NoEndpoint`] when there is none to choose from.
    pub fn lease(
        self: &Arc<Self>,
        now: Instant,
        rng: &mut fastrand::Rng,
        client: &SocketAddr,
        tried: &[Arc<Backend>],
    ) -> Result<Lease, Fault> {
        let members = self.members.load();
        let active = members.active();
        let last = tried.last().and_then(|last| active.iter().position(|it| Arc::ptr_eq(&it.backend, last)));
        let is_tried = |at: usize| is_among(tried, &active[at]);
        let rank = |at: usize| score(client.ip(), active[at].identity, active[at].weight);
        let policy = self.policy.load();
        let policy = health::Policy { balancer: policy.balancer, breaker: policy.breaker };
        let selected = select(&**members, &self.norms, &policy, (now, rng), (is_tried, last), rank);
        let Selected { at, ticket, choice } = selected.ok_or_else(|| self.empty(&members))?;
        if choice == Choice::Forced && tried.is_empty() && !active[at].backend.is_in_doubt() {
            self.stats.forced.inc();
        }
        Ok(Lease::new(self.clone(), active[at].backend.clone(), ticket))
    }

    /// Whether an endpoint in use is none of those that were `tried`.
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

/// What tells endpoints' states apart.
fn identities(members: &[Member]) -> impl Iterator<Item = *const Backend> {
    members.iter().map(|member| Arc::as_ptr(&member.backend))
}
