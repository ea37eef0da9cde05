//! The original destination of a diverted connection.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use proxy_ebpf::{LAYOUT, Tuple};

use super::heartbeat::monotonic_ns;
use super::owners::{Filer, Owners};
use super::sweep::{Found, Sweep};
use super::{syn, sys, wire};

/// An entry older than this belongs to an earlier connection with the same addresses. A connection can wait that long:
/// SYNs are retransmitted for 127 s by default (tcp(7), `tcp_syn_retries`).
pub const TOO_OLD: Duration = Duration::from_secs(180);

/// The programs' entries about connections that weir has not accepted yet. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OriginalDsts {
    filed: Arc<Filed>,
}

#[derive(Debug)]
struct Filed {
    table: OwnedFd,
    found: Found,
    owners: Owners,
}

/// The original destination of a diverted connection, and its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// The address the application dialled; IPv4 where it dialled IPv4 in its mapped form.
    pub dialled: SocketAddr,
    /// The id of the cgroup of the process that dialled: a container's, below its pod's.
    pub cgroup: u64,
    /// The cookie of the network namespace it dialled in.
    pub netns_cookie: u64,
    /// Whether the pod wants connections to that port forwarded without protocol detection (`weir.dev/opaque-ports`).
    pub opaque: bool,
}

/// Why nothing is known about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// There is no entry: no program diverted it, its addresses were translated on the way, or the entry was lost.
    NotFiled,
    /// Its SYN's sequence number is unknown, so it could be confused with another connection.
    NoNumber,
    /// The entry was written by a process that does not own the client's address.
    Foreign(Filer),
}

impl OriginalDsts {
    pub(super) fn new(table: OwnedFd, owners: Owners) -> Self {
        Self { filed: Arc::new(Filed { table, found: Found::default(), owners }) }
    }

    /// Removes and returns the entry of this connection, from `client` to `local` as accept() and getsockname() return
    /// them, IPv4 mapped or not. Call it once per connection, right after accept.
    ///
    /// # Errors
    ///
    /// Why there is no valid entry: the connection must be closed, never forwarded to its own local address.
    pub fn take(
        &self,
        connection: impl AsFd,
        client: SocketAddr,
        local: SocketAddr,
    ) -> Result<Original, Unknown> {
        let sequence = syn::sequence(connection.as_fd()).ok_or(Unknown::NoNumber)?;
        let tuple = Tuple {
            client: wire::address(client.ip()),
            node: wire::address(local.ip()),
            client_port: client.port().to_be(),
            node_port: local.port().to_be(),
            sequence,
        };
        let filed = sys::take(self.filed.table.as_fd(), &tuple).ok_or(Unknown::NotFiled)?;
        let now = monotonic_ns();
        let age = Duration::from_nanos(now.saturating_sub(filed.at));
        if filed.layout != LAYOUT || age >= TOO_OLD {
            return Err(Unknown::NotFiled);
        }
        let filer = Filer { cgroup: filed.cgroup, pod: filed.pod, netns: filed.netns };
        if !self.filed.owners.is(client.ip(), filer, now) {
            return Err(Unknown::Foreign(filer));
        }
        Ok(Original {
            dialled: wire::socket_address(filed.address, filed.port),
            cgroup: filed.cgroup,
            netns_cookie: filed.netns,
            opaque: filed.flags & proxy_ebpf::Original::OPAQUE != 0,
        })
    }

    /// The owners of addresses, by which entries are believed or not.
    pub fn owners(&self) -> &Owners {
        &self.filed.owners
    }

    /// Starts a sweep that removes all entries older than `age` ([`TOO_OLD`]), which nobody will take any more: clients
    /// that gave up leave them.
    pub fn sweep(&self, age: Duration) -> Sweep {
        Sweep::new(self.clone(), age)
    }

    /// The statistics of the sweeps.
    pub fn found(&self) -> &Found {
        &self.filed.found
    }

    pub(super) fn table(&self) -> BorrowedFd<'_> {
        self.filed.table.as_fd()
    }
}
