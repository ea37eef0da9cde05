//! A cluster: one destination at run time, and the endpoints behind it.
//!
//! The set of endpoints is an immutable snapshot, swapped whole when the catalog says so ([`Cluster::apply`]);
//! an endpoint that stays keeps its [`Backend`], and with it its load, breaker and connections. A request holds
//! a [`Lease`]: the right to use one endpoint once, which reports its outcome exactly once however it ends.

mod backend;
mod lease;
mod members;
mod seat;
mod view;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use backend::{Backend, Stats as BackendStats};
pub use lease::Lease;
pub use members::{Member, Members};
pub use seat::{Live, Seat};
pub use view::View;

use crate::domain::balance::{Balancer, Choice, score};
use crate::domain::catalog::Endpoint;
use crate::domain::health::breaker::Policy;
use crate::domain::health::{self, Norms, Selected, select};
use crate::domain::outcome::Outcome;
use crate::domain::policy::Calls;
use crate::domain::refuse::Exempt;
use crate::proxy::fault::{Fault, Kind};
use crate::telemetry::{Count, Histogram};

/// What a cluster is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// How it chooses.
    pub balancer: Balancer,
    /// When it ejects.
    pub breaker: Policy,
    /// Which refused addresses its endpoints may have all the same.
    pub exempt: Exempt,
    /// How requests that name it are tried, as far as policies say.
    pub calls: Calls,
    /// How those are tried that dialled it: by what policies say of its own name, too.
    pub dialled: Calls,
    /// Data-plane workers: each has its own connections to each endpoint.
    pub workers: usize,
}

/// One destination at run time.
#[derive(Debug)]
pub struct Cluster {
    /// Its canonical name, as in logs, metrics and the admin: `/svc/hello`, `/svc/hello:8080`.
    pub name: Box<str>,
    /// What it was made with.
    pub plan: Plan,
    /// What passed.
    pub stats: Stats,
    /// What is normal here.
    norms: Norms,
    members: ArcSwap<Members>,
    /// Nothing names it any more.
    retired: AtomicBool,
    /// What transformers make of it. The lock also serialises [`Cluster::apply`]; no request that is bound takes it.
    views: Mutex<Vec<View>>,
}

/// What a cluster counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// Attempts by outcome, see [`Outcome::slot`].
    pub outcomes: [Count; Outcome::LABELS.len()],
    /// From the start of an attempt to the end of its answer.
    pub duration: Histogram,
    /// Attempts beyond the first of their request.
    pub retries: Count,
    /// Picks for which no endpoint could be relied on, so that breakers were ignored.
    pub forced: Count,
}

impl Cluster {
    /// A cluster without endpoints.
    pub fn new(name: Box<str>, plan: Plan) -> Self {
        let members = ArcSwap::from_pointee(Members::default());
        let retired = AtomicBool::new(false);
        let (stats, norms) = Default::default();
        Self { name, plan, stats, norms, members, retired, views: Mutex::default() }
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
        let after = before.successor(endpoints, &self.plan);
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

    /// Closes every unused connection, and those still to come back: nothing names this cluster any more. Requests that
    /// still do, by an older world, are served.
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
        let policy = health::Policy { balancer: self.plan.balancer, breaker: self.plan.breaker };
        let selected = select(&**members, &self.norms, &policy, (now, rng), (is_tried, last), rank);
        let Selected { at, ticket, choice } = selected.ok_or_else(|| self.empty(&members))?;
        if choice == Choice::Forced && tried.is_empty() && !active[at].backend.is_in_doubt() {
            self.stats.forced.up();
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
