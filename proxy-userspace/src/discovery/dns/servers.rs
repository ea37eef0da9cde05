//! Queries one DNS server, and the next one if it does not answer in time or fails.
//!
//! hickory itself can query two at once, but then a truncated answer from the second cancels the TCP query that
//! followed the first one's truncated answer. So each server has its own resolver here, which retries over TCP by
//! itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::{DnsError as Denied, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::family::Said;
use super::provider::Provider;
use super::{Elsewhere, MAX_TTL, MIN_TTL};

/// How long a server has before the next one is queried too. An answer that is not cached anywhere may take that long.
const NEXT: Duration = Duration::from_millis(300);

/// Maximum queries that wait on one TCP connection to a server: more than weir has at once, so that names without an
/// answer block no other.
const WAITING: usize = 1024;

/// The servers for external names.
pub(super) struct Servers {
    each: Vec<Resolver<Provider>>,
    /// The server that answered last; it is queried first.
    preferred: AtomicUsize,
}

impl Servers {
    /// The servers at `addresses`, by UDP and TCP.
    pub(super) fn at(addresses: &[SocketAddr], limit: Duration, sockets: &Elsewhere) -> Result<Self, String> {
        let servers = addresses.iter().copied().map(server).collect();
        Self::new(servers, &ResolverOpts::default(), limit, sockets)
    }

    /// These servers with these options; a look-up may take `limit`.
    pub(super) fn new(
        servers: Vec<NameServerConfig>,
        options: &ResolverOpts,
        limit: Duration,
        sockets: &Elsewhere,
    ) -> Result<Self, String> {
        let make = |server| {
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            let mut builder = Resolver::builder_with_config(config, Provider::new(sockets.clone()))
                .with_options(options.clone());
            set(builder.options_mut(), limit);
            builder.build().map_err(|cause| cause.to_string())
        };
        let each = servers.into_iter().map(make).collect::<Result<_, _>>()?;
        Ok(Self { each, preferred: AtomicUsize::new(0) })
    }

    /// The addresses of one family of `name`: the first conclusive answer.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Said {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut order = (0..self.each.len()).map(|it| (first + it) % self.each.len());
        // Dropping the set cancels the pending queries.
        let mut asked = JoinSet::new();
        let mut why = "there is no server to ask".to_owned();
        loop {
            let next = order.next();
            if let Some(at) = next {
                let (resolver, name) = (self.each[at].clone(), name.clone());
                asked.spawn(async move { (at, said(resolver.lookup(name, kind).await)) });
            }
            let answer = tokio::select! {
                answer = asked.join_next() => answer,
                () = sleep(NEXT), if next.is_some() => continue,
            };
            match answer {
                Some(Ok((_, Said::Failed(cause)))) => why = cause,
                Some(Ok((at, said))) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return said;
                }
                Some(Err(cause)) => why = cause.to_string(),
                None => return Said::Failed(why),
            }
        }
    }
}

fn set(options: &mut ResolverOpts, limit: Duration) {
    options.cache_size = 1024;
    // Leaves time for another attempt after a lost packet.
    options.timeout = (limit / 2).min(Duration::from_secs(2));
    options.positive_min_ttl = Some(MIN_TTL);
    options.positive_max_ttl = Some(MAX_TTL);
    options.negative_max_ttl = Some(Duration::from_secs(30));
    options.max_active_requests = WAITING;
    // weir reads that file itself, with all its names.
    options.use_hosts_file = ResolveHosts::Never;
}

fn server(address: SocketAddr) -> NameServerConfig {
    let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    (udp.port, tcp.port) = (address.port(), address.port());
    NameServerConfig::new(address.ip(), true, vec![udp, tcp])
}

fn said(answer: Result<hickory_resolver::lookup::Lookup, NetError>) -> Said {
    match answer {
        Ok(found) => {
            let addresses: Vec<_> =
                found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
            if addresses.is_empty() {
                return Said::NoData;
            }
            Said::Addresses(addresses, found.valid_until())
        }
        Err(NetError::Dns(Denied::NoRecordsFound(NoRecords { response_code, .. }))) => match response_code {
            ResponseCode::NXDomain => Said::NoName,
            ResponseCode::NoError => Said::NoData,
            other => Said::Failed(format!("the server says {other}")),
        },
        Err(cause) => Said::Failed(cause.to_string()),
    }
}
