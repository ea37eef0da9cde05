//! Selects a service's endpoints for this node: the API's topology rules, as kube-proxy applies them.

use std::net::SocketAddr;

use super::host_pods::HostPods;
use super::service::TrafficPolicy;
use super::slice::{HintedName, Hints};
use crate::domain::catalog::{Condition, Endpoint};

/// Where weir runs. Unknown values do not restrict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// The node's name.
    pub node: Option<&'a str>,
    /// The node's zone.
    pub zone: Option<&'a str>,
    /// The pods in the node's own network.
    pub host_pods: Option<&'a HostPods>,
}

/// An endpoint and its hints.
#[derive(Clone, Debug)]
pub(super) struct Backed<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) hints: Option<&'a Hints>,
}

impl Place<'_> {
    /// The endpoints of a port for this place.
    ///
    /// With `internalTrafficPolicy: Local`, those of this node. Otherwise hints apply: `forNodes`, then `forZones`.
    /// They are valid only if every ready endpoint has them and one of those is meant for this place; otherwise they
    /// are out of date, and all endpoints are used. Endpoints that are not ready always stay, because they are used
    /// when no ready one is left.
    pub(super) fn narrow(self, policy: TrafficPolicy, mut backed: Vec<Backed<'_>>) -> Vec<Endpoint> {
        once(&mut backed);
        match (policy, self.node) {
            (TrafficPolicy::Local, Some(node)) => {
                backed.retain(|it| it.endpoint.node.as_deref() == Some(node));
            }
            (TrafficPolicy::Local, None) => {}
            (TrafficPolicy::Cluster, node) => {
                let nodes = |hints: &Hints| names(hints.for_nodes.as_deref(), node);
                let zones = |hints: &Hints| names(hints.for_zones.as_deref(), self.zone);
                if !hinted(&mut backed, nodes) {
                    hinted(&mut backed, zones);
                }
            }
        }
        backed.into_iter().map(|it| it.endpoint).collect()
    }
}

/// What a hint says about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    /// There is no hint, or nothing to compare it with.
    None,
    /// It names others.
    Elsewhere,
    /// It names this one.
    Here,
}

fn names(hinted: Option<&[HintedName]>, own: Option<&str>) -> Hint {
    match (hinted, own) {
        (None | Some([]), _) | (_, None) => Hint::None,
        (Some(names), Some(own)) if names.iter().any(|it| it.name == own) => Hint::Here,
        (Some(_), Some(_)) => Hint::Elsewhere,
    }
}

/// Removes ready endpoints meant for other places, if the hints are valid; returns whether they are.
fn hinted(backed: &mut Vec<Backed<'_>>, hint: impl Fn(&Hints) -> Hint) -> bool {
    let hint = |it: &Backed<'_>| it.hints.map_or(Hint::None, &hint);
    let is_ready = |it: &&Backed<'_>| it.endpoint.condition == Condition::Ready;
    let mut here = false;
    for it in backed.iter().filter(is_ready) {
        match hint(it) {
            Hint::None => return false,
            Hint::Elsewhere => {}
            Hint::Here => here = true,
        }
    }
    if here {
        backed.retain(|it| it.endpoint.condition != Condition::Ready || hint(it) == Hint::Here);
    }
    here
}

/// An endpoint that moves between slices is in both; the better condition wins.
fn once(backed: &mut Vec<Backed<'_>>) {
    let key = |it: &Backed<'_>| -> (SocketAddr, Condition) { (it.endpoint.address, it.endpoint.condition) };
    backed.sort_by_key(key);
    backed.dedup_by_key(|it| it.endpoint.address);
}
