//! The destinations that names are bound to.

use std::borrow::Cow;
use std::fmt;

use crate::domain::name::{Host, Path, Scope};

/// A leaf of a bound tree: a destination, and the name it was found by.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound<P> {
    /// The destination.
    pub target: Target<P>,
    /// The part of the name that identified it (`l5d-dst-client`).
    pub id: Path,
    /// The rest of the name (`l5d-dst-residual`); as in linkerd, it does not distinguish clients.
    pub residual: Path,
}

/// A destination for requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Target<P> {
    /// A service port of the catalog.
    Port(P),
    /// An address or a DNS name outside the cluster.
    Outside(Outside),
}

/// A host and port whose existence only DNS can tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outside {
    /// A host name in lower case without a trailing dot, or an IP literal without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// Where the host may be looked up, from the label it was made of.
    pub scope: Scope,
}

impl Outside {
    /// Whether the host is an address, in any spelling, so that DNS cannot deny it.
    pub fn is_literal(&self) -> bool {
        self.as_host().is_address()
    }

    /// The host with the port, unless the port is 80.
    pub fn as_host(&self) -> Host<'_> {
        let port = Some(self.port).filter(|&port| port != 80);
        Host { host: Cow::Borrowed(&*self.host), port, scope: self.scope }
    }

    /// As one label of a name.
    pub fn label(&self) -> String {
        self.as_host().label()
    }
}

impl<P> Target<P> {
    /// Whether it may turn out not to exist.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Self::Outside(outside) if !outside.is_literal())
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl<P> fmt::Display for Bound<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}
