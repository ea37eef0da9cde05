//! Opaque connections, forwarded without parsing.

use std::time::Instant;

use crate::config::Limits;
use crate::domain::outcome::Outcome;
use crate::domain::tunnel::{End, Side, Tunnel};
use crate::proxy::holders::HolderId;
use crate::proxy::listener::Listener;
use crate::proxy::upstream::cluster::Lease;
use crate::telemetry::{Counter, Gauge};
use crate::transport::{Carrier, Copied, Lender, Peer, Pipes, copy};

/// Counters of byte tunnels.
#[derive(Debug, Default)]
pub struct Stats {
    /// Tunnels open now.
    pub open: Gauge,
    /// Tunnels that have ended, by how.
    pub ended: [Counter; Self::ENDS.len()],
    /// Bytes from clients to servers.
    pub up: Counter,
    /// Bytes from servers to clients.
    pub down: Counter,
    /// The pipes of those that stream.
    pub pipes: Pipes,
}

impl Stats {
    /// The labels of [`Stats::ended`].
    pub const ENDS: [&'static str; 6] = ["closed", "idle", "client", "server", "early", "aborted"];
}

/// A tunnel that is open. It is dropped early where its connection has to make room, or its pod has ended.
struct Open<'a> {
    stats: &'a Stats,
    end: usize,
}

impl<'a> Open<'a> {
    fn new(stats: &'a Stats) -> Self {
        stats.open.inc();
        Self { stats, end: 5 }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.stats.open.dec();
        self.stats.ended[self.end].inc();
    }
}

/// Copies between two connections until both ends are closed, and finishes the lease. The client came to `listener`, and is
/// charged to `holder`.
pub async fn forward(
    stats: &Stats,
    limits: &Limits,
    listener: &Listener,
    holder: HolderId,
    mut lease: Lease,
    mut client: impl Carrier,
    mut server: impl Carrier,
) {
    let mut open = Open::new(stats);
    let lived = || lease.answered(Instant::now(), Outcome::Carried);
    let lender = Lender { pipes: &stats.pipes, holder: holder.number(), most: limits.pipes };
    let copied = copy(&mut client, &mut server, limits.copy_buffer, lender, limits.tunnel_idle, lived).await;
    stats.up.add(copied.up);
    stats.down.add(copied.down);
    let Copied { up, down, first, last_word, end } = copied;
    let now = Instant::now();
    let lasted = now.saturating_duration_since(lease.started());
    let outcome = match end {
        End::Broken(Side::Server) if server.peer().is_some_and(Peer::is_silent) => Outcome::Silent,
        _ => Tunnel { end, first, last_word, up, down, lasted }.outcome(),
    };
    open.end = match (end, outcome) {
        (_, Outcome::EndedEarly) => 4,
        (End::Closed, _) => 0,
        (End::Idle, _) => 1,
        (End::Broken(Side::Client), _) => 2,
        (End::Broken(Side::Server), _) => 3,
    };
    tracing::debug!(
        router = listener.router().as_deref(),
        name = %lease.cluster().name,
        endpoint = %lease.backend().address,
        up = copied.up,
        down = copied.down,
        end = Stats::ENDS[open.end],
        "tunnel ended"
    );
    drop(open);
    lease.finish(now, outcome);
}
