//! The DNS servers to use: the configured ones, otherwise those in `/etc/resolv.conf`.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::system_conf::parse_resolv_conf;

use super::servers::Servers;
use super::{DnsError, Elsewhere};
use crate::config;

/// The file that names the servers when none are configured.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Maximum file size.
const LARGEST: u64 = 64 << 10;

/// How soon an unusable file is read again.
const AGAIN: Duration = Duration::from_secs(1);

/// The servers, once they are known.
pub(super) enum Source {
    Known(Arc<Servers>),
    /// Why there are none, and when that was found.
    Missing(String, Instant),
}

impl Source {
    pub(super) fn new(settings: &config::Dns, sockets: &Elsewhere) -> Self {
        if settings.servers.is_empty() {
            return Self::of_file(RESOLV_CONF, settings.timeout, sockets);
        }
        Servers::at(&settings.servers, settings.timeout, sockets).map_or_else(Self::missing, Self::known)
    }

    fn of_file(path: &str, limit: Duration, sockets: &Elsewhere) -> Self {
        read(path, limit, sockets)
            .map_or_else(|cause| Self::missing(format!("{path} cannot be used: {cause}")), Self::known)
    }

    fn known(servers: Servers) -> Self {
        Self::Known(Arc::new(servers))
    }

    fn missing(why: String) -> Self {
        Self::Missing(why, Instant::now())
    }

    /// Why no server is known, if so.
    pub(super) fn is_missing(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Missing(why, _) => Some(why),
        }
    }

    /// The servers; reads the file at `path` again if it was unusable before.
    pub(super) fn get(
        &mut self,
        path: &str,
        limit: Duration,
        sockets: &Elsewhere,
    ) -> Result<Arc<Servers>, DnsError> {
        if matches!(self, Self::Missing(_, since) if since.elapsed() >= AGAIN) {
            *self = Self::of_file(path, limit, sockets);
            if matches!(self, Self::Known(_)) {
                tracing::info!("names outside the catalog can be looked up now");
            }
        }
        match self {
            Self::Known(servers) => Ok(servers.clone()),
            Self::Missing(why, _) => Err(DnsError::Failed(why.clone())),
        }
    }
}

/// The servers named in the file at `path`.
fn read(path: &str, limit: Duration, sockets: &Elsewhere) -> Result<Servers, String> {
    let mut text = Vec::new();
    config::open_regular(Path::new(path))
        .and_then(|file| file.take(LARGEST).read_to_end(&mut text))
        .map_err(|cause| cause.to_string())?;
    let (servers, options) = parse_resolv_conf(text).map_err(|cause| cause.to_string())?;
    Servers::new(servers.name_servers().to_vec(), &options, limit, sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_cannot_be_used_yet_is_read_again_once_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let path = path.to_str().unwrap();
        let mut source = Source::of_file(path, Duration::from_secs(1), &None);
        let why = |source: &mut Source| match source.get(path, Duration::from_secs(1), &None) {
            Err(DnsError::Failed(why)) => why,
            other => panic!("{:?}", other.map(drop)),
        };
        assert!(why(&mut source).contains("No such file"), "{}", why(&mut source));
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        source = Source::of_file(path, Duration::from_secs(1), &None);
        assert!(why(&mut source).contains("not a regular file"), "{}", why(&mut source));
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, "nameserver 127.0.0.1\n").unwrap();
        why(&mut source);
        source = Source::Missing(String::new(), Instant::now().checked_sub(AGAIN).unwrap());
        assert!(source.get(path, Duration::from_secs(1), &None).is_ok());
    }
}
