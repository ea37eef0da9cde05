//! From a route to a place: names outside are looked up, and requests that depend on the cluster's services wait for the
//! first list of them.
//!
//! That list comes some 100 ms after weir's start, or not for as long as the API server is away. So a request that depends on
//! it is held, for `limits.firstList` at most: in the first moments until the list is here, or has failed; later the
//! cluster's DNS is asked at once, and a request is held only where that does not help.

use std::net::SocketAddr;
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
use crate::telemetry::{Counter, Gauge};

/// What is counted of requests that wait for the first list of services.
#[derive(Debug, Default)]
pub struct Holds {
    /// Requests that wait now.
    pub open: Gauge,
    /// Requests that have waited, by how that ended: [`Holds::ENDS`].
    pub ended: [Counter; Self::ENDS.len()],
}

impl Holds {
    /// The labels of [`Holds::ended`]: what was waited for came; it failed; the time was over; the client left.
    pub const ENDS: [&'static str; 4] = ["known", "failing", "late", "left"];
}

/// A request that waits; counted when that ends, however it does.
pub(super) struct Hold<'a> {
    holds: &'a Holds,
    end: End,
}

/// How a request's waiting ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// It is known.
    Known = 0,
    /// It was tried to know it, and that failed.
    Failing = 1,
    /// The time is over.
    Late = 2,
    /// The client has left.
    Left = 3,
}

/// Where a request goes.
pub struct Settled {
    /// The snapshot that it was bound in, where that is another than the one it came into.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Where its name leads.
    pub route: Rc<Route>,
    /// The place of it for this request.
    pub place: RouteTarget,
}

impl Router {
    /// Where a request of `client` goes that sees `snapshot`, and whose name leads where `bind` says.
    ///
    /// # Errors
    ///
    /// Why there is no place for it.
    pub async fn place(
        &self,
        snapshot: &Arc<Snapshot>,
        client: &SocketAddr,
        bind: impl Fn(&Snapshot) -> Rc<Route>,
    ) -> Result<Settled, Fault> {
        let route = bind(snapshot);
        if route.is_awaited() {
            // On the heap, since hardly any request needs it.
            return Box::pin(self.hold(snapshot, route, client, bind)).await;
        }
        let place = self.settle(snapshot, &route, client).await?;
        Ok(Settled { snapshot: None, route, place })
    }

    /// The same for a `route` that depends on what is not known of the cluster's services yet.
    async fn hold(
        &self,
        snapshot: &Arc<Snapshot>,
        mut route: Rc<Route>,
        client: &SocketAddr,
        bind: impl Fn(&Snapshot) -> Rc<Route>,
    ) -> Result<Settled, Fault> {
        let limits = &snapshot.config.limits;
        let most = limits.first_list.min(route.requests().response().unwrap_or(limits.response));
        let until = Instant::now() + most;
        let mut snapshot = snapshot.clone();
        // In the first moments the list is about to come.
        let moment = until.min(self.routing.epoch + most);
        if !snapshot.is_failing() && Instant::now() < moment {
            snapshot = self.known_by(moment).await;
            route = bind(&snapshot);
        }
        let mut outcome = self.settle(&snapshot, &route, client).await;
        if route.is_awaited() && !snapshot.is_failing() && is_unknown(&outcome) && Instant::now() < until {
            snapshot = self.known_by(until).await;
            if snapshot.services() == Services::Known {
                route = bind(&snapshot);
                outcome = self.settle(&snapshot, &route, client).await;
            }
        }
        Ok(Settled { place: outcome?, snapshot: Some(snapshot), route })
    }

    /// The snapshot as soon as services are known in it, or it was tried in vain to know them; or else the snapshot at `until`.
    async fn known_by(&self, until: Instant) -> Arc<Snapshot> {
        let mut hold = Hold::begin(&self.routing.holds);
        let mut moved = self.routing.moved.subscribe();
        loop {
            let snapshot = self.snapshot();
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
                return self.snapshot();
            }
        }
    }

    /// The place of `route` for one request of `client`. Names outside are looked up, as many as `limits.dnsQuestions`
    /// allows; one that DNS denies makes room for the next alternative.
    ///
    /// # Errors
    ///
    /// Why there is none.
    async fn settle(
        &self,
        snapshot: &Arc<Snapshot>,
        route: &Route,
        client: &SocketAddr,
    ) -> Result<RouteTarget, Fault> {
        let mut asker = Asker::new(client.ip(), snapshot.config.limits.dns_questions);
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
                    // A route knows every place that it may lead to.
                    let Some(lookup) = route.lookup(name) else { continue };
                    match self.routing.external.cluster(snapshot, lookup, &mut asker).await {
                        Ok(cluster) => return Ok(route.place_outside(cluster, &chosen.id)),
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

    /// It has ended so.
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

/// The fault of a name for which there is `none` left, DNS having denied `host`.
fn unbound(none: Fault, host: &str, denied: &Fault) -> Fault {
    match none.kind {
        // A dtab goes on to say that the name exists.
        Kind::NoEndpoint => none,
        kind => Fault::new(kind, format!("{none}; as for {host}: {denied}")),
    }
}
