//! Namers: they resolve names that no dtab entry rewrites.

use std::sync::Arc;

use super::{Outside, Rewrite, Transform, Transformer};
use crate::domain::name::{Labels, Path, Scope};

/// What delegation knows of the outside world: which names exist, and what they are.
pub trait Names {
    /// The caller's handle for a service port of the catalog.
    type Port: Clone;

    /// Looks `rest` up in the namer of `kind`. Must be cheap, since it is called for every alternative.
    fn find(&self, kind: &Kind, rest: Labels<'_>) -> Answer<Self::Port>;

    /// The scope of `label`, from its text alone: called before a part of it becomes a label. By default
    /// [`Scope::Anywhere`], for callers without a cluster domain.
    fn scope_of(&self, _label: &[u8]) -> Scope {
        Scope::Anywhere
    }

    /// `outside`, with its final scope: called for every destination outside the cluster before it is bound.
    fn scoped(&self, outside: Outside) -> Outside {
        outside
    }

    /// Whether a request without entries of its own, and with nothing but a Host, could ask for `name`. By default it
    /// could not.
    fn is_askable(&self, _name: Labels<'_>) -> bool {
        false
    }

    /// `port` with `steps` applied, named `id`. Its endpoints follow those of `port`.
    fn transformed(&self, port: Self::Port, steps: &[Transformer], id: &Path) -> Self::Port;

    /// Why [`find`](Self::find) returned [`Answer::Neg`], [`Answer::Unknown`] or [`Answer::Empty`], for people:
    /// existing names, near misses, what is awaited. Called only for explanations, so it may search.
    fn why_not(&self, kind: &Kind, rest: Labels<'_>) -> String;
}

/// The answer of a namer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<P> {
    /// No such name.
    Neg,
    /// It is not known yet whether the name exists. Alternatives are tried as after [`Neg`](Self::Neg), so that
    /// requests are served where possible.
    Unknown,
    /// The name exists, but has no endpoints.
    Empty,
    /// A service port.
    Port {
        /// The port.
        port: P,
        /// How many labels identified it; the others are the residual.
        taken: usize,
    },
    /// Another name, which is looked up next.
    Alias {
        /// That name.
        name: Path,
        /// How many labels it replaces; the others follow it.
        taken: usize,
    },
    /// A host that only DNS knows, or an address.
    Outside {
        /// The host.
        outside: Outside,
        /// How many labels identified it; the others are the residual.
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
    /// `weir.dns`: `<host>[:port]`, names outside the cluster and IP literals.
    Dns,
}

/// What a configured namer does.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolver {
    /// Looks names up.
    Find(Kind),
    /// Rewrites names (`io.l5d.rewrite`).
    Rewrite(Rewrite),
}

/// A namer from the configuration. Several may have the same prefix: the next is asked if one answers neg.
#[derive(Clone, Debug, PartialEq)]
pub struct Configured {
    /// The names it applies to, after `/#`: `/io.l5d.fs`, or the configured prefix.
    pub prefix: Path,
    /// What it does.
    pub resolver: Resolver,
    /// The transformers applied to its answers.
    pub transform: Transform,
}

impl Configured {
    /// The default namers: `/#/io.l5d.fs` and `/#/io.l5d.k8s`.
    pub fn defaults() -> Vec<Self> {
        let named = |prefix, kind| Self {
            prefix: Path::from_labels([prefix]),
            resolver: Resolver::Find(kind),
            transform: Transform::default(),
        };
        vec![named("io.l5d.fs", Kind::Fs), named("io.l5d.k8s", Kind::K8s)]
    }

    /// The rest of `name` after this namer's prefix, if it has that prefix.
    pub(super) fn rest<'a>(&self, name: Labels<'a>) -> Option<Labels<'a>> {
        let own = name.get(0) == Some(b"#") && name.skip(1).starts_with(self.prefix.labels());
        own.then(|| name.skip(1 + self.prefix.len()))
    }
}
