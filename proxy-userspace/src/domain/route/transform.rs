//! Transformers: changes to the answers of a namer.
//!
//! linkerd's `io.l5d.port`, `io.l5d.localhost` and `io.l5d.specificHost` change or filter endpoints, so they apply to
//! every update of their source. `io.l5d.replace` and `io.l5d.const` replace the destination. Each adds a prefix to the
//! bound name, the last one first: `/%/io.l5d.port/8080/#/io.l5d.k8s/default/http/hello`.
//!
//! In linkerd, a destination without endpoints after this does not exist, and the next alternative is taken. In weir it
//! exists and is empty (503), as any Service without endpoints: names do not come and go with endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use super::utility::{self, Builtin};
use super::{Bound, Outside, Target};
use crate::domain::catalog::Endpoint;
use crate::domain::name::{Path, Scope};

/// All transformers of a namer, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transform {
    /// The prefix of bound names.
    prefix: Path,
    /// The changes to endpoints.
    steps: Vec<Step>,
    /// The destination that replaces all answers.
    instead: Option<(When, Bound<()>)>,
}

/// A change to endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `io.l5d.port`: replaces the endpoints' port.
    Port(u16),
    /// `io.l5d.localhost`: keeps the endpoints at this node's own addresses.
    Localhost,
    /// `io.l5d.specificHost`: keeps the endpoints at this address.
    Host(IpAddr),
    /// Keeps the endpoints with this stable name. Not a linkerd transformer: used for a pod's own name.
    Pod(Arc<str>),
}

/// When a namer's answer is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// `io.l5d.replace`: if it found something.
    Found,
    /// `io.l5d.const`: always.
    Always,
}

impl Transform {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.prefix.is_empty()
    }

    /// The changes to endpoints, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Adds a change to endpoints; `prefix` is its name in bound names.
    pub fn then(&mut self, step: Step, prefix: &Path) {
        self.steps.push(step);
        self.prefix = named(prefix).join(self.prefix.labels());
    }

    /// Replaces all answers by `path`; `prefix` is the transformer's name in bound names. As in linkerd, no dtab
    /// applies: the path must contain an address itself.
    ///
    /// # Errors
    ///
    /// The path is neither `/$/inet/…` nor `/$/io.buoyant.rinet/…`.
    pub fn instead(&mut self, when: When, path: &Path, prefix: &Path) -> Result<(), &'static str> {
        let labels = path.labels();
        let known = (labels.get(0) == Some(b"$")).then(|| utility::look_up(labels, &|_| Scope::Anywhere));
        let Some(Builtin::Outside { outside, taken }) = known else {
            return Err("the path has to be an address: /$/inet/HOST/PORT");
        };
        let (id, residual) = (labels.take(taken).to_path(), labels.skip(taken).to_path());
        self.prefix = named(prefix);
        self.instead = Some((when, Bound { target: Target::Outside(outside), id, residual }));
        self.steps.clear();
        Ok(())
    }

    /// Whether there is a destination that replaces all answers.
    pub fn is_final(&self) -> bool {
        self.instead.is_some()
    }

    /// `id` with the prefix.
    pub fn id(&self, id: &Path) -> Path {
        self.prefix.join(id.labels())
    }

    /// The replacement, for a name that was `found` or not: the destination, its id, the residual.
    pub(super) fn other(&self, found: bool) -> Option<(&Outside, Path, &Path)> {
        let (when, bound) = self.instead.as_ref()?;
        match (&bound.target, when) {
            (Target::Outside(outside), When::Always) => Some((outside, self.id(&bound.id), &bound.residual)),
            (Target::Outside(outside), When::Found) if found => {
                Some((outside, self.id(&bound.id), &bound.residual))
            }
            _ => None,
        }
    }
}

fn named(prefix: &Path) -> Path {
    Path::from_labels(["%"]).join(prefix.labels())
}

/// Applies `steps` to `endpoints` on a node with the addresses `own`; sorted by address. Endpoints that become equal
/// are merged: the sum of their weights, and the better condition.
pub fn apply(steps: &[Step], endpoints: &[Endpoint], own: &[IpAddr]) -> Arc<[Endpoint]> {
    let is_own = |address: IpAddr| address.is_loopback() || own.contains(&address);
    let mut left: Vec<Endpoint> = endpoints.to_vec();
    for step in steps {
        match step {
            Step::Port(port) => left.iter_mut().for_each(|it| it.address.set_port(*port)),
            Step::Localhost => left.retain(|it| is_own(it.address.ip().to_canonical())),
            Step::Host(host) => left.retain(|it| it.address.ip().to_canonical() == host.to_canonical()),
            Step::Pod(name) => left.retain(|it| it.hostname.as_ref() == Some(name)),
        }
    }
    left.sort_by_key(|it| it.address);
    left.dedup_by(|again, kept| {
        let same = again.address == kept.address;
        if same {
            kept.weight += again.weight;
            kept.condition = kept.condition.min(again.condition);
        }
        same
    });
    left.into()
}
