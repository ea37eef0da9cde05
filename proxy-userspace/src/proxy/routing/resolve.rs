//! From a route to a target: outside names are looked up, and requests that depend on the cluster's services wait for
//! the first list of them.
//!
//! That list arrives some 100 ms after weir's start, or not while the API server is unreachable. So a request that
//! depends on it is held, for `limits.firstList` at most: just after the start until the list has arrived or failed;
//! later the cluster's DNS is asked at once, and a request is held only where that does not help.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use tokio::time::timeout_at;

use super::external::Asker;
use super::route::{Route, RouteTarget};
use super::router::Router;
use super::snapshot::Snapshot;
use crate::domain::name::Services;
use crate::domain::route::{Outside, Target};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::holders::Holder;
use crate::telemetry::{Counter, Gauge};
use crate::transport::PodNetns;

/// Counters of requests that wait for the first list of services.
#[derive(Debug, Default)]
pub struct Holds {
    /// Requests that wait now.
    pub open: Gauge,
    /// Requests that have waited, by how the wait ended: [`Holds::ENDS`].
    pub ended: [Counter; Self::ENDS.len()],
}

impl Holds {
    /// The labels of [`Holds::ended`]: the list arrived; it failed; the time ran out; the client left.
    pub const ENDS: [&'static str; 4] = ["known", "failing", "late", "left"];
}

/// A waiting request; counted when the wait ends, in any way.
pub(super) struct Hold<'a> {
    holds: &'a Holds,
    end: End,
}

/// How a request's wait ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The list arrived.
    Known = 0,
    /// Getting the list failed.
    Failing = 1,
    /// The time ran out.
    Late = 2,
    /// The client left.
    Left = 3,
}

/// Where a request goes.
pub struct Settled {
    /// The snapshot in which it was bound, where that is not the one that the request started with.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The route of its name.
    pub route: Rc<Route>,
    /// The target of this request.
    pub place: RouteTarget,
}

/// Who sends a request, as far as it must be known to look a name up.
pub trait Client {
    /// Whose the request is.
    fn holder(&self) -> Arc<Holder>;

    /// The pod from whose network namespace names are looked up; from the node if there is none.
    fn netns(&self) -> Option<&Arc<PodNetns>>;

    /// Whether weir would lend it the address of this node, which has these: it is no process of the node, and its connections
    /// to endpoints are not made in its own network namespace.
    fn is_lent(&self, own: &[IpAddr]) -> bool;
}

impl Router {
    /// The target of a request of `client` with `snapshot`, whose name `bind` binds.
    ///
    /// # Errors
    ///
    /// Why there is no target.
    pub async fn place(
        &self,
        snapshot: &Arc<Snapshot>,
        client: &impl Client,
        bind: impl Fn(&Snapshot) -> Rc<Route>,
    ) -> Result<Settled, Fault> {
        let route = bind(snapshot);
        if route.is_awaited() {
            // Boxed: hardly any request needs it.
            return Box::pin(self.hold(snapshot, route, client, bind)).await;
        }
        let place = self.settle(snapshot, &route, client).await?;
        Ok(Settled { snapshot: None, route, place })
    }

    /// As [`Self::place`], for a `route` that depends on services that are not known yet.
    async fn hold(
        &self,
        snapshot: &Arc<Snapshot>,
        mut route: Rc<Route>,
        client: &impl Client,
        bind: impl Fn(&Snapshot) -> Rc<Route>,
    ) -> Result<Settled, Fault> {
        let limits = &snapshot.config.limits;
        let most = limits.first_list.min(route.requests().response().unwrap_or(limits.response));
        let until = Instant::now() + most;
        let mut snapshot = snapshot.clone();
        // Just after the start the list is about to arrive.
        let moment = until.min(self.routing.epoch + most);
        if !snapshot.is_failing() && Instant::now() < moment {
            snapshot = self.known_by(&snapshot, moment).await;
            route = bind(&snapshot);
        }
        let mut outcome = self.settle(&snapshot, &route, client).await;
        if route.is_awaited() && !snapshot.is_failing() && is_unknown(&outcome) && Instant::now() < until {
            snapshot = self.known_by(&snapshot, until).await;
            if snapshot.services() == Services::Known {
                route = bind(&snapshot);
                outcome = self.settle(&snapshot, &route, client).await;
            }
        }
        Ok(Settled { place: outcome?, snapshot: Some(snapshot), route })
    }

    /// The snapshot after `earlier` as soon as services are known in it, or getting them has failed; otherwise the snapshot
    /// at `until`.
    async fn known_by(&self, earlier: &Arc<Snapshot>, until: Instant) -> Arc<Snapshot> {
        let mut hold = Hold::begin(&self.routing.holds);
        let mut moved = self.routing.moved.subscribe();
        loop {
            let snapshot = self.after(earlier);
            if snapshot.services() == Services::Known {
                hold.ends(End::Known);
                return snapshot;
            }
            if snapshot.is_failing() {
                hold.ends(End::Failing);
                return snapshot;
            }
            if timeout_at(until.into(), moved.changed()).await.is_err() {
                hold.ends(End::Late);
                return self.after(earlier);
            }
        }
    }

    /// The target of `route` for one request of `client`. Outside names are looked up, as many as `limits.dnsQuestions`
    /// allows; when DNS denies one, the next alternative is used.
    ///
    /// # Errors
    ///
    /// Why there is none.
    async fn settle(
        &self,
        snapshot: &Arc<Snapshot>,
        route: &Route,
        client: &impl Client,
    ) -> Result<RouteTarget, Fault> {
        let mut asker = None;
        let mut denied: SmallVec<[Outside; 1]> = SmallVec::new();
        let mut last: Option<(String, Fault)> = None;
        loop {
            let is_neg =
                |target: &Target<RouteTarget>| matches!(target, Target::Outside(it) if denied.contains(it));
            let chosen = match (route.choose(&mut self.rng.borrow_mut(), &is_neg), last.take()) {
                (Ok(bound), _) => bound,
                (Err(none), Some((host, denied))) => return Err(unbound(none, &host, &denied)),
                (Err(why), None) => return Err(why),
            };
            match &chosen.target {
                Target::Port(place) => return Ok(place.clone()),
                Target::Outside(name) => {
                    denied.push(name.clone());
                    // A route knows every target that it may lead to.
                    let Some(lookup) = route.lookup(name) else { continue };
                    // An address that a dtab wrote as such (`/$/inet`) is no service.
                    let services = match name.is_literal() && !route.is_awaited() {
                        true => Services::Known,
                        false => snapshot.services(),
                    };
                    let config = &snapshot.config;
                    let lookup = config.led(lookup, services, client.is_lent(&config.node.own))?;
                    let most = snapshot.config.limits.dns_questions;
                    let new = || Asker::new(client.holder(), client.netns().cloned(), most);
                    let asker = asker.get_or_insert_with(new);
                    match self.routing.external.cluster(snapshot, &lookup, asker).await {
                        Ok(cluster) => return Ok(route.place_outside(cluster, &chosen.id, name.written)),
                        Err(why) if why.kind == Kind::Unbound && !asker.is_spent() => {
                            last = Some((name.label(), why));
                        }
                        Err(why) => return Err(why),
                    }
                }
            }
        }
    }
}

impl<'a> Hold<'a> {
    pub(super) fn begin(holds: &'a Holds) -> Self {
        holds.open.inc();
        Self { holds, end: End::Left }
    }

    /// Records how it ended.
    pub(super) fn ends(&mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.holds.open.dec();
        self.holds.ended[self.end as usize].inc();
    }
}

fn is_unknown(outcome: &Result<RouteTarget, Fault>) -> bool {
    matches!(outcome, Err(Fault { kind: Kind::ServicesUnknown, .. }))
}

/// The fault of a name without any target (`none`) after DNS denied `host`.
fn unbound(none: Fault, host: &str, denied: &Fault) -> Fault {
    match none.kind {
        // A dtab already states that the name exists.
        Kind::NoEndpoint => none,
        kind => Fault::new(kind, format!("{none}; as for {host}: {denied}")),
    }
}
