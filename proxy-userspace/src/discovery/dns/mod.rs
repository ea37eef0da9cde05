//! Resolves names outside the catalog by DNS.
//!
//! Look-ups are absolute (`example.com.`), so the node's search list cannot turn one name into another; both families
//! are queried; a name in `/etc/hosts` has only the addresses there. hickory does the wire format, the retry over TCP
//! after a truncated answer, and caching within the TTL; this module decides which server is queried when.

mod family;
mod hosts;
mod provider;
mod resolv;
mod servers;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::{Name, RecordType};
use parking_lot::Mutex;

use self::hosts::Hosts;
use self::provider::Elsewhere;
pub use self::provider::{Made, MakeSocket};
use self::resolv::{RESOLV_CONF, Source};
use crate::config;

/// Maximum caching time, whatever the TTL is.
const MAX_TTL: Duration = Duration::from_secs(3600);

/// Minimum caching time: a TTL of zero must not cause a look-up for every request.
const MIN_TTL: Duration = Duration::from_secs(1);

/// The resolver; cheap to clone.
#[derive(Clone)]
pub struct Dns {
    source: Arc<Mutex<Source>>,
    hosts: Arc<Hosts>,
    /// Maximum time of one look-up.
    limit: Duration,
    settings: config::Dns,
    elsewhere: Elsewhere,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Both families, without duplicates, sorted.
    pub addresses: Vec<IpAddr>,
    /// When they expire.
    pub valid_until: Instant,
}

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The name exists, but has no address.
    NoAddress,
    /// The query failed: an earlier answer is better than none.
    Failed(String),
}

impl Dns {
    /// A resolver that uses the configured servers, otherwise those in the machine's `/etc/resolv.conf`. While that
    /// file is unusable, every look-up fails, and the file is read again periodically: a starting node may not have it
    /// yet.
    pub fn new(settings: &config::Dns) -> Self {
        let source = Source::new(settings, &None);
        if let Some(why) = source.is_missing() {
            tracing::warn!("names outside the catalog cannot be looked up: {why}");
        }
        Self {
            source: Arc::new(Mutex::new(source)),
            hosts: Arc::new(Hosts::of_machine()),
            limit: settings.timeout,
            settings: settings.clone(),
            elsewhere: None,
        }
    }

    /// A resolver that asks the same servers through sockets that `make` makes. It knows none of the answers of this one.
    pub fn through(&self, make: Arc<dyn MakeSocket>) -> Self {
        let elsewhere = Some(make);
        let source = Arc::new(Mutex::new(Source::new(&self.settings, &elsewhere)));
        Self { source, elsewhere, ..self.clone() }
    }

    /// The addresses of `host`, a canonical name. If `is_usable` rejects the addresses of one family, it waits longer
    /// for the other. Must run on a tokio runtime that continues to run.
    ///
    /// # Errors
    ///
    /// [`DnsError`]
    pub async fn resolve(&self, host: &str, is_usable: impl Fn(IpAddr) -> bool) -> Result<Answer, DnsError> {
        if let Some(written) = self.hosts.get(host) {
            return Ok(Answer { addresses: written.to_vec(), valid_until: Instant::now() + MAX_TTL });
        }
        let name = absolute(host)?;
        let servers = self.source.lock().get(RESOLV_CONF, self.limit, &self.elsewhere)?;
        let [a, aaaa] = [RecordType::A, RecordType::AAAA].map(|kind| servers.ask(&name, kind));
        family::both(a, aaaa, self.limit, is_usable).await
    }
}

/// `host` as a DNS name, label by label without changes. hickory's own parser rejects names that are invalid in IDNA,
/// such as `vote_api` (RFC 2181 §11: DNS allows any label).
fn absolute(host: &str) -> Result<Name, DnsError> {
    // The name is absolute, because it is not parsed from text.
    Name::from_labels(host.split('.').map(str::as_bytes))
        .map_err(|cause| DnsError::Failed(format!("{host} is no name of DNS: {cause}")))
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
            Self::NoAddress => f.write_str("DNS knows the name, and no address of it"),
            Self::Failed(cause) => write!(f, "DNS did not answer: {cause}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_as_it_stands() {
        for host in
            ["vote_api.test", "_a.b_.test", "-a.b-.test", "xn--zz.test", "a--b.0x7g.test", "1.2.3.4.5"]
        {
            let name = absolute(host).unwrap();
            assert_eq!(name.iter().collect::<Vec<_>>().join(&b'.'), host.as_bytes());
            assert!(name.is_fqdn());
        }
        assert!(absolute(&format!("{}.test", "a".repeat(64))).is_err());
    }
}
