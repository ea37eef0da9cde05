//! `names`: how names are made canonical and bound.

use std::net::SocketAddr;
use std::time::Duration;

use super::allow::Allow;
use super::fields::Section;
use super::problem::{Mistake, quoted};
use super::tree::Node;
use super::values;

/// How short names are completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `namespace`: the namespace of a name without one; also removed from canonical names. Default `default`.
    pub namespace: String,
    /// `port`: the name of the service port for requests without a port. Default `http`.
    pub port: String,
    /// `clusterDomain`: the cluster's DNS domain, lower case, without a trailing dot. Default `cluster.local`.
    pub cluster_domain: String,
    /// `clientNamespace`: whether a name without a namespace, from an explicit client, uses the namespace of the
    /// client's pod instead of `namespace`. Default false.
    pub client_namespace: bool,
    /// `clusterRanges`: the ranges for DNS answers to names below the cluster's domain; other addresses are not used.
    /// Default: as [`Allow`], the ranges that are not routed on the public internet.
    pub cluster_ranges: Allow,
    /// `dns`: how names outside the catalog are looked up; none to disable it (`false`). Default: as the node does.
    pub dns: Option<Dns>,
}

/// Look-ups of names outside the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// `servers`: the DNS servers, asked by UDP and, if an answer is truncated, by TCP. Default, empty: those of
    /// `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// `timeout`: the time limit for one look-up, with all attempts. Default 5 s.
    pub timeout: Duration,
}

impl Default for Dns {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Duration::from_secs(5) }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            port: "http".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            client_namespace: false,
            cluster_ranges: Allow::default(),
            dns: Some(Dns::default()),
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Names {
    let mut names = Names::default();
    section.set("namespace", &mut names.namespace, values::label);
    section.set("port", &mut names.port, values::label);
    section.set("clusterDomain", &mut names.cluster_domain, values::domain);
    section.set("clientNamespace", &mut names.client_namespace, values::boolean);
    if let Some(ranges) = section.list("clusterRanges", values::cidr) {
        names.cluster_ranges = Allow::new(ranges);
    }
    if section.is_section("dns") {
        names.dns = section.switch("dns").map(read_dns);
    } else {
        section.set("dns", &mut names.dns, |node| Ok(values::boolean(node)?.then(Dns::default)));
    }
    section.finish();
    names
}

fn read_dns(mut section: Section<'_, '_>) -> Dns {
    let servers = section.list("servers", server).unwrap_or_default();
    let mut dns = Dns { servers, ..Dns::default() };
    let range = Duration::from_millis(100)..=Duration::from_secs(60);
    section.set("timeout", &mut dns.timeout, values::duration(range));
    section.finish();
    dns
}

/// A DNS server: an address, with a port unless it is 53.
fn server(node: &Node) -> Result<SocketAddr, Mistake> {
    let text = values::text(node)?;
    let bare = || text.parse().ok().map(|ip| SocketAddr::new(ip, 53));
    text.parse().ok().or_else(bare).ok_or_else(|| {
        Mistake::new(format!("{} is not the address of a server", quoted(text)))
            .hint("write it as 10.96.0.10, \"10.96.0.10:5353\" or \"[fd00::10]:53\"")
    })
}
