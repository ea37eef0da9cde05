//! Where weir will not connect.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What weir knows of its own node, to tell which addresses lead back to it.
#[derive(Clone, Copy, Debug)]
pub struct Grounds<'a> {
    /// The node's own addresses.
    pub own: &'a [IpAddr],
    /// Where weir itself listens; an unspecified IP stands for every address of the node.
    pub listeners: &'a [SocketAddr],
}

/// What speaks for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exempt {
    /// Nothing.
    No,
    /// An operator wrote it down in `discovery.files`: everything but weir's own listeners is allowed.
    Written,
    /// It is the endpoint of a Service: the node's own addresses are allowed.
    ServiceEndpoint,
}

/// Why weir does not connect somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Loopback.
    Loopback,
    /// Link-local.
    LinkLocal,
    /// The cloud's metadata service.
    Metadata,
    /// Unspecified.
    Unspecified,
    /// Multicast.
    Multicast,
    /// Broadcast.
    Broadcast,
    /// One of the node's own addresses.
    OwnAddress,
    /// One of weir's own listeners.
    OwnListener,
}

/// Whether weir refuses to connect to `addr`, and why.
pub fn refuse(addr: SocketAddr, grounds: Grounds<'_>, exempt: Exempt) -> Option<Refusal> {
    let _ = (addr, grounds, exempt);
    None
}

impl Refusal {
    /// The metric label.
    pub fn label(self) -> &'static str {
        ""
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
