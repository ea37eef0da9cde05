//! Namers: who is asked about a name that no dtab entry rewrites.

use std::sync::Arc;

use super::{Outside, Rewrite, Transform, Transformer};
use crate::domain::name::{Labels, Path, Scope};

/// The outside world, as delegation sees it: which names exist, and what they are.
pub trait Names {
    /// What a name of the catalog is: a service port, by whatever handle the caller keeps.
    type Port: Clone;

    /// Looks `rest` up in the namer of `kind`. Cheap, since it is asked for every alternative.
    fn find(&self, kind: &Kind, rest: Labels<'_>) -> Answer<Self::Port>;

    /// How `label` was written, as far as its own text says: asked before a part of it is made a label. Where no domain is a
    /// cluster's, anywhere.
    fn scope_of(&self, _label: &[u8]) -> Scope {
        Scope::Anywhere
    }

    /// `outside`, with the scope that it has by all that is known: asked of every place outside before it is bound.
    fn scoped(&self, outside: Outside) -> Outside {
        outside
    }

    /// What `steps` make of `port`, which is called `id` then. The endpoints follow those of `port`.
    fn transformed(&self, port: Self::Port, steps: &[Transformer], id: &Path) -> Self::Port;

    /// Why [`find`](Self::find) said [`Answer::Neg`], [`Answer::Unknown`] or [`Answer::Empty`], for a human: what there is instead, near
    /// misses, what is waited for. Asked only where an explanation was wanted, so it may search.
    fn why_not(&self, kind: &Kind, rest: Labels<'_>) -> String;
}

/// What a namer says.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<P> {
    /// There is no such name.
    Neg,
    /// Whether there is such a name cannot be told yet. Alternatives are tried as after [`Neg`](Self::Neg): what can be
    /// served is.
    Unknown,
    /// There is such a name, and nothing behind it.
    Empty,
    /// A service port.
    Port {
        /// Which.
        port: P,
        /// How many labels named it; the others are the residual.
        taken: usize,
    },
    /// Another name, where the look-up goes on.
    Alias {
        /// Which.
        name: Path,
        /// How many labels it stands for; the others follow it.
        taken: usize,
    },
    /// A host that only DNS knows, or an address.
    Outside {
        /// Which.
        outside: Outside,
        /// How many labels named it; the others are the residual.
        taken: usize,
    },
}

/// A namer that looks names up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `io.l5d.fs`: `<service>`, files in linkerd's format.
    Fs,
    /// `io.l5d.k8s`: `<namespace>/<port>/<service>`, the port by name or number.
    K8s,
    /// `io.l5d.k8s.ns`: `<port>/<service>` in this namespace.
    K8sNamespace(Arc<str>),
    /// `weir.host`: `<host>[:port]`, Services of the catalog by their names and addresses.
    Host,
    /// `weir.dns`: `<host>[:port]`, names outside and IP literals.
    Dns,
}

/// What a configured namer does.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolver {
    /// Looks names up.
    Find(Kind),
    /// Makes other names of them (`io.l5d.rewrite`).
    Rewrite(Rewrite),
}

/// A namer from the configuration. Several may have the same prefix: the next is asked when one says neg.
#[derive(Clone, Debug, PartialEq)]
pub struct Configured {
    /// The names it is for, after `/#`: `/io.l5d.fs`, or what the configuration says.
    pub prefix: Path,
    /// What it does.
    pub resolver: Resolver,
    /// What becomes of what it finds.
    pub transform: Transform,
}

impl Configured {
    /// The namers that are there unless configured otherwise: `/#/io.l5d.fs` and `/#/io.l5d.k8s`.
    pub fn defaults() -> Vec<Self> {
        let named = |prefix, kind| Self {
            prefix: Path::from_labels([prefix]),
            resolver: Resolver::Find(kind),
            transform: Transform::default(),
        };
        vec![named("io.l5d.fs", Kind::Fs), named("io.l5d.k8s", Kind::K8s)]
    }

    /// What is left of `name` when it is one of this namer's.
    pub(super) fn rest<'a>(&self, name: Labels<'a>) -> Option<Labels<'a>> {
        let own = name.get(0) == Some(b"#") && name.skip(1).starts_with(self.prefix.labels());
        own.then(|| name.skip(1 + self.prefix.len()))
    }
}
