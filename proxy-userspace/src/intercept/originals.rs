//! Where a diverted connection was going.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use proxy_ebpf::{LAYOUT, Tuple};

use super::heart::monotonic_ns;
use super::sweep::{Found, Sweep};
use super::{syn, sys, wire};

/// An entry older than this belongs to an earlier connection with the same addresses. A connection can
/// wait that long: SYNs are repeated for 127 s by default (tcp(7), `tcp_syn_retries`).
pub const TOO_OLD: Duration = Duration::from_secs(180);

/// What the programs filed about connections that weir has yet to accept. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Originals {
    filed: Arc<Filed>,
}

#[derive(Debug)]
struct Filed {
    table: OwnedFd,
    found: Found,
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
    pub(super) fn new(table: OwnedFd) -> Self {
        Self { filed: Arc::new(Filed { table, found: Found::default() }) }
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
        let filed = sys::take(self.filed.table.as_fd(), &tuple)?;
        let age = Duration::from_nanos(monotonic_ns().saturating_sub(filed.at));
        let same = syn::sequence(connection.as_fd()).is_none_or(|sequence| sequence == filed.sequence);
        (same && filed.layout == LAYOUT && age < TOO_OLD).then(|| Original {
            dialled: wire::socket_address(filed.address, filed.port),
            cgroup: filed.cgroup,
            netns_cookie: filed.netns,
            opaque: filed.flags & proxy_ebpf::Original::OPAQUE != 0,
        })
    }

    /// Begins a walk over all entries that removes those older than `age` ([`TOO_OLD`]), which nobody will take any more:
    /// clients that gave up leave them.
    pub fn sweep(&self, age: Duration) -> Sweep {
        Sweep::new(self.clone(), age)
    }

    /// What the sweeps found.
    pub fn found(&self) -> &Found {
        &self.filed.found
    }

    pub(super) fn table(&self) -> BorrowedFd<'_> {
        self.filed.table.as_fd()
    }
}
