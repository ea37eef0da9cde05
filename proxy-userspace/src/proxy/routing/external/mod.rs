//! Destinations outside the catalog: DNS names, and literal addresses.
//!
//! Each becomes its own cluster, so that it is balanced, ejected and counted like any other. The table has a limit, of which
//! each client has its share, and evicts the least recently used of who has more. An answer slightly past its TTL is still used while it is refreshed; for an older
//! one the request waits for the refresh. An old answer is kept when DNS fails.
//!
//! [`Rules::questions`] gives the DNS questions for a host, and their order. Addresses for a name below the cluster's
//! own domain must be in the cluster's ranges (`names.clusterRanges`): a server that answers otherwise is not the
//! cluster's DNS.
//!
//! [`Rules::questions`]: crate::domain::name::Rules::questions

mod addresses;
mod asker;
mod lookups;
mod resolvers;
mod shares;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::runtime::Handle;

pub use self::asker::Asker;
pub use self::lookups::{Busy, LookUps};
use self::resolvers::{RESOLVERS, Resolvers};
pub use self::table::Counted;
use self::table::{Key, Known, Table};
use crate::discovery::dns::{Answer, Dns, DnsError};
use crate::domain::catalog::Endpoint;
use crate::domain::name::{Host, Scope};
use crate::domain::route::Outside;
use crate::domain::ssrf::Exempt;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::holders::{Holder, HolderId};
use crate::proxy::routing::route::Lookup;
use crate::proxy::routing::snapshot::{RoutingConfig, Snapshot};
use crate::proxy::upstream::Source;
use crate::proxy::upstream::cluster::Cluster;
use crate::telemetry::{Counter, Seldom};
use crate::transport::KernelRoutes;

/// How long a name is used when DNS cannot be asked again.
const RETRY: Duration = Duration::from_secs(2);

/// How long after its TTL an answer may serve a request while it is refreshed.
const PAST: Duration = Duration::from_secs(2);

/// Entries unused for this long are dropped.
const UNUSED: Duration = Duration::from_secs(600);

/// The table of clusters outside the catalog.
#[derive(Debug)]
pub struct ExternalClusters {
    table: Mutex<Table>,
    workers: usize,
    limit: AtomicUsize,
    dns: ArcSwapOption<Dns>,
    /// The resolvers of pods, by the cookies of their network namespaces.
    resolvers: Mutex<Resolvers>,
    control: Handle,
    routes: KernelRoutes,
    choice: RandomState,
    /// The log's lines about names whose look-up fails.
    failures: Seldom<HolderId>,
    /// Look-ups in progress.
    pub look_ups: Arc<LookUps>,
    /// Entries dropped because the table was full.
    pub evicted: Counter,
    /// Look-ups that DNS did not answer.
    pub failed: Counter,
    /// Addresses from DNS that weir does not connect to.
    pub refused: Counter,
    /// Addresses from DNS that this node has no route to.
    pub unreachable: Counter,
    /// Addresses from DNS beyond the limit per name.
    pub surplus: Counter,
    /// Addresses from DNS for names below the cluster's domain that cannot be the cluster's.
    pub foreign: Counter,
    /// Requests to an address that the cluster's DNS has for one of its names.
    pub unbalanced: Counter,
}

/// Why there is no cluster for a name.
enum Miss {
    /// DNS has no address for it, or did not answer.
    Dns(DnsError),
    /// DNS has only addresses like this one for a name below the cluster's domain.
    Foreign(IpAddr),
    /// weir could not ask.
    Fault(Fault),
}

impl ExternalClusters {
    /// An empty table. Look-ups run on `control`.
    pub fn new(config: &RoutingConfig, dns: Option<Dns>, control: Handle) -> Self {
        Self {
            table: Mutex::new(Table::new(config.policies.clone())),
            workers: config.workers,
            limit: AtomicUsize::new(config.limits.outside),
            dns: ArcSwapOption::new(dns.map(Arc::new)),
            resolvers: Mutex::new(Resolvers::new(RESOLVERS)),
            control,
            routes: KernelRoutes::default(),
            choice: RandomState::default(),
            failures: Seldom::default(),
            look_ups: Arc::default(),
            evicted: Counter::default(),
            failed: Counter::default(),
            refused: Counter::default(),
            unreachable: Counter::default(),
            surplus: Counter::default(),
            foreign: Counter::default(),
            unbalanced: Counter::default(),
        }
    }

    /// Uses this resolver from now on; known answers stay until their TTL.
    pub fn ask(&self, dns: Option<Dns>) {
        self.dns.store(dns.map(Arc::new));
        self.resolvers.lock().clear();
    }

    /// The cluster of an outside destination, looked up if needed, for a request of `asker` with `snapshot`.
    ///
    /// # Errors
    ///
    /// [`Kind::Unbound`] when DNS has no address for it, or when `asker` may cause no more look-ups (the text is only
    /// the reason); [`Kind::Overload`] when too many look-ups are in progress.
    pub async fn cluster(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        lookup: &Lookup,
        asker: &mut Asker,
    ) -> Result<Arc<Cluster>, Fault> {
        let Lookup { outside: Outside { host, port, .. }, questions } = lookup;
        if let Some(address) = lookup.outside.literal() {
            let exempt = if lookup.outside.written { Exempt::Written } else { Exempt::No };
            return Ok(self.literal(SocketAddr::new(address, *port), exempt, Instant::now(), &asker.holder));
        }
        let mut denied = Fault::new(Kind::Unbound, "no name of it is short enough for DNS");
        for name in &questions.inside {
            if asker.is_denied(name) {
                denied = Miss::Dns(DnsError::NoSuchName).of(name, host);
                continue;
            }
            // What the cluster's DNS returns for a Service may be local: kube-proxy's IPVS mode makes Service addresses
            // local.
            match self.named(snapshot, (name, *port), Exempt::OnNode, asker).await {
                Err(miss @ Miss::Dns(DnsError::NoSuchName)) => {
                    asker.deny(name);
                    denied = miss.of(name, host);
                }
                Err(miss @ Miss::Foreign(_)) if questions.foreign_is_none => denied = miss.of(name, host),
                Err(miss) => return Err(miss.of(name, host)),
                Ok(cluster) => {
                    self.unbalanced.inc();
                    return Ok(cluster);
                }
            }
        }
        match &questions.outside {
            Some(name) => self
                .named(snapshot, (name, *port), Exempt::No, asker)
                .await
                .map_err(|miss| miss.of(name, host)),
            None => Err(denied),
        }
    }

    /// The cluster of an absolute name, looked up if needed.
    async fn named(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        (name, port): (&str, u16),
        exempt: Exempt,
        asker: &mut Asker,
    ) -> Result<Arc<Cluster>, Miss> {
        let key = Key { host: name.into(), port, exempt, from: asker.source() };
        if let Some(Known { cluster, past }) = self.known(&key, Instant::now()) {
            let Some(past) = past else { return Ok(cluster) };
            // The look-up must outlive this request's worker.
            let (this, snapshot) = (self.clone(), snapshot.clone());
            let mut asker = asker.once();
            let asking = self.control.spawn(async move { this.refresh(&snapshot, key, &mut asker).await });
            if past < PAST {
                return Ok(cluster);
            }
            return match asking.await {
                Ok(Err(why @ (DnsError::NoSuchName | DnsError::NoAddress))) => Err(Miss::Dns(why)),
                Ok(_) | Err(_) => Ok(cluster),
            };
        }
        if self.dns.load().is_none() {
            return Err(Miss::Fault(Fault::new(Kind::Unbound, "DNS is not available")));
        }
        let answer = self.answer(snapshot, name, asker).await;
        let answer = answer.map_err(|busy| Miss::Fault(refused(name, busy, snapshot)))?.map_err(Miss::Dns)?;
        let named = (name, port, asker.source());
        let endpoints = self.endpoints(snapshot, named, &answer.addresses).map_err(Miss::Foreign)?;
        let until = Some(answer.valid_until);
        Ok(self.insert(key, &endpoints, (until, Instant::now()), &asker.holder))
    }

    /// The cluster of one address that a client dialled.
    pub fn fixed(&self, address: SocketAddr, now: Instant, client: &Arc<Holder>) -> Arc<Cluster> {
        self.literal(address, Exempt::No, now, client)
    }

    /// The cluster of one address that a client asks for.
    fn literal(
        &self,
        address: SocketAddr,
        exempt: Exempt,
        now: Instant,
        client: &Arc<Holder>,
    ) -> Arc<Cluster> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let key =
            Key { host: address.ip().to_string().into(), port: address.port(), exempt, from: Source::Node };
        if let Some(Known { cluster, .. }) = self.known(&key, now) {
            return cluster;
        }
        self.insert(key, &[Endpoint::at(address)].into(), (None, now), client)
    }

    /// The DNS answer for `host`, as far as `asker` may ask.
    async fn answer(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        host: &str,
        asker: &mut Asker,
    ) -> Result<Result<Answer, DnsError>, Busy> {
        let (dns, this) = (self.resolver(asker).ok_or(Busy::Stopping)?, self.clone());
        let from = asker.source();
        let ask = |host: Box<str>| {
            let (dns, this) = (dns.clone(), this.clone());
            async move {
                // The routes of a pod are not the node's.
                let is_usable = |address| from != Source::Node || this.has_route(address);
                let answer = dns.resolve(&host, is_usable).await;
                if let Err(DnsError::Failed(_)) = answer {
                    this.failed.inc();
                }
                answer
            }
        };
        self.look_ups.answer(host, asker, snapshot.config.limits.dns_lookups, &self.control, ask).await
    }

    /// Asks for the host of `key` again. A failure is returned, and already handled.
    async fn refresh(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        key: Key,
        asker: &mut Asker,
    ) -> Result<(), DnsError> {
        // The last addresses stay in use when no look-up may be started.
        let Ok(answer) = self.answer(snapshot, &key.host, asker).await else { return Ok(()) };
        let logs = || self.failures.logs(asker.holder.id, Instant::now());
        let mut table = self.table.lock();
        match &answer {
            Ok(Answer { addresses, valid_until }) => {
                match (
                    table.entries.peek_mut(&key),
                    self.endpoints(snapshot, (&key.host, key.port, key.from), addresses),
                ) {
                    (Some(entry), Ok(endpoints)) => {
                        entry.cluster.apply(&endpoints);
                        entry.valid_until = Some(*valid_until);
                    }
                    (Some(_), Err(foreign)) if logs() => {
                        let why = "DNS has an address for a name of the cluster that cannot be its own";
                        tracing::warn!(host = %key.host, address = %foreign, "{why}; the last addresses serve on");
                    }
                    (Some(_), Err(_)) | (None, _) => {}
                }
            }
            Err(DnsError::NoSuchName | DnsError::NoAddress) => {
                if let Some(gone) = table.remove(&key) {
                    gone.retire();
                }
            }
            Err(DnsError::Failed(cause)) if logs() => {
                tracing::warn!(host = %key.host, %cause, "DNS does not answer; the last addresses serve on");
            }
            Err(DnsError::Failed(_)) => {}
        }
        answer.map(drop)
    }
}

impl Miss {
    /// The fault of a request for `host`, for which `name` was looked up.
    fn of(self, name: &str, host: &str) -> Fault {
        match self {
            Self::Dns(why) if name == host => Fault::new(Kind::Unbound, why.to_string()),
            Self::Dns(why) => Fault::new(Kind::Unbound, format!("{why} ({name})")),
            Self::Foreign(address) => Fault::new(
                Kind::Unbound,
                format!("DNS has {address} for {name}, which cannot be the cluster's (names.clusterRanges)"),
            ),
            Self::Fault(fault) => fault,
        }
    }
}

/// The name of a cluster outside the catalog.
fn title(host: &str, port: u16) -> Box<str> {
    let port = Some(port).filter(|&port| port != 80);
    Host { host: host.into(), port, scope: Scope::Anywhere }.to_string().into()
}

/// Why `name` was not looked up.
fn refused(name: &str, busy: Busy, snapshot: &Snapshot) -> Fault {
    let limits = &snapshot.config.limits;
    match busy {
        Busy::Client => Fault::new(
            Kind::Overload,
            format!("{name} is not looked up: this client has its share of the node's look-ups under way"),
        ),
        Busy::Node => Fault::new(
            Kind::Overload,
            format!("{name} is not looked up: {} look-ups are under way already", limits.dns_lookups),
        ),
        Busy::Request => Fault::new(
            Kind::Unbound,
            format!("{name} is not looked up: one request may ask DNS {} questions", limits.dns_questions),
        ),
        Busy::Stopping => Fault::new(Kind::Overload, "weir is stopping"),
    }
}
