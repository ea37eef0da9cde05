//! A name, bound: the tree of places its requests may go to, ready for each of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::HeaderValue;

use super::cluster::Cluster;
use super::fault::{Fault, Kind};
use super::world::{Facts, Generation, World};
use crate::domain::dtab::NameTree;
use crate::domain::name::{Host, Path};
use crate::domain::route::{Bound, Choice, Explanation, Failure, Target, choose};

/// Where the requests for one name go.
#[derive(Debug)]
pub struct Route {
    /// The name (`/svc/hello`), as `l5d-dst-service` has it.
    pub service: Option<HeaderValue>,
    tree: NameTree<Bound<Place>>,
    /// Why there is no place; found out once, when the name is bound.
    why: String,
    /// What the binding depends on.
    facts: Facts,
}

/// A service port, and the headers that say so.
#[derive(Clone, Debug)]
pub struct Place {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Its part of the name (`l5d-dst-client`).
    pub client: Option<HeaderValue>,
    /// What is left of the name (`l5d-dst-residual`); none where nothing is.
    pub residual: Option<HeaderValue>,
}

impl Route {
    /// The route for `name`, of what its delegation came to by `facts`. Why it came to nothing, if so, `explain` tells.
    pub fn new(
        name: &Path,
        bound: Result<NameTree<Bound<Arc<Cluster>>>, Failure>,
        facts: Facts,
        explain: impl FnOnce() -> Explanation<Arc<Cluster>>,
    ) -> Self {
        let service = HeaderValue::try_from(name.to_string()).ok();
        match bound {
            Ok(NameTree::Neg) => {
                let why = format!("{name} is not bound: {}", explain().reasons().join("; "));
                Self { service, tree: NameTree::Neg, why, facts }
            }
            Ok(tree) => {
                let why = format!("{name} is not bound: the dtab says so");
                Self { service, tree: tree.map(&mut place), why, facts }
            }
            Err(failure) => Self { service, tree: NameTree::Neg, why: format!("{name}: {failure}"), facts },
        }
    }

    /// Whether it would be bound the same in `world`, having been bound in the world of `then`. Why a name is not bound
    /// says what there is instead, so that such a route holds in its own world only.
    pub fn holds(&self, world: &World, then: Generation) -> bool {
        !matches!(self.tree, NameTree::Neg) && world.holds(&self.facts, then)
    }

    /// The place for one request, unless what `is_neg` knows leaves none.
    ///
    /// # Errors
    ///
    /// [`Kind::Unbound`] when there is none, [`Kind::NoEndpoint`] when a dtab says that the name is empty.
    pub fn choose(
        &self,
        rng: &mut fastrand::Rng,
        is_neg: &impl Fn(&Target<Place>) -> bool,
    ) -> Result<&Bound<Place>, Fault> {
        match choose(&self.tree, rng, is_neg) {
            Choice::Bound(bound) => Ok(bound),
            Choice::Neg | Choice::Fail => Err(Fault::new(Kind::Unbound, self.why.clone())),
            Choice::Empty => Err(Fault::new(Kind::NoEndpoint, "a dtab entry leads this name to nothing ($)")),
        }
    }
}

fn place(bound: &Bound<Arc<Cluster>>) -> Bound<Place> {
    let Bound { target, id, residual } = bound.clone();
    let target = match target {
        Target::Port(cluster) => {
            let client = HeaderValue::try_from(id.to_string()).ok();
            let residual = HeaderValue::try_from(residual.to_string()).ok().filter(|_| !residual.is_empty());
            Target::Port(Place { cluster, client, residual })
        }
        Target::Outside(outside) => Target::Outside(outside),
    };
    Bound { target, id, residual }
}

/// One worker's routes: bound names, for as long as what they were bound by is so. Endpoints come and go without a new
/// world, and a service that comes or goes unbinds the names that asked for it: no other is bound anew.
#[derive(Debug, Default)]
pub struct Routes(RefCell<Table>);

/// By host, and of each by port.
type Table = HashMap<Box<str>, Vec<Kept>, RandomState>;

/// A route that was found good in the world of a generation.
#[derive(Debug)]
struct Kept {
    port: Option<u16>,
    good: Generation,
    route: Rc<Route>,
}

/// Names remembered by one worker; with more, all are forgotten and bound again as they come.
const NAMES: usize = 20_000;

impl Routes {
    /// The route of `host` in `world`. A name that is known costs one look-up and nothing is allocated.
    pub fn of(&self, world: &World, host: &Host<'_>) -> Rc<Route> {
        self.known(world, &host.host, host.port)
            .unwrap_or_else(|| self.bind(world, &host.host, host.port, &name_of(world, host)))
    }

    /// The route of `name` in `world`, for names that are not made of a host.
    pub fn named(&self, world: &World, name: &Path) -> Rc<Route> {
        // No host starts with a slash, so these never meet those of `of`.
        let host = name.to_string();
        self.known(world, &host, None).unwrap_or_else(|| self.bind(world, &host, None, name))
    }

    fn known(&self, world: &World, host: &str, port: Option<u16>) -> Option<Rc<Route>> {
        let mut table = self.0.borrow_mut();
        let kept = table.get_mut(host)?.iter_mut().find(|kept| kept.port == port)?;
        if kept.good != world.generation() {
            if !kept.route.holds(world, kept.good) {
                return None;
            }
            kept.good = world.generation();
        }
        Some(kept.route.clone())
    }

    #[cold]
    fn bind(&self, world: &World, host: &str, port: Option<u16>, name: &Path) -> Rc<Route> {
        let route = Rc::new(world.bind(name, None));
        let mut table = self.0.borrow_mut();
        if table.len() > NAMES {
            *table = Table::default();
        }
        let ports = table.entry(host.into()).or_default();
        ports.retain(|kept| kept.port != port);
        ports.push(Kept { port, good: world.generation(), route: route.clone() });
        route
    }

    /// Forgets what holds no more, and with it the clusters that went.
    pub fn sweep(&self, world: &World) {
        let good = world.generation();
        self.0.borrow_mut().retain(|_, ports| {
            ports.retain(|kept| kept.good == good || kept.route.holds(world, kept.good));
            !ports.is_empty()
        });
    }
}

/// The name of a request for `host`: `/svc/hello:8080`.
pub fn name_of(world: &World, host: &Host<'_>) -> Path {
    let mut name = world.terms.prefix.clone();
    name.push(host.label());
    name
}
