//! `admin` and `probes`: the listeners for operators and for kubelet.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::fields::Section;
use super::problem::Mistake;
use super::tree::Node;
use super::{Allow, values};

/// Dashboard, API, metrics and health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `listen`: address and port. Default `127.0.0.1:9990`, since it shows everything weir knows, and can drain it.
    pub listen: SocketAddr,
    /// `allow`: clients that may connect. Default: see [`Allow`].
    pub allow: Allow,
    /// `hosts`: names of the admin, lower case, besides `localhost` and every IP address. A request with another Host
    /// is refused, which protects against DNS rebinding.
    pub hosts: Vec<String>,
    /// `tokenFile`: a file with the bearer token that permits stopping weir from any address. Read for each request.
    pub token_file: Option<PathBuf>,
}

/// `/live`, `/ready` and `/metrics` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    /// `listen`: address and port. Default, if the section is present, `[::]:9991`.
    pub listen: SocketAddr,
    /// `allow`: clients that may connect. Default: see [`Allow`].
    pub allow: Allow,
    /// `metrics`: who may read `/metrics`. Its defaults depend on other sections: see [`super::Settings::readers`].
    pub metrics: Metrics,
    /// `tls`: the certificate for TLS clients. Without it, a self-signed one is made at start.
    pub tls: Option<Certificate>,
    /// `socket`: a Unix socket at which `weir probe` asks this very process. None without it.
    pub socket: Option<PathBuf>,
}

/// Who may read `/metrics` at the probes' listener, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// `allow`: clients that may read them without a token.
    pub allow: Option<Allow>,
    /// `tokens`: whether clients may read them over TLS with a bearer token that the API server accepts.
    pub tokens: Option<bool>,
}

/// Who may read `/metrics` at the probes' listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readers {
    /// Clients that may read them without a token.
    pub allow: Allow,
    /// Whether clients may read them over TLS with a bearer token that the API server accepts.
    pub tokens: bool,
}

/// A certificate with its chain and its key, in PEM files that are read again if they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// `certificate`: the certificate and its intermediate certificates.
    pub certificate: PathBuf,
    /// `key`: its private key.
    pub key: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9990)),
            allow: Allow::default(),
            hosts: Vec::new(),
            token_file: None,
        }
    }
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9991)),
            allow: Allow::default(),
            metrics: Metrics::default(),
            tls: None,
            socket: None,
        }
    }
}

/// `base` is the folder that a relative path is relative to.
pub(super) fn read(mut section: Section<'_, '_>, base: &Path) -> Admin {
    let mut admin = Admin::default();
    section.set("listen", &mut admin.listen, values::listen);
    admin.allow = Allow::read(&mut section);
    admin.hosts = section.list("hosts", values::domain).unwrap_or_default();
    section.set("tokenFile", &mut admin.token_file, |node| {
        Ok(Some(base.join(values::path(node, "a file with a token")?)))
    });
    section.finish();
    admin
}

/// `base` is the folder that a relative path is relative to.
pub(super) fn read_probes(mut section: Section<'_, '_>, base: &Path) -> Probes {
    let mut probes = Probes::default();
    section.set("listen", &mut probes.listen, values::listen);
    probes.allow = Allow::read(&mut section);
    if let Some(mut metrics) = section.section("metrics") {
        probes.metrics.allow = metrics.list("allow", values::cidr).map(Allow::new);
        metrics.set("tokens", &mut probes.metrics.tokens, |node| values::boolean(node).map(Some));
        metrics.finish();
    }
    section.set("socket", &mut probes.socket, |node| {
        Ok(Some(base.join(values::path(node, "a socket for `weir probe`")?)))
    });
    probes.tls = section.section("tls").and_then(|tls| read_certificate(tls, base));
    section.finish();
    probes
}

fn read_certificate(mut section: Section<'_, '_>, base: &Path) -> Option<Certificate> {
    let (mut certificate, mut key) = (None, None);
    let file = |what| move |node: &Node| Ok(Some(base.join(values::path(node, what)?)));
    section.set("certificate", &mut certificate, file("a file with a certificate"));
    section.set("key", &mut key, file("a file with its private key"));
    for name in ["certificate", "key"] {
        if !section.has(name) {
            let mistake = Mistake::new("a certificate is of no use without its key, nor a key without it");
            section.mistake(name, mistake.hint("write both `certificate` and `key`"));
        }
    }
    section.finish();
    Some(Certificate { certificate: certificate?, key: key? })
}
