//! Connecting to an endpoint, with the final check of whether weir may.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use smallvec::SmallVec;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::cluster::{Backend, Cluster, Lease};
use super::conn::Http2;
use super::http2::Http2Stats;
use super::not_connected::{self, NotConnected};
use super::pool::{self, NoStream, Offer};
use super::{Conn, Key, PooledConnection, ReplayBudget, StreamPermit, WireStats, race};
use crate::config::Limits;
use crate::domain::health::Caller;
use crate::domain::outcome::Outcome;
use crate::domain::ssrf::{LocalAddresses, Refusal, refuse, refuse_connected, refuse_in_pod};
use crate::identity::Identities;
use crate::proxy::fault::{Fault, Kind};
use crate::telemetry::Counter;
use crate::transport::{Bounds, ConnectError, Connector, Io, KernelRoutes, Peer, PodNetns, Watch};

/// Unused connections are not counted before so many were made.
const FEW: usize = 32;

/// How all workers connect to endpoints, with counters.
#[derive(Debug)]
pub struct Connecting {
    /// How sockets are made.
    pub connector: ArcSwap<Connector>,
    /// Destinations that weir did not connect to, by reason: [`Refusal::LABELS`].
    pub refusals: [Counter; Refusal::LABELS.len()],
    /// Addresses that were tried because another address of the same name took too long.
    pub raced: Counter,
    /// Bodies that were held back and then sent although the endpoint had not asked for them in time
    /// (`limits.expectContinue`).
    pub unasked: Counter,
    /// Connections that could not be made because no source port was left.
    pub no_port: Counter,
    /// Unused connections that were closed since there were too many of them (`limits.idleConnections`).
    pub crowded_out: Counter,
    /// Connections of HTTP/2.
    pub http2: Http2Stats,
    /// Bodies that are kept to be sent again.
    pub replays: ReplayBudget,
    /// Who this node's pods are to other weirs.
    pub identities: Arc<Identities>,
    /// Connections between pods, by whether they are encrypted.
    pub wire: WireStats,
}

/// A snapshot's rules for connecting.
#[derive(Clone, Copy, Debug)]
pub struct DialRules<'a> {
    /// The limits.
    pub limits: &'a Limits,
    /// Addresses that weir does not connect to.
    pub local: LocalAddresses<'a>,
}

/// Endpoints that were tried for one request.
pub type Tried = SmallVec<[Arc<Backend>; 2]>;

/// The remaining connect budget of a request.
#[derive(Debug)]
pub struct Dial<'a> {
    /// The client.
    pub client: &'a SocketAddr,
    /// Whose the request is, for the breakers.
    pub caller: Caller,
    /// The client's pod, if the connection is made in its network namespace; otherwise the node's.
    pub from: Option<&'a Arc<PodNetns>>,
    /// How long one endpoint may take.
    pub limit: Duration,
    /// The hop limit of its packets, where it encodes information (domain/hops).
    pub hop_limit: Option<u8>,
    /// How long all of them may take.
    pub total: Duration,
    /// The endpoints tried before. Those that fail here are added, except the one that the caller knows.
    pub tried: &'a mut Tried,
}

/// One worker's means to connect to endpoints.
#[derive(Debug)]
pub struct Dialer {
    /// The worker's number, from 0: each has its own connections to an endpoint.
    pub worker: usize,
    /// State shared with the other workers.
    pub connecting: Arc<Connecting>,
    /// Its connections to endpoints, watched for silence.
    pub watch: Watch,
    /// Connections that were made since the unused ones were last counted.
    made: Cell<usize>,
    /// Told when many were.
    pub many: Notify,
    /// Which addresses the kernel treats as this node's own.
    kernel: KernelRoutes,
    rng: RefCell<fastrand::Rng>,
}

impl Connecting {
    /// A value whose sockets are made by `connector`.
    pub fn new(connector: Connector) -> Arc<Self> {
        Arc::new(Self {
            connector: ArcSwap::from_pointee(connector),
            refusals: Default::default(),
            raced: Counter::default(),
            unasked: Counter::default(),
            no_port: Counter::default(),
            crowded_out: Counter::default(),
            http2: Http2Stats::default(),
            replays: ReplayBudget::default(),
            identities: Arc::default(),
            wire: WireStats::default(),
        })
    }

    /// How sockets are made now.
    pub fn connector(&self) -> Connector {
        Connector::clone(&self.connector.load())
    }

    /// Counts a destination that weir did not connect to.
    pub fn refused(&self, why: Refusal) {
        self.refusals[why.slot()].inc();
    }
}

impl Dial<'_> {
    /// The same budget, for one more connection.
    pub fn again(&mut self) -> Dial<'_> {
        Dial { tried: self.tried, ..*self }
    }

    /// A connection to `endpoint`, within `limit`.
    pub(super) fn connect(
        &self,
        dialer: &Dialer,
        endpoint: SocketAddr,
        limit: Duration,
    ) -> impl Future<Output = Result<TcpStream, ConnectError>> + use<> {
        let connector = Connector { hop_limit: self.hop_limit, ..dialer.connecting.connector() };
        connector.connect(endpoint, limit, self.client.ip(), self.from.cloned())
    }
}

impl Dialer {
    /// The dialer of `worker`.
    pub fn new(worker: usize, connecting: Arc<Connecting>) -> Self {
        Self {
            worker,
            watch: Watch::default(),
            made: Cell::default(),
            many: Notify::new(),
            kernel: KernelRoutes::default(),
            rng: RefCell::new(fastrand::Rng::new()),
            connecting,
        }
    }

    /// The right to use one endpoint of `cluster` once, for `client`, whose breakers are those of `caller`.
    ///
    /// # Errors
    ///
    /// As [`Cluster::lease`].
    pub fn lease(
        &self,
        cluster: &Arc<Cluster>,
        (client, caller): (&SocketAddr, Caller),
        tried: &[Arc<Backend>],
        now: Instant,
    ) -> Result<Lease, Fault> {
        cluster.lease(now, &mut self.rng.borrow_mut(), (client, caller), tried)
    }

    /// Whether the kernel treats `address` as this node's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.kernel.is_local(address)
    }

    /// A pooled connection with `key` to the endpoint of `lease`.
    pub fn checkout(&self, rules: DialRules<'_>, lease: &Lease, key: Key) -> Option<PooledConnection> {
        lease.backend().pool(self.worker).checkout(key, lease.started(), rules.limits.pool_idle)
    }

    /// A new connection with `key` to the endpoint of `lease`.
    ///
    /// # Errors
    ///
    /// As [`Dialer::connect`]; `Ok(None)` when the endpoint accepted the connection and closed it at once.
    pub async fn open(
        &self,
        rules: DialRules<'_>,
        lease: &mut Lease,
        key: Key,
        dial: Dial<'_>,
    ) -> Result<Option<PooledConnection>, NotConnected> {
        let from = dial.from;
        let renewed = from.map_or(0, |pod| pod.renewed());
        let io = self.connect(rules, lease, dial).await?;
        let Some(peer) = io.peer().cloned() else { return Ok(None) };
        let conn = Conn::http1(io, key, rules.limits).await;
        Ok(conn.map(|conn| PooledConnection { conn, key, peer, reused: false, from: from.cloned(), renewed }))
    }

    /// A stream of an HTTP/2 connection with `key` to the endpoint of `lease`: of one that is open, or of a new one.
    /// Where neither is possible now, it waits up to the limit for a connect.
    ///
    /// # Errors
    ///
    /// As [`Dialer::connect`], and when no stream became free in time; `Ok(None)` when the endpoint accepted the
    /// connection and closed it at once.
    pub async fn stream(
        &self,
        rules: DialRules<'_>,
        lease: &mut Lease,
        key: Key,
        mut dial: Dial<'_>,
    ) -> Result<Option<StreamPermit>, NotConnected> {
        let most = rules.limits.http2_endpoints.connections;
        let mut until = None;
        let dialling = loop {
            let now = Instant::now();
            match pool::offer((lease.backend(), self.worker), key, now, most) {
                Offer::Stream(stream) => {
                    self.connecting.http2.waits.add(until.is_some().into());
                    return Ok(Some(stream));
                }
                Offer::Dial(dialling) => break dialling,
                Offer::Wait(waiting) => {
                    let until = *until.get_or_insert(now + dial.limit);
                    let waited = waiting.wait(until.saturating_duration_since(now)).await;
                    if let Err(why) = waited {
                        let stream = pool::any_stream((lease.backend(), self.worker), key, Instant::now());
                        let stream = stream.ok_or_else(|| self.no_stream(lease.backend(), why, dial.limit));
                        return stream.map(Some);
                    }
                }
            }
        };
        let renewed = dial.from.map_or(0, |pod| pod.renewed());
        let io = match self.connect(rules, lease, dial.again()).await {
            Ok(io) => io,
            Err(none) => {
                dialling.failed();
                let stream = pool::any_stream((lease.backend(), self.worker), key, Instant::now());
                return stream.map(Some).ok_or(none);
            }
        };
        let pool = lease.backend().pool(self.worker);
        let told = (pool.freed(key), self.connecting.clone());
        let Some(connection) = Http2::handshake(io, key, rules.limits, told).await else { return Ok(None) };
        // An ended pod's connections were dropped already, as were those of one that is to connect anew.
        let is_gone = || dial.from.is_some_and(|pod| pod.has_ended() || pod.renewed() != renewed);
        pool.share(key, &connection, is_gone);
        Ok(connection.stream(Instant::now()))
    }

    /// No stream to `backend` could be had within `limit`. Nothing is known of the endpoint by that.
    fn no_stream(&self, backend: &Backend, why: NoStream, limit: Duration) -> NotConnected {
        self.connecting.http2.waits_in_vain.inc();
        NotConnected::no_stream(backend.address, why, limit)
    }

    /// A TCP connection to the endpoint of `lease`, unless weir refuses that destination. Where it is one of several
    /// addresses of an outside name, the connection may be to another of them; `lease` is then for that one.
    ///
    /// # Errors
    ///
    /// [`NotConnected`]
    pub async fn connect(
        &self,
        rules: DialRules<'_>,
        lease: &mut Lease,
        mut dial: Dial<'_>,
    ) -> Result<Io, NotConnected> {
        let backend = lease.backend();
        self.permit(rules, backend, dial.from)?;
        let secured = self.connecting.secures(dial.from, backend.address, lease.cluster())?;
        backend.stats().connects.inc();
        self.makes(rules.limits.idle_connections);
        let connected = if let Some(secured) = secured {
            // Boxed: it would make every connection's task larger.
            Box::pin(self.connecting.secure(secured, &dial, backend.address, self.peer(rules, backend))).await
        } else {
            let may_race = race::may_race(lease.cluster()) && !self.connecting.has_peer(lease.cluster());
            let connected = if may_race {
                // Boxed: as above.
                Box::pin(race::connect(self, rules, lease, &mut dial)).await
            } else {
                dial.connect(self, backend.address, dial.limit).await
            };
            if let (Ok(stream), None) = (&connected, dial.from) {
                self.check(rules, lease.backend(), stream)?;
            }
            connected.map(|stream| Io::to(stream, self.peer(rules, lease.backend())))
        };
        let error = match connected {
            Ok(io) => {
                if let Some(pod) = dial.from {
                    lease.backend().reached_from(pod.cookie());
                }
                if let Some(peer) = io.peer() {
                    self.watch.add(peer.clone());
                }
                return Ok(io);
            }
            Err(error) => error,
        };
        if matches!(&error, ConnectError::Local(cause) if cause.raw_os_error() == Some(libc::EADDRNOTAVAIL)) {
            self.connecting.no_port.inc();
        }
        let mut outcome = race::outcome(&error);
        // A policy of the pod's may forbid it the endpoint.
        if outcome != Outcome::Abandoned
            && dial.from.is_some_and(|pod| !lease.backend().was_reached_from(pod.cookie()))
        {
            outcome = Outcome::NeverReached;
        }
        let (kind, cause) = match error {
            ConnectError::Timeout => (Kind::ConnectTimeout, format!("no connection within {:?}", dial.limit)),
            ConnectError::Failed(cause) => (Kind::Connect, cause.to_string()),
            ConnectError::Local(cause) => (Kind::Local, not_connected::local(&cause, dial.from.is_some())),
        };
        Err(NotConnected {
            fault: Fault::new(kind, format!("{}: {cause}", lease.backend().address)),
            outcome,
        })
    }

    /// The endpoint of a connection, with the limits for it.
    fn peer(&self, rules: DialRules<'_>, backend: &Arc<Backend>) -> Peer {
        let Limits { silence, interim_answers, interim_bytes, .. } = *rules.limits;
        let interim = Bounds { answers: interim_answers, bytes: interim_bytes };
        let patience = self.connecting.connector.load().patience(silence, interim);
        Peer::new(patience, backend.doubts().clone())
    }

    /// One more connection is made, where all workers may keep `most` unused ones.
    fn makes(&self, most: usize) {
        let made = self.made.get() + 1;
        self.made.set(made);
        if made > (most / 8).max(FEW) {
            self.made.set(0);
            self.many.notify_one();
        }
    }

    /// Whether weir may connect to `backend`: from a pod, or from the node.
    pub(super) fn permit(
        &self,
        rules: DialRules<'_>,
        backend: &Backend,
        from: Option<&Arc<PodNetns>>,
    ) -> Result<(), NotConnected> {
        if let Some(pod) = from {
            let is_shown = pod.is_shown(backend.address.ip()).then_some(Refusal::OwnListener);
            let why = is_shown.or_else(|| refuse_in_pod(backend.address, rules.local));
            return why.map_or(Ok(()), |why| Err(self.refused(backend, why)));
        }
        let why = refuse(backend.address, rules.local, backend.exempt, |ip| self.is_local(ip));
        why.map_or(Ok(()), |why| Err(self.refused(backend, why)))
    }

    /// Whether the connection to `backend` may be used: one that did not leave this node is refused as the node's own
    /// addresses are, whatever was known of the address before.
    fn check(&self, rules: DialRules<'_>, backend: &Backend, stream: &TcpStream) -> Result<(), NotConnected> {
        let local = rules.local;
        // Where connections to this node are allowed, only weir's own listeners must be detected.
        if backend.exempt.refuses_own().is_none() && !local.has_listener_at(backend.address.port()) {
            return Ok(());
        }
        let (Ok(own), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return Ok(()) };
        let why = refuse_connected(own, peer, local, backend.exempt);
        why.map_or(Ok(()), |why| Err(self.refused(backend, why)))
    }

    fn refused(&self, backend: &Backend, why: Refusal) -> NotConnected {
        self.connecting.refused(why);
        let fault =
            Fault::new(Kind::Refused(why), format!("weir does not connect to {}: {why}", backend.address));
        // It is ejected for this caller. Others may be allowed, from their pods' networks.
        NotConnected { fault, outcome: Outcome::NeverReached }
    }
}
