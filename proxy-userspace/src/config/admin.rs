//! `admin` and `probes`: the listeners for people and for kubelet.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::fields::Section;
use super::{Allow, values};

/// Dashboard, API, metrics and health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `listen`: address and port. Default `127.0.0.1:9990`: it shows everything weir knows, and can drain it.
    pub listen: SocketAddr,
    /// `allow`: clients that may connect. Default: see [`Allow`].
    pub allow: Allow,
    /// `hosts`: names that the admin is reached by, lower-cased, beside `localhost` and every IP address. A request that
    /// says another Host is refused, since a page whose name was made to lead here sends its own.
    pub hosts: Vec<String>,
    /// `tokenFile`: a file whose content is the bearer token that may stop weir from anywhere. Read for each request.
    pub token_file: Option<PathBuf>,
}

/// `/live`, `/ready` and `/metrics` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    /// `listen`: address and port. Default, once the section is there, `[::]:9991`.
    pub listen: SocketAddr,
    /// `allow`: clients that may connect. Default: see [`Allow`].
    pub allow: Allow,
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
        Self { listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9991)), allow: Allow::default() }
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

pub(super) fn read_probes(mut section: Section<'_, '_>) -> Probes {
    let mut probes = Probes::default();
    section.set("listen", &mut probes.listen, values::listen);
    probes.allow = Allow::read(&mut section);
    section.finish();
    probes
}
