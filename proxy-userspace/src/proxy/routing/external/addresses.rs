//! Selects the addresses of a DNS answer.
//!
//! Only those that weir may connect to are used, so that an answer with a good address and a refused one causes no
//! failed request. That is not the security check: connections are refused where weir connects (`upstream`). And only
//! those that this node has a route to (RFC 6724 §6, rule 1); no other rule of RFC 6724 orders them, since they are
//! balanced.

use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::ExternalClusters;
use crate::domain::catalog::Endpoint;
use crate::domain::ssrf::{Exempt, refuse, refuse_in_pod};
use crate::proxy::routing::snapshot::Snapshot;
use crate::proxy::upstream::Source;
use crate::telemetry::Counter;
use crate::transport::Way;

impl ExternalClusters {
    /// The endpoints of an answer for `name`: the addresses that weir may connect to and has a route to (RFC 6724 §6,
    /// rule 1), up to the limit. If there are none, all are kept, so that the request's fault gives the reason.
    ///
    /// # Errors
    ///
    /// An address, when the name is below the cluster's domain and none of its addresses can be the cluster's.
    pub(super) fn endpoints(
        &self,
        snapshot: &Snapshot,
        (name, port, from): (&str, u16, Source),
        addresses: &[IpAddr],
    ) -> Result<Arc<[Endpoint]>, IpAddr> {
        let config = &snapshot.config;
        let inside = config.rules.in_cluster_domain(name);
        let (own, foreign): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.iter().partition(|&&address| !inside || config.cluster_ranges.permits(address));
        self.foreign.add(foreign.len() as u64);
        if let (true, Some(&foreign)) = (own.is_empty(), foreign.first()) {
            return Err(foreign);
        }
        let addresses = own;
        let all = || addresses.iter().map(|&address| Endpoint::at(SocketAddr::new(address, port)));
        let exempt = if inside { Exempt::OnNode } else { Exempt::No };
        let is_local = |ip| self.routes.is_local(ip);
        let is_allowed = |it: &Endpoint| match from {
            Source::Node => refuse(it.address, snapshot.local(), exempt, is_local).is_none(),
            Source::Pod(_) => refuse_in_pod(it.address, snapshot.local()).is_none(),
        };
        let kept = self.unless_none(all().collect(), is_allowed, &self.refused);
        // The routes of a pod are not the node's.
        let has_route = |it: &Endpoint| from != Source::Node || self.has_route(it.address.ip());
        let kept = self.unless_none(kept, has_route, &self.unreachable);
        Ok(self.some(kept, config.limits.addresses).into())
    }

    /// Whether packets for `address` have a route; `true` where that is not known.
    pub(super) fn has_route(&self, address: IpAddr) -> bool {
        self.routes.way(address) != Way::None
    }

    /// Those of `all` that are `good`, counting the others; all of them when none is good.
    fn unless_none(
        &self,
        all: Vec<Endpoint>,
        good: impl Fn(&Endpoint) -> bool,
        others: &Counter,
    ) -> Vec<Endpoint> {
        let (good, bad): (Vec<_>, Vec<_>) = all.into_iter().partition(good);
        others.add(bad.len() as u64);
        if good.is_empty() { bad } else { good }
    }

    /// At most `limit` of `all`, sorted by address: the same choice at each look-up, a different one on other nodes.
    fn some(&self, all: Vec<Endpoint>, limit: usize) -> Vec<Endpoint> {
        if all.len() <= limit {
            return all;
        }
        self.surplus.add((all.len() - limit) as u64);
        let (mut v4, mut v6): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.address.is_ipv4());
        let half = limit / 2;
        let of_v4 = v4.len().min(limit - v6.len().min(half));
        for (family, most) in [(&mut v4, of_v4), (&mut v6, limit - of_v4)] {
            family.sort_by_cached_key(|it| self.choice.hash_one(it.address.ip()));
            family.truncate(most);
            family.sort_by_key(|it| it.address);
        }
        v4.extend(v6);
        v4
    }
}
