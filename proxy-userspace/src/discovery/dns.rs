//! Names outside the catalog, by DNS.
//!
//! Look-ups are absolute (`example.com.`), so the node's search list cannot turn one name into another; both
//! families are asked; `/etc/hosts` counts. hickory does the wire format, `resolv.conf`, the second question by TCP
//! where an answer was truncated, and caching within its TTL.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Denied, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use tokio::time::timeout;

use crate::config;

/// The longest an answer is believed, whatever its TTL says.
const MAX_TTL: Duration = Duration::from_secs(3600);

/// The shortest: a TTL of zero must not turn every request into a look-up.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Looks names up; cheap to clone.
#[derive(Clone)]
pub struct Dns {
    resolver: TokioResolver,
    /// How long one look-up may take.
    limit: Duration,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Both families, without duplicates, sorted.
    pub addresses: Vec<IpAddr>,
    /// Until when they are to be believed.
    pub valid_until: Instant,
}

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// DNS knows that there is none.
    NoSuchName,
    /// DNS could not be asked: an earlier answer is better than none.
    Failed(String),
}

impl Dns {
    /// A resolver that asks the servers that are set, or else those of the machine's `/etc/resolv.conf`.
    ///
    /// # Errors
    ///
    /// When that file cannot be read; the text says so.
    pub fn new(settings: &config::Dns) -> anyhow::Result<Self> {
        let unusable = |cause| anyhow::anyhow!("DNS is off: /etc/resolv.conf cannot be used: {cause}");
        let mut builder = if settings.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(unusable)?
        } else {
            let servers = settings.servers.iter().copied().map(server).collect();
            let servers = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
        };
        set(builder.options_mut(), settings.timeout);
        Ok(Self { resolver: builder.build().map_err(unusable)?, limit: settings.timeout })
    }

    /// The addresses of `host`, a canonical name. Must run on a tokio runtime that lives on.
    ///
    /// # Errors
    ///
    /// [`DnsError`]
    pub async fn resolve(&self, host: &str) -> Result<Answer, DnsError> {
        let found = match timeout(self.limit, self.resolver.lookup_ip(format!("{host}."))).await {
            Ok(Ok(found)) => found,
            Ok(Err(cause)) if is_denial(&cause) => return Err(DnsError::NoSuchName),
            Ok(Err(cause)) => return Err(DnsError::Failed(cause.to_string())),
            Err(_) => return Err(DnsError::Failed(format!("nothing within {:?}", self.limit))),
        };
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        let earliest = Instant::now() + MIN_TTL;
        Ok(Answer { addresses, valid_until: found.as_lookup().valid_until().max(earliest) })
    }
}

fn set(options: &mut ResolverOpts, limit: Duration) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = 1024;
    // So that a lost packet leaves time for another attempt.
    options.timeout = (limit / 2).min(Duration::from_secs(2));
    options.positive_min_ttl = Some(MIN_TTL);
    options.positive_max_ttl = Some(MAX_TTL);
    options.negative_max_ttl = Some(Duration::from_secs(30));
}

fn server(address: SocketAddr) -> NameServerConfig {
    let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    (udp.port, tcp.port) = (address.port(), address.port());
    NameServerConfig::new(address.ip(), true, vec![udp, tcp])
}

/// Whether DNS knows that there is nothing, rather than not knowing.
fn is_denial(cause: &NetError) -> bool {
    let NetError::Dns(Denied::NoRecordsFound(NoRecords { response_code, .. })) = cause else { return false };
    matches!(*response_code, ResponseCode::NXDomain | ResponseCode::NoError)
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dns")
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("DNS knows no such name"),
            Self::Failed(cause) => write!(f, "DNS did not answer: {cause}"),
        }
    }
}
