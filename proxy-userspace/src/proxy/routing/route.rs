//! A bound name: the tree of targets for its requests, ready to choose from.

use std::sync::Arc;

use http::HeaderValue;

use super::snapshot::{BoundBy, Dependencies, Generation, RoutingConfig, Snapshot};
use crate::domain::dtab::NameTree;
use crate::domain::name::{Path, Questions, Services};
use crate::domain::policy::RequestPolicy;
use crate::domain::route::{Bound, Choice, Explanation, Failure, Outside, Target, choose};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::upstream::cluster::Cluster;

/// Maximum number of reasons in an answer that has no target.
const REASONS: usize = 8;

/// The route of the requests for one name.
#[derive(Debug)]
pub struct Route {
    /// The name (`/svc/hello`), as in `l5d-dst-service`.
    pub service: Option<HeaderValue>,
    tree: NameTree<Bound<RouteTarget>>,
    /// The request policy of the name.
    requests: RequestPolicy,
    /// How the outside targets are found; they are looked up only when used.
    outside: Vec<Lookup>,
    /// Why there is no target; determined once, when the name is bound.
    why: (Kind, String),
    /// What the binding depends on.
    dependencies: Dependencies,
}

/// How an outside target is found.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The outside destination.
    pub outside: Outside,
    /// The DNS questions; none for an address.
    pub questions: Questions,
}

/// A service port, and its headers.
#[derive(Clone, Debug)]
pub struct RouteTarget {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The bound part of the name (`l5d-dst-client`).
    pub client: Option<HeaderValue>,
    /// The residual of the name (`l5d-dst-residual`); `None` when empty.
    pub residual: Option<HeaderValue>,
    /// How its endpoints are tried.
    pub requests: RequestPolicy,
    /// Whether it is outside the catalog, so that it may have been looked up just now.
    pub outside: bool,
    /// Whether an operator wrote it down, in a dtab or a namer of the configuration; of a destination outside the catalog.
    pub written: bool,
}

impl Route {
    /// The route for `name`, from the result of its delegation and that result's dependencies. `explain` gives the
    /// reasons where nothing was bound.
    pub fn new(
        (config, services): (&RoutingConfig, Services),
        name: &Path,
        bound: Result<NameTree<Bound<Arc<Cluster>>>, Failure>,
        bound_by: BoundBy,
        explain: impl FnOnce() -> Explanation<Arc<Cluster>>,
    ) -> Self {
        let service = HeaderValue::try_from(name.to_string()).ok();
        let requests = config.requests.service(name);
        let (tree, why) = match (bound, bound_by.unknown) {
            (Err(failure), _) => (NameTree::Neg, (Kind::Unbound, format!("{name}: {failure}"))),
            (Ok(tree), Some(unknown)) => {
                (tree, (Kind::ServicesUnknown, format!("{name} is not bound yet: {unknown}")))
            }
            (Ok(tree), None) => {
                let why = why(name, &tree, explain);
                (tree, (Kind::Unbound, why))
            }
        };
        let mut outside = Vec::new();
        tree.for_each(&mut |bound| {
            if let Target::Outside(it) = &bound.target {
                outside.push(config.lookup(it, services));
            }
        });
        let tree = tree.map(&mut |bound| place(bound, requests));
        Self { service, tree, requests, outside, why, dependencies: bound_by.dependencies }
    }

    /// The target for an outside host that was looked up.
    pub fn place_outside(&self, cluster: Arc<Cluster>, id: &Path, written: bool) -> RouteTarget {
        let client = HeaderValue::try_from(id.to_string()).ok();
        let requests = self.requests.and(cluster.policy().requests);
        RouteTarget { cluster, client, residual: None, requests, outside: true, written }
    }

    /// Whether what it depends on is incomplete: the first list of the cluster's services has not arrived.
    pub fn is_awaited(&self) -> bool {
        self.why.0 == Kind::ServicesUnknown
    }

    /// The request policy of the name.
    pub fn requests(&self) -> RequestPolicy {
        self.requests
    }

    /// How an outside target of this route is found.
    pub fn lookup(&self, outside: &Outside) -> Option<&Lookup> {
        self.outside.iter().find(|it| it.outside == *outside)
    }

    /// Whether it would be bound identically in `snapshot`, having been bound in the snapshot of `then`. The reasons of
    /// an unbound name list what exists instead, so such a route is valid only in its own snapshot.
    pub fn holds(&self, snapshot: &Snapshot, then: Generation) -> bool {
        !matches!(self.tree, NameTree::Neg) && snapshot.holds(&self.dependencies, then)
    }

    /// The target for one request, unless what `is_neg` knows to be denied leaves none.
    ///
    /// # Errors
    ///
    /// [`Kind::Unbound`] when there is none, [`Kind::ServicesUnknown`] when one may become known, [`Kind::NoEndpoint`]
    /// when a dtab says that the name is empty.
    pub fn choose(
        &self,
        rng: &mut fastrand::Rng,
        is_neg: &impl Fn(&Target<RouteTarget>) -> bool,
    ) -> Result<&Bound<RouteTarget>, Fault> {
        match choose(&self.tree, rng, is_neg) {
            Choice::Bound(bound) => Ok(bound),
            Choice::Neg | Choice::Fail => Err(Fault::new(self.why.0, self.why.1.clone())),
            Choice::Empty if matches!(self.tree, NameTree::Empty) => {
                Err(Fault::new(Kind::NoEndpoint, self.why.1.clone()))
            }
            // One of several branches.
            Choice::Empty => Err(Fault::new(Kind::NoEndpoint, "a dtab entry leads this name to nothing ($)")),
        }
    }
}

/// Why `tree` may have no target. Not computed for a tree that certainly leads to one.
fn why<P>(
    name: &Path,
    tree: &NameTree<Bound<P>>,
    explain: impl FnOnce() -> Explanation<Arc<Cluster>>,
) -> String {
    match tree {
        NameTree::Neg => format!("{name} is not bound: {}", short(&explain().reasons())),
        NameTree::Fail => format!("{name} is not bound: {}", decider(&explain())),
        NameTree::Empty => {
            let explanation = explain();
            let why = match explanation.empty() {
                Some(why) => why.to_owned(),
                None => decider(&explanation),
            };
            format!("{name} has no endpoint: {why}")
        }
        NameTree::Leaf(_) | NameTree::Alt(_) | NameTree::Union(_) => {
            let mut uncertain = false;
            tree.for_each(&mut |bound| uncertain |= bound.target.is_uncertain());
            if !uncertain {
                return String::new();
            }
            // If DNS denies the rest, these are the reasons of the alternatives before it.
            match explain().reasons().as_slice() {
                [] => format!("{name} is not bound"),
                reasons => format!("{name} is not bound: {}", short(reasons)),
            }
        }
    }
}

/// Reasons for an answer's body. The complete list is in an explanation.
fn short(reasons: &[&str]) -> String {
    let told = reasons[..reasons.len().min(REASONS)].join("; ");
    match reasons.len().checked_sub(REASONS) {
        None | Some(0) => told,
        Some(more) => format!("{told}; and {more} more reasons, which `weir explain` gives"),
    }
}

/// The entry that makes a name lead nowhere.
fn decider(explanation: &Explanation<Arc<Cluster>>) -> String {
    explanation.decider().unwrap_or_else(|| "the name itself says so".to_owned())
}

fn place(bound: &Bound<Arc<Cluster>>, service: RequestPolicy) -> Bound<RouteTarget> {
    let Bound { target, id, residual } = bound.clone();
    let target = match target {
        Target::Port(cluster) => {
            let client = HeaderValue::try_from(id.to_string()).ok();
            let residual = HeaderValue::try_from(residual.to_string()).ok().filter(|_| !residual.is_empty());
            let requests = service.and(cluster.policy().requests);
            Target::Port(RouteTarget { cluster, client, residual, requests, outside: false, written: false })
        }
        Target::Outside(outside) => Target::Outside(outside),
    };
    Bound { target, id, residual }
}
