//! Connecting to a name with several addresses, some of which may be unreachable: RFC 8305 §§4 and 5 ("happy
//! eyeballs").
//!
//! One address has a head start. When that ends without a connection, another address is tried in parallel, of the
//! other family if there is one; and so on, until one of them connects. So an address that drops SYNs costs a request
//! the head start, and not the whole connect timeout. The others finish in the background: their outcomes are reported
//! to their breakers.
//!
//! Deliberately absent: endpoints of Services. Their source has checked those, and breakers and further attempts handle
//! those that failed since.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::cluster::{Backend, Cluster, Lease};
use super::{Dial, DialRules, Dialer, Tried};
use crate::domain::outcome::Outcome;
use crate::domain::ssrf::Exempt;
use crate::transport::ConnectError;

/// Addresses that are tried for one connection, at most.
const MOST: usize = 8;

type Attempt = Pin<Box<dyn Future<Output = Result<TcpStream, ConnectError>>>>;

/// One address that is being connected to.
struct Racer {
    /// `None` for the first: its lease is the caller's.
    lease: Option<Lease>,
    connecting: Attempt,
}

/// Whether several addresses of `cluster` may be tried in parallel.
pub(super) fn may_race(cluster: &Cluster) -> bool {
    cluster.exempt == Exempt::No && cluster.members().active().len() > 1
}

/// Connects to the endpoint of `lease`, or to another one of its cluster; `lease` is then for that one.
///
/// # Errors
///
/// Why the endpoint of `lease` could not be connected to; no other one could be, either.
pub(super) async fn connect(
    dialer: &Dialer,
    rules: DialRules<'_>,
    lease: &mut Lease,
    dial: &mut Dial<'_>,
) -> Result<TcpStream, ConnectError> {
    let head_start = rules.limits.head_start;
    let mut first: Attempt = Box::pin(dial.connect(dialer, lease.backend().address, dial.limit));
    if let Ok(connected) = timeout(head_start, &mut first).await {
        return connected;
    }
    let running = vec![Racer { lease: None, connecting: first }];
    let mut race =
        Race { dialer, rules, dial, begun: Instant::now(), last: lease.backend().clone(), running };
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
    dialer: &'a Dialer,
    rules: DialRules<'a>,
    dial: &'a mut Dial<'d>,
    begun: Instant,
    /// The endpoint tried last.
    last: Arc<Backend>,
    running: Vec<Racer>,
}

impl Race<'_, '_> {
    /// Tries another address; `false` if there is none, or no time left.
    fn begin_another(&mut self, first: &Lease) -> bool {
        let left = self.dial.total.saturating_sub(self.begun.elapsed());
        if left.is_zero() || self.running.len() >= MOST {
            return false;
        }
        while let Some(lease) = self.next(first) {
            let backend = lease.backend().clone();
            if let Err(refused) = self.dialer.permit(self.rules, &backend, self.dial.from) {
                lease.finish(Instant::now(), refused.outcome);
                self.dial.tried.push(backend);
                continue;
            }
            // The name has come to have another address since the race began.
            if self.dialer.connecting.is_peer(backend.address.ip()) {
                lease.finish(Instant::now(), Outcome::Abandoned);
                return false;
            }
            backend.stats().connects.inc();
            self.dialer.connecting.raced.inc();
            let limit = self.dial.limit.min(left);
            let connecting = Box::pin(self.dial.connect(self.dialer, backend.address, limit));
            self.running.push(Racer { lease: Some(lease), connecting });
            self.last = backend;
            return true;
        }
        false
    }

    /// A lease on an address that was not tried yet: of the other family than the last one's, if there is one (RFC 8305
    /// §4).
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
        let lease =
            self.dialer.lease(cluster, (self.dial.client, self.dial.caller), &avoid, Instant::now()).ok()?;
        let again = avoid.iter().any(|it| Arc::ptr_eq(it, lease.backend()));
        (!again).then_some(lease)
    }

    /// `racer` has connected: `lease` becomes its lease, and the others finish in the background. `why` is the error of
    /// the first, if it failed.
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

/// The first attempt that ends. There is at least one.
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

/// Waits for a connect that is no longer needed, to report its outcome for the endpoint.
async fn wait_for(lease: Lease, connecting: Attempt) {
    let outcome = connecting.await.err().map_or(Outcome::Abandoned, |error| outcome(&error));
    lease.finish(Instant::now(), outcome);
}

/// The outcome for an endpoint of a failed connect.
pub(super) fn outcome(error: &ConnectError) -> Outcome {
    match error {
        ConnectError::Timeout => Outcome::ConnectTimeout,
        ConnectError::Failed(_) => Outcome::ConnectFailed,
        ConnectError::Local(_) => Outcome::Abandoned,
    }
}
