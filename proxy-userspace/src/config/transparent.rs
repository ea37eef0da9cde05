//! `transparent`: the listeners for connections that the eBPF program diverts.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::Allow;

/// Interception: which connections are diverted, and where they arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transparent {
    /// `listen`: the first of [`ports`](Self::ports) consecutive ports. Default `[::]:4142`.
    pub listen: SocketAddr,
    /// `ports`: how many ports, 1 to 64. One port would cap each pod at one ephemeral port range of
    /// connections over all services together. Default 8.
    pub ports: u16,
    /// `addresses`: this node's addresses that pods can reach. Empty, the default, means: find them.
    pub addresses: Vec<IpAddr>,
    /// `cgroup`: the cgroup whose members' connections are diverted, an absolute path on the cgroup2 file
    /// system. Default: the pods' parent, found by itself.
    pub cgroup: Option<PathBuf>,
    /// `divert`: the destinations that are diverted. Default: the addresses of known services.
    pub divert: Option<Vec<IpNet>>,
    /// `host`: whether clients in the node's own network namespace are diverted too. Default false.
    pub host: bool,
    /// `required`: whether configured interception that is missing makes `/ready` fail. Default true.
    pub required: bool,
    /// `allow`: clients that may connect. Default: see [`Allow`].
    pub allow: Allow,
    /// `fail`: what becomes of a connection while weir is not there to take it. Default [`Fail::Open`].
    pub fail: Fail,
    /// `via`: whether requests and answers get `Via: 1.1 weir`. Default false: the application that does
    /// not know of a proxy should not be able to tell.
    pub via: bool,
}

/// What becomes of connections while weir is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fail {
    /// `open`: they go to the dialled address directly, past weir's policy.
    #[default]
    Open,
    /// `closed`: they are refused, so that nothing passes unseen.
    Closed,
}

impl Default for Transparent {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 4142)),
            ports: 8,
            addresses: Vec::new(),
            cgroup: None,
            divert: None,
            host: false,
            required: true,
            allow: Allow::default(),
            fail: Fail::default(),
            via: false,
        }
    }
}
