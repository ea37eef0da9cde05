//! Transformers: what becomes of the places that a namer finds.
//!
//! linkerd's `io.l5d.port`, `io.l5d.localhost` and `io.l5d.specificHost` change or sort out endpoints, so they follow
//! whatever their source says of those. `io.l5d.replace` and `io.l5d.const` put another place there. Each says what it did
//! at the front of the bound name: `/%/io.l5d.port/8080/#/io.l5d.k8s/default/http/hello`, the later ones first.
//!
//! In linkerd a place without endpoints after this is as if it did not exist, and the next alternative is taken; here
//! it exists and is empty (503), as any Service whose endpoints went: names do not come and go with endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use super::utility::{self, Builtin};
use super::{Bound, Outside, Target};
use crate::domain::catalog::Endpoint;
use crate::domain::name::{Path, Scope};

/// All transformers of a namer, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transform {
    /// What bound names get in front.
    prefix: Path,
    /// What happens to endpoints.
    steps: Vec<Step>,
    /// The place that takes the place of all.
    instead: Option<(When, Bound<()>)>,
}

/// A change of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `io.l5d.port`: this port instead of theirs.
    Port(u16),
    /// `io.l5d.localhost`: those at this node's own addresses.
    Localhost,
    /// `io.l5d.specificHost`: those at this address.
    Host(IpAddr),
    /// Those of this stable name. No transformer of linkerd's: a pod's own name is bound so.
    Pod(Arc<str>),
}

/// When a namer's answer is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// `io.l5d.replace`: when it found something.
    Found,
    /// `io.l5d.const`: always.
    Always,
}

impl Transform {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.prefix.is_empty()
    }

    /// What happens to endpoints, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Adds a change of endpoints, which names itself `prefix`.
    pub fn then(&mut self, step: Step, prefix: &Path) {
        self.steps.push(step);
        self.prefix = named(prefix).join(self.prefix.labels());
    }

    /// Puts `path` in the place of everything, which names itself `prefix`. As in linkerd, no dtab is asked: the path has
    /// to say an address by itself.
    ///
    /// # Errors
    ///
    /// The path is none of `/$/inet/…` or `/$/io.buoyant.rinet/…`.
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

    /// Whether there is a place for everything.
    pub fn is_final(&self) -> bool {
        self.instead.is_some()
    }

    /// `id`, as it is called after all this.
    pub fn id(&self, id: &Path) -> Path {
        self.prefix.join(id.labels())
    }

    /// The place that takes the place of what was found, or of what was not: where to, what it is called, the residual.
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

/// What `steps` make of `endpoints` on a node with the addresses `own`; sorted by address. Where two come to be one, it has
/// the weight of both, and the better condition.
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
