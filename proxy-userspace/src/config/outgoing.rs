//! `outgoing`: the explicit HTTP proxy.

use std::net::{Ipv6Addr, SocketAddr};

use super::fields::Section;
use super::{Allow, identifier, values};
use crate::domain::identify::Identifier;
use crate::domain::name::Path;

/// The explicit HTTP proxy that `http_proxy` points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// `listen`: address and port, or `none` to turn the explicit proxy off. Default `[::]:4140`, for IPv4 and IPv6.
    pub listen: Option<SocketAddr>,
    /// `allow`: clients that may connect. Default: see [`Allow`].
    pub allow: Allow,
    /// `via`: whether requests and responses get `Via: 1.1 weir`, or `1.0 weir` if they were received as HTTP/1.0 (RFC
    /// 9110 §7.6.3). Default true.
    pub via: bool,
    /// `overrides`: clients whose requests may bring their own dtab entries (`l5d-dtab`, `l5d-ctx-dtab`), which choose
    /// the destination. For other clients, every `l5d-…` is removed from requests and responses (linkerd's
    /// `clearContext`). Empty means nobody. Default: every client that may connect.
    pub overrides: Allow,
    /// `diagnostics`: clients that may ask where a request would go, without sending it there. The answer contains
    /// endpoints and dtabs. Default: nobody.
    pub diagnostics: Allow,
    /// `dstPrefix`: the prefix of requests' names. Default `/svc`.
    pub prefix: Path,
    /// `identifier`: how a request's name is made, one or a list tried in order. Default: canonical host (`weir.host`).
    pub identifiers: Vec<Identifier>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 4140))),
            allow: Allow::default(),
            via: true,
            overrides: Allow::default(),
            diagnostics: Allow::new(Vec::new()),
            prefix: Path::from_labels(["svc"]),
            identifiers: vec![Identifier::Host],
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Outgoing {
    let mut outgoing = Outgoing::default();
    section.set("listen", &mut outgoing.listen, |node| match node.text() {
        Some("none") => Ok(None),
        _ => values::listen(node).map(Some),
    });
    outgoing.allow = Allow::read(&mut section);
    outgoing.overrides =
        section.list("overrides", values::cidr).map_or_else(|| outgoing.allow.clone(), Allow::new);
    if let Some(ranges) = section.list("diagnostics", values::cidr) {
        outgoing.diagnostics = Allow::new(ranges);
    }
    section.set("via", &mut outgoing.via, values::boolean);
    section.set("dstPrefix", &mut outgoing.prefix, |node| identifier::name(values::text(node)?));
    section.set("identifier", &mut outgoing.identifiers, identifier::identifiers);
    section.finish();
    outgoing
}
