//! Connecting to a name with several addresses, some of which may lead nowhere: RFC 8305 §§4 and 5 ("happy eyeballs").
//!
//! One address has a head start. When it is over without a connection, another one is tried beside it, of the other
//! family where there is one; and so on, until one of them has a connection. So an address that swallows SYNs costs a
//! request the head start, and not the time that a connect may take. Those that lost are waited for in the background:
//! what becomes of them tells their breakers whether to let anybody try them again.
//!
//! Deliberately absent: endpoints of Services. They were checked by who wrote them down, and there are breakers and other
//! attempts for those that died since.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::domain::outcome::Outcome;
use crate::domain::refuse::Exempt;
use crate::proxy::routing::snapshot::World;
use crate::proxy::upstream::cluster::{Backend, Cluster, Lease};
use crate::proxy::upstream::dial;
use crate::proxy::worker::Worker;
use crate::transport::{ConnectError, Connector};

/// Addresses that are tried for one connection at most.
const MOST: usize = 8;

/// Endpoints that were tried for one request.
pub(in crate::proxy) type Tried = SmallVec<[Arc<Backend>; 2]>;

/// What a request may still spend on connecting.
pub(in crate::proxy) struct Dial<'a> {
    /// Who asks.
    pub(in crate::proxy) client: &'a SocketAddr,
    /// How long one endpoint may take.
    pub(in crate::proxy) limit: Duration,
    /// The hop limit of its packets, where it says something (domain/hops).
    pub(in crate::proxy) hop_limit: Option<u8>,
    /// How long all of them may take.
    pub(in crate::proxy) total: Duration,
    /// Which it has tried before. Those that fail here become some of them, but for the one that the caller knows of.
    pub(in crate::proxy) tried: &'a mut Tried,
}

impl Dial<'_> {
    /// The same, for one more connection.
    pub(in crate::proxy) fn again(&mut self) -> Dial<'_> {
        Dial { tried: self.tried, ..*self }
    }

    /// How its connections are made.
    pub(super) fn connector(&self, worker: &Worker) -> Connector {
        Connector { hop_limit: self.hop_limit, ..worker.shared.connector() }
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<TcpStream, ConnectError>>>>;

/// One address that is being connected to.
struct Racer {
    /// None for the first: its lease is the caller's.
    lease: Option<Lease>,
    connecting: Connecting,
}

/// Whether several addresses of `cluster` may be tried at the same time.
pub(in crate::proxy) fn may_race(cluster: &Cluster) -> bool {
    cluster.exempt == Exempt::No && cluster.members().active().len() > 1
}

/// Connects to the endpoint of `lease`, or to another one of its cluster, whose lease it is then.
///
/// # Errors
///
/// Why there is no connection to the endpoint of `lease`; there was none to others either.
pub(in crate::proxy) async fn connect(
    worker: &Worker,
    world: &World,
    lease: &mut Lease,
    dial: &mut Dial<'_>,
) -> Result<TcpStream, ConnectError> {
    let head_start = world.terms.limits.head_start;
    let mut first: Connecting = Box::pin(dial.connector(worker).connect(lease.backend().address, dial.limit));
    if let Ok(connected) = timeout(head_start, &mut first).await {
        return connected;
    }
    let running = vec![Racer { lease: None, connecting: first }];
    let mut race =
        Race { worker, world, dial, begun: Instant::now(), last: lease.backend().clone(), running };
    let mut why = None;
    let mut more = race.begin_another(lease);
    loop {
        let ended = tokio::select! {
            ended = any(&mut race.running) => ended,
            () = sleep(head_start), if more => {
                more = race.begin_another(lease);
                continue;
            }
        };
        match ended {
            (racer, Ok(stream)) => {
                race.won(lease, racer, why.as_ref());
                return Ok(stream);
            }
            (Racer { lease: None, .. }, Err(error)) => why = Some(error),
            (Racer { lease: Some(lost), .. }, Err(error)) => {
                race.dial.tried.push(lost.backend().clone());
                lost.finish(Instant::now(), outcome(&error));
            }
        }
        more = race.begin_another(lease);
        if race.running.is_empty() {
            return Err(why.unwrap_or(ConnectError::Timeout));
        }
    }
}

struct Race<'a, 'd> {
    worker: &'a Worker,
    world: &'a World,
    dial: &'a mut Dial<'d>,
    begun: Instant,
    /// The one that was tried last.
    last: Arc<Backend>,
    running: Vec<Racer>,
}

impl Race<'_, '_> {
    /// Tries another address; false if there is none, or no time for it.
    fn begin_another(&mut self, first: &Lease) -> bool {
        let left = self.dial.total.saturating_sub(self.begun.elapsed());
        if left.is_zero() || self.running.len() >= MOST {
            return false;
        }
        while let Some(lease) = self.next(first) {
            let backend = lease.backend().clone();
            if let Err(refused) = dial::permit(self.worker, self.world, &backend) {
                lease.finish(Instant::now(), refused.outcome);
                self.dial.tried.push(backend);
                continue;
            }
            backend.stats.connects.up();
            self.worker.shared.raced.up();
            let limit = self.dial.limit.min(left);
            let connecting = Box::pin(self.dial.connector(self.worker).connect(backend.address, limit));
            self.running.push(Racer { lease: Some(lease), connecting });
            self.last = backend;
            return true;
        }
        false
    }

    /// The right to try an address that was not tried yet: of the other family than the last one's, if there is one
    /// (RFC 8305 §4).
    fn next(&self, first: &Lease) -> Option<Lease> {
        let cluster = first.cluster();
        let running = self.running.iter().filter_map(|it| it.lease.as_ref()).map(Lease::backend);
        let mut avoid: Tried =
            self.dial.tried.iter().chain([first.backend()]).chain(running).cloned().collect();
        if !cluster.has_untried(&avoid) {
            return None;
        }
        let v4 = self.last.address.is_ipv4();
        let members = cluster.members();
        let same = members.active().iter().map(|it| &it.backend).filter(|it| it.address.is_ipv4() == v4);
        let mut both: Tried = same.cloned().collect();
        both.extend(avoid.iter().cloned());
        if cluster.has_untried(&both) {
            avoid = both;
        }
        let lease = self.worker.lease(cluster, self.dial.client, &avoid, Instant::now()).ok()?;
        let again = avoid.iter().any(|it| Arc::ptr_eq(it, lease.backend()));
        (!again).then_some(lease)
    }

    /// `racer` has a connection: `lease` becomes its, and the others are waited for by somebody else. `why` is the error of
    /// the first, if it has failed.
    fn won(self, lease: &mut Lease, racer: Racer, why: Option<&ConnectError>) {
        let mut first = None;
        if let Some(won) = racer.lease {
            first = Some(std::mem::replace(lease, won));
        }
        for mut other in self.running {
            if let Some(lease) = other.lease.take().or_else(|| first.take()) {
                tokio::task::spawn_local(wait_for(lease, other.connecting));
            }
        }
        if let (Some(first), Some(why)) = (first, why) {
            first.finish(Instant::now(), outcome(why));
        }
    }
}

/// The first of them that ends. There is at least one.
async fn any(running: &mut Vec<Racer>) -> (Racer, Result<TcpStream, ConnectError>) {
    poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(ended) = running[at].connecting.as_mut().poll(cx) {
                return Poll::Ready((running.swap_remove(at), ended));
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits for a connect that nobody needs any more, for what it says of its endpoint.
async fn wait_for(lease: Lease, connecting: Connecting) {
    let outcome = connecting.await.err().map_or(Outcome::Abandoned, |error| outcome(&error));
    lease.finish(Instant::now(), outcome);
}

/// What it says of an endpoint that there is no connection to it.
pub(in crate::proxy) fn outcome(error: &ConnectError) -> Outcome {
    match error {
        ConnectError::Timeout => Outcome::ConnectTimeout,
        ConnectError::Failed(_) => Outcome::ConnectFailed,
        ConnectError::Local(_) => Outcome::Abandoned,
    }
}
