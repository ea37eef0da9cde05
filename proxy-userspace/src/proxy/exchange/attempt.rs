//! Attempts: the one loop that delivers a request, a CONNECT or an opaque connection to an endpoint.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep;

use super::Exchange;
use crate::domain::outcome::Outcome;
use crate::domain::policy::RequestPolicy;
use crate::domain::retry::{Next, Reached, Tries, judge};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::upstream::cluster::{Cluster, Lease};
use crate::proxy::upstream::{Dial, NotConnected, Tried};
use crate::proxy::worker::Worker;
use crate::transport::Io;

/// Where an exchange goes.
#[derive(Debug)]
pub struct Destination {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// How its endpoints are tried.
    pub policy: RequestPolicy,
    /// When the destination was determined.
    pub now: Instant,
}

/// An attempt that delivered nothing.
#[derive(Debug)]
pub struct Failed {
    /// What the client gets if this was the last attempt.
    pub fault: Fault,
    /// The outcome for the endpoint.
    pub outcome: Outcome,
    /// How far the attempt got.
    pub reached: Reached,
}

/// What is to be delivered to an endpoint.
pub(in crate::proxy) trait Cargo {
    /// What the endpoint returns for it.
    type Delivered;

    /// An attempt begins. Where it `may_repeat`, keep what another delivery needs.
    fn keep(&mut self, may_repeat: bool);

    /// Delivers it to the endpoint of `lease`.
    async fn deliver(
        &mut self,
        worker: &Worker,
        exchange: &Exchange,
        policy: RequestPolicy,
        lease: &mut Lease,
        dial: Dial<'_>,
    ) -> Result<Self::Delivered, Box<Failed>>;

    /// It was sent and will be delivered again: restore what was kept.
    fn restore(&mut self);
}

/// Delivers `cargo` to an endpoint of `destination`.
///
/// # Errors
///
/// The fault of the last attempt that weir was allowed to make, when none succeeded; or that none was.
pub(in crate::proxy) async fn deliver<C: Cargo>(
    worker: &Worker,
    exchange: &mut Exchange,
    destination: &Destination,
    cargo: &mut C,
) -> Result<(Lease, C::Delivered), Fault> {
    let Destination { cluster, policy, .. } = destination;
    let mut now = destination.now;
    let (mut tried, mut tries) = (Tried::new(), tries(exchange, *policy));
    let session = exchange.session.clone();
    let (client, from, caller) = (session.client, session.netns.as_ref(), session.holder().caller);
    // Boxed: it would make every connection's task larger.
    let mut before: Option<Box<Fault>> = None;
    loop {
        let mut lease = worker.dialer.lease(cluster, (&client, caller), &tried, now)?;
        exchange.record.attempt();
        cargo.keep(tries.may_repeat());
        let limit = tries.connect(exchange.snapshot.config.limits.connect);
        let total = tries.left();
        let dial = Dial { client: &client, caller, from, limit, hop_limit: None, total, tried: &mut tried };
        let Failed { fault, outcome, reached } =
            match cargo.deliver(worker, exchange, *policy, &mut lease, dial).await {
                Ok(delivered) => return Ok((lease, delivered)),
                Err(failed) => *failed,
            };
        tried.push(lease.backend().clone());
        now = Instant::now();
        let took = now.saturating_duration_since(lease.started());
        lease.finish(now, outcome);
        exchange.clock.restart(now);
        match judge(&mut tries, reached, took, || cluster.has_untried(&tried)) {
            Next::Now => {}
            // Boxed: few attempts wait, and it would make every connection's task larger.
            Next::After(pause) => {
                Box::pin(sleep(pause)).await;
                now = Instant::now();
            }
            Next::Never => {
                // What weir may connect to failed: that is told, not what it may not.
                let before = before.filter(|_| reached == Reached::Refused);
                return Err(before.map_or(fault, |before| *before));
            }
        }
        if reached != Reached::Refused {
            before = Some(Box::new(fault));
        }
        if reached == Reached::Unanswered {
            cargo.restore();
        }
        cluster.stats.retries.inc();
    }
}

/// How many attempts an exchange may make.
fn tries(exchange: &Exchange, policy: RequestPolicy) -> Tries {
    let limits = &exchange.snapshot.config.limits;
    let attempts = policy.attempts.map_or(limits.attempts, |attempts| attempts.get().into());
    Tries::new(attempts, exchange.repeats, limits.connect_total)
}

/// A connection that carries opaque bytes: CONNECT tunnels and opaque TCP.
#[derive(Debug)]
pub struct Bytes {
    /// The hop limit of its packets, where it encodes information (domain/hops).
    pub hop_limit: Option<u8>,
}

impl Cargo for Bytes {
    type Delivered = Io;

    fn keep(&mut self, _: bool) {}

    async fn deliver(
        &mut self,
        worker: &Worker,
        exchange: &Exchange,
        _: RequestPolicy,
        lease: &mut Lease,
        dial: Dial<'_>,
    ) -> Result<Io, Box<Failed>> {
        let dial = Dial { hop_limit: self.hop_limit, ..dial };
        let connected = worker.dialer.connect(exchange.snapshot.dial_rules(), lease, dial).await;
        connected.map_err(|none| Box::new(none.into()))
    }

    fn restore(&mut self) {}
}

impl From<NotConnected> for Failed {
    fn from(NotConnected { fault, outcome }: NotConnected) -> Self {
        let reached = match fault.kind {
            Kind::Refused(_) => Reached::Refused,
            _ => Reached::Nobody,
        };
        Self { fault, outcome, reached }
    }
}

impl Failed {
    /// The endpoint at `address` broke the connection before it answered.
    pub fn broken(address: SocketAddr, reached: Reached) -> Self {
        let detail = format!("{address} closed the connection before it answered");
        Self { fault: Fault::new(Kind::Reset, detail), outcome: Outcome::Reset, reached }
    }
}
