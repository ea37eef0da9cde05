//! Connections that weir carries without reading them.

use std::time::Instant;

use super::cluster::Lease;
use super::worker::Shared;
use crate::config::Limits;
use crate::domain::outcome::Outcome;
use crate::telemetry::{Count, Level};
use crate::transport::{End, Io, Peer, Side, copy};

/// What is counted of byte tunnels.
#[derive(Debug, Default)]
pub struct Stats {
    /// Tunnels open now.
    pub open: Level,
    /// Tunnels that have ended, by how.
    pub ended: [Count; Self::ENDS.len()],
    /// Bytes from clients to servers.
    pub up: Count,
    /// Bytes from servers to clients.
    pub down: Count,
}

impl Stats {
    /// The labels of [`Stats::ended`].
    pub const ENDS: [&'static str; 4] = ["closed", "idle", "client", "server"];
}

/// Copies between two connections until both are done, and settles the lease.
pub async fn carry(shared: &Shared, limits: &Limits, lease: Lease, mut client: Io, mut server: Io) {
    let stats = &shared.tunnels;
    stats.open.up();
    let copied = copy(&mut client, &mut server, limits.copy_buffer, limits.tunnel_idle).await;
    stats.open.down();
    stats.up.add(copied.up);
    stats.down.add(copied.down);
    let (end, outcome) = match copied.end {
        End::Closed => (0, Outcome::Carried),
        End::Idle => (1, Outcome::Carried),
        End::Broken(Side::Client, _) => (2, Outcome::Abandoned),
        End::Broken(Side::Server, _) if server.peer().is_some_and(Peer::is_silent) => (3, Outcome::Silent),
        // One that has spoken works: to close with something unread, as after a bad request, is a reset too.
        End::Broken(Side::Server, _) if copied.down > 0 => (3, Outcome::Carried),
        End::Broken(Side::Server, _) => (3, Outcome::Reset),
    };
    stats.ended[end].up();
    tracing::debug!(
        name = %lease.cluster().name,
        endpoint = %lease.backend().address,
        up = copied.up,
        down = copied.down,
        end = Stats::ENDS[end],
        "tunnel ended"
    );
    lease.finish(Instant::now(), outcome);
}
