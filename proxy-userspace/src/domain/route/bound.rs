//! The destinations that names are bound to.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

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
    /// Whether host and port are as an operator wrote them, in the base dtab, `dtab` or `namers`, and the request had no
    /// part in them. Such an address may be one that is refused otherwise.
    pub written: bool,
}

impl Outside {
    /// Whether it needs no look-up, so that DNS cannot deny it.
    pub fn is_literal(&self) -> bool {
        self.literal().is_some()
    }

    /// The address, if it needs no look-up: the host is an address in any spelling, or an operator wrote `localhost`.
    /// That is 127.0.0.1, as in linkerd, whatever DNS says (RFC 6761 §6.3).
    pub fn literal(&self) -> Option<IpAddr> {
        let host = self.as_host();
        let localhost = || (self.written && is_localhost(&self.host)).then_some(Ipv4Addr::LOCALHOST.into());
        host.literal().or_else(|| host.legacy_literal()).or_else(localhost)
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

/// Whether `host` is `localhost`, or below it.
fn is_localhost(host: &str) -> bool {
    host.strip_suffix("localhost").is_some_and(|before| before.is_empty() || before.ends_with('.'))
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
