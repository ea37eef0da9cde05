//! Names outside the catalog, by DNS.
//!
//! Look-ups are absolute (`example.com.`), so the node's search list cannot turn one name into another; both
//! families are asked; `/etc/hosts` counts. hickory does the wire format, `resolv.conf`, the second question by TCP
//! where an answer was truncated, and caching within its TTL.

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Denied, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::config;

/// The longest an answer is believed, whatever its TTL says.
const MAX_TTL: Duration = Duration::from_secs(3600);

/// The shortest: a TTL of zero must not turn every request into a look-up.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Who answers where nobody is set.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// No such file is larger.
const LARGEST: u64 = 64 << 10;

/// How soon a file that could not be used is read again.
const AGAIN: Duration = Duration::from_secs(1);

/// Looks names up; cheap to clone.
#[derive(Clone)]
pub struct Dns {
    resolver: Arc<Mutex<Resolver>>,
    /// How long one look-up may take.
    limit: Duration,
}

/// What asks, once it is known whom.
enum Resolver {
    Made(Box<TokioResolver>),
    /// Why not, and when that was found.
    Missing(String, Instant),
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
    /// A resolver that asks the servers that are set, or else those of the machine's `/etc/resolv.conf`. While that file
    /// cannot be used, each look-up fails, and the file is read again now and then: a node that has just begun to run may
    /// not have it yet.
    pub fn new(settings: &config::Dns) -> Self {
        let resolver = if settings.servers.is_empty() {
            Resolver::of_file(RESOLV_CONF, settings.timeout)
        } else {
            let servers = settings.servers.iter().copied().map(server).collect();
            let servers = ResolverConfig::from_parts(None, Vec::new(), servers);
            let made = make(
                TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default()),
                settings.timeout,
            );
            made.map_or_else(Resolver::missing, Resolver::Made)
        };
        if let Resolver::Missing(why, _) = &resolver {
            tracing::warn!("names outside the catalog cannot be looked up: {why}");
        }
        Self { resolver: Arc::new(Mutex::new(resolver)), limit: settings.timeout }
    }

    /// The addresses of `host`, a canonical name. Must run on a tokio runtime that lives on.
    ///
    /// # Errors
    ///
    /// [`DnsError`]
    pub async fn resolve(&self, host: &str) -> Result<Answer, DnsError> {
        let resolver = self.resolver.lock().get(RESOLV_CONF, self.limit)?;
        let found = match timeout(self.limit, resolver.lookup_ip(format!("{host}."))).await {
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

impl Resolver {
    fn of_file(path: &str, limit: Duration) -> Self {
        read(path, limit)
            .map_or_else(|cause| Self::missing(format!("{path} cannot be used: {cause}")), Self::Made)
    }

    fn missing(why: String) -> Self {
        Self::Missing(why, Instant::now())
    }

    /// What asks, made of the file at `path` where that could not be used before.
    fn get(&mut self, path: &str, limit: Duration) -> Result<TokioResolver, DnsError> {
        if matches!(self, Self::Missing(_, since) if since.elapsed() >= AGAIN) {
            *self = Self::of_file(path, limit);
            if matches!(self, Self::Made(_)) {
                tracing::info!("names outside the catalog can be looked up now");
            }
        }
        match self {
            Self::Made(resolver) => Ok(TokioResolver::clone(resolver)),
            Self::Missing(why, _) => Err(DnsError::Failed(why.clone())),
        }
    }
}

/// What asks the servers that the file at `path` names.
fn read(path: &str, limit: Duration) -> Result<Box<TokioResolver>, String> {
    let mut text = Vec::new();
    config::open_regular(Path::new(path))
        .and_then(|file| file.take(LARGEST).read_to_end(&mut text))
        .map_err(|cause| cause.to_string())?;
    let (servers, options) = parse_resolv_conf(text).map_err(|cause| cause.to_string())?;
    let mut builder = TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    make(builder, limit)
}

fn make(
    mut builder: ResolverBuilder<TokioRuntimeProvider>,
    limit: Duration,
) -> Result<Box<TokioResolver>, String> {
    set(builder.options_mut(), limit);
    builder.build().map(Box::new).map_err(|cause| cause.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_cannot_be_used_yet_is_read_again_once_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let path = path.to_str().unwrap();
        let mut resolver = Resolver::of_file(path, Duration::from_secs(1));
        let why = |resolver: &mut Resolver| match resolver.get(path, Duration::from_secs(1)) {
            Err(DnsError::Failed(why)) => why,
            other => panic!("{:?}", other.map(drop)),
        };
        assert!(why(&mut resolver).contains("No such file"), "{}", why(&mut resolver));
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        resolver = Resolver::of_file(path, Duration::from_secs(1));
        assert!(why(&mut resolver).contains("not a regular file"), "{}", why(&mut resolver));
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, "nameserver 127.0.0.1\n").unwrap();
        why(&mut resolver);
        resolver = Resolver::Missing(String::new(), Instant::now().checked_sub(AGAIN).unwrap());
        assert!(resolver.get(path, Duration::from_secs(1)).is_ok());
    }
}
