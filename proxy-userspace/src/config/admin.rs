//! `admin` and `probes`: the listeners for people and for kubelet.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::fields::Section;
use super::{Allow, values};

/// Dashboard, API, metrics and health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `listen`: address and port. Default `127.0.0.1:9990`: it shows everything weir knows, and can drain it.
    pub listen: SocketAddr,
    /// `allow`: clients that may connect. Default: see [`Allow`].
    pub allow: Allow,
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
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9990)), allow: Allow::default() }
    }
}

impl Default for Probes {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9991)), allow: Allow::default() }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Admin {
    let mut admin = Admin::default();
    section.set("listen", &mut admin.listen, values::listen);
    admin.allow = Allow::read(&mut section);
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
