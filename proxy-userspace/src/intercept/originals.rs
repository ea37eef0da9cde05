//! Where a diverted connection was going.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{HashMap, MapData};
use proxy_ebpf::{LAYOUT, Tuple};

use super::heart::monotonic_ns;
use super::wire::{self, Wire};
use super::{syn, sys};

/// An entry older than this belongs to an earlier connection with the same addresses. A connection can
/// wait that long: SYNs are repeated for 127 s by default (tcp(7), `tcp_syn_retries`).
const TOO_OLD: Duration = Duration::from_secs(180);

/// What the programs filed about connections that weir has yet to accept. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Originals {
    filed: Arc<Filed>,
}

#[derive(Debug)]
struct Filed {
    table: HashMap<MapData, Wire<Tuple>, Wire<proxy_ebpf::Original>>,
    /// The same map: aya's type has no look-up-and-delete.
    fd: OwnedFd,
    /// How many entries there can be.
    room: u32,
}

/// Where a diverted connection was going, and who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// The address the application dialled; IPv4 where it dialled IPv4 in its mapped form.
    pub dialled: SocketAddr,
    /// The id of the cgroup of the process that dialled: a container's, below its pod's.
    pub cgroup: u64,
    /// The cookie of the network namespace it dialled in.
    pub netns_cookie: u64,
    /// Whether the pod wants connections to that port forwarded without a look (`weir.dev/opaque-ports`).
    pub opaque: bool,
}

impl Originals {
    pub(super) fn new(
        table: HashMap<MapData, Wire<Tuple>, Wire<proxy_ebpf::Original>>,
        fd: OwnedFd,
        room: u32,
    ) -> Self {
        Self { filed: Arc::new(Filed { table, fd, room }) }
    }

    /// Takes out what is filed about this connection, from `client` to `local` as accept() and getsockname()
    /// give them, IPv4 mapped or not. Once per connection, right after accept.
    ///
    /// `None` for a connection that was not diverted, or whose entry is lost: it must be closed, never
    /// forwarded to its own local address. Where the kernel kept the connection's SYN ([`super::save_syns`]), an entry
    /// that was filed for another one is as good as lost.
    pub fn take(&self, connection: impl AsFd, client: SocketAddr, local: SocketAddr) -> Option<Original> {
        let tuple = Tuple {
            client: wire::address(client.ip()),
            node: wire::address(local.ip()),
            client_port: client.port().to_be(),
            node_port: local.port().to_be(),
        };
        let filed = sys::take(self.filed.fd.as_fd(), &tuple)?;
        let age = Duration::from_nanos(monotonic_ns().saturating_sub(filed.at));
        let same = syn::sequence(connection.as_fd()).is_none_or(|sequence| sequence == filed.sequence);
        (same && filed.layout == LAYOUT && age < TOO_OLD).then(|| Original {
            dialled: wire::socket_address(filed.address, filed.port),
            cgroup: filed.cgroup,
            netns_cookie: filed.netns,
            opaque: filed.flags & proxy_ebpf::Original::OPAQUE != 0,
        })
    }

    /// How many entries there are: connections not accepted yet, and leftovers of clients that gave up.
    /// Walks the map, one system call an entry, and no further than it has room: where entries go during the walk, the
    /// kernel begins again at the first.
    pub(super) fn waiting(&self) -> usize {
        let keys = self.filed.table.keys().take(self.filed.room as usize);
        keys.filter(Result::is_ok).count()
    }
}
