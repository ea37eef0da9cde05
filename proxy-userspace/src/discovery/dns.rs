//! Names outside the catalog, by DNS.
//!
//! Look-ups are absolute (`example.com.`), so the node's search list cannot turn one name into another; both
//! families are asked; `/etc/hosts` counts. hickory does the wire format, `resolv.conf` and caching within its TTL.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;

/// The longest an answer is believed, whatever its TTL says.
const MAX_TTL: Duration = Duration::from_secs(3600);

/// The shortest: a TTL of zero must not turn every request into a look-up.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Looks names up; cheap to clone.
#[derive(Clone)]
pub struct Dns(TokioResolver);

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
    /// A resolver by the machine's `/etc/resolv.conf`.
    ///
    /// # Errors
    ///
    /// When that file cannot be read; the text says so.
    pub fn from_system() -> anyhow::Result<Self> {
        let unusable = |cause| anyhow::anyhow!("DNS is off: /etc/resolv.conf cannot be used: {cause}");
        let mut builder = TokioResolver::builder_tokio().map_err(unusable)?;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = 1024;
        options.timeout = Duration::from_secs(2);
        options.positive_min_ttl = Some(MIN_TTL);
        options.positive_max_ttl = Some(MAX_TTL);
        options.negative_max_ttl = Some(Duration::from_secs(30));
        Ok(Self(builder.build().map_err(unusable)?))
    }

    /// The addresses of `host`, a canonical name. Must run on a tokio runtime that lives on.
    ///
    /// # Errors
    ///
    /// [`DnsError`]
    pub async fn resolve(&self, host: &str) -> Result<Answer, DnsError> {
        match self.0.lookup_ip(format!("{host}.")).await {
            Ok(found) => {
                let mut addresses: Vec<IpAddr> = found.iter().collect();
                addresses.sort_unstable();
                addresses.dedup();
                let earliest = Instant::now() + MIN_TTL;
                Ok(Answer { addresses, valid_until: found.as_lookup().valid_until().max(earliest) })
            }
            Err(cause) if cause.is_nx_domain() || cause.is_no_records_found() => Err(DnsError::NoSuchName),
            Err(cause) => Err(DnsError::Failed(cause.to_string())),
        }
    }
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
