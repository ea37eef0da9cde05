//! `outgoing`: the explicit HTTP proxy, one router or a list of them.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::fields::Section;
use super::problem::{Mistake, quoted};
use super::tree::{Node, Value};
use super::{
    Allow, Contexts, Destinations, Interpreter, contexts, destinations, dtab, identifier, interpreter,
    policies, values,
};
use crate::domain::dtab::Dtab;
use crate::domain::identify::Identifier;
use crate::domain::name::Path;
use crate::domain::policy::{RequestPolicy, Rule};
use crate::domain::ports::PortSet;

/// The explicit HTTP proxy that `http_proxy` points to: a listener, and the rules for the requests that come there.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// `label`: the router's name in metrics, explanations and the state. Each of several needs one. Default `outgoing`.
    pub label: Box<str>,
    /// `listen`: address and port, or a list of up to 16 of them, or `none` to turn the explicit proxy off. Default
    /// `[::]:4140`, for IPv4 and IPv6.
    pub listen: Vec<SocketAddr>,
    /// `allow`: clients that may connect. Default: see [`Allow`].
    pub allow: Allow,
    /// `clients`: whom it serves with weir's sockets in the pods. Default [`Served::Any`] if `allow` has every address, since
    /// that is meant for clients outside, otherwise [`Served::Node`].
    pub clients: Option<Served>,
    /// `inPods`: whether it is also at the loopback addresses of pods, with weir's sockets there. Default: only at port 4140,
    /// because a program of the pod cannot have the same port.
    pub in_pods: Option<bool>,
    /// `via`: whether requests and responses get `Via: 1.1 weir`, or `1.0 weir` if they were received as HTTP/1.0 (RFC
    /// 9110 §7.6.3). Default true.
    pub via: bool,
    /// `overrides`: clients whose requests may bring their own dtab entries (`l5d-dtab`, `l5d-ctx-dtab`), which choose
    /// the destination. For other clients, every `l5d-…` is removed from requests and responses (linkerd's
    /// `clearContext`). Empty means nobody. Default: every client that may connect.
    pub overrides: Allow,
    /// `destinations`: where requests may go. Default: see [`super::LeadsTo::Auto`].
    pub destinations: Destinations,
    /// `contexts`: clients, of those in `overrides`, whose `l5d-ctx-dtab` counts, by address or namespace. It is what an
    /// application got from its own caller and passed on. Empty means nobody. Default: nobody with
    /// `discovery.kubernetes`, and without it all of them.
    pub contexts: Option<Contexts>,
    /// `diagnostics`: clients that may ask where a request would go, without sending it there. The answer contains
    /// endpoints and dtabs. Default: nobody.
    pub diagnostics: Allow,
    /// `dstPrefix`: the prefix of requests' names. Default `/svc`.
    pub prefix: Path,
    /// `identifier`: how a request's name is made, one or a list tried in order. Default: canonical host (`weir.host`).
    pub identifiers: Vec<Identifier>,
    /// `baseDtab` and `dtab`, each in the place of the configuration's own. Default: the configuration's.
    pub dtab: Option<Arc<Dtab>>,
    /// `interpreter`: an object of the cluster that has more entries. Without a `baseDtab` beside it, there is none.
    /// Default: none.
    pub interpreter: Option<Interpreter>,
    /// `policies.services`, in the place of the configuration's own. Default: the configuration's.
    pub services: Option<Vec<Rule<RequestPolicy>>>,
    /// `response` and `attempts`, for requests of which `policies` say nothing. Default: those of `limits`.
    pub requests: RequestPolicy,
    /// `connectPorts` and `tls`: what may be asked for beside plain requests.
    pub tunnels: TunnelRules,
}

/// Whom an explicit listener serves with `transparent.sockets: pod`, of the clients in `allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// `node`: processes of this node, from its network namespace, and its pods, each from its own. Others are answered 403.
    Node,
    /// `any`: also others. They are lent this node's address.
    Any,
}

/// Rules for connections that weir carries without reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelRules {
    /// `connectPorts`: ports of destinations outside the catalog that CONNECT may ask for; what a Service, a file or the
    /// operator's dtab has is reached at any of its ports. Default 443.
    pub ports: PortSet,
    /// `tls`: what happens to a client that speaks TLS without a CONNECT. Default: [`TlsClients::Close`].
    pub tls: TlsClients,
}

/// What happens to a client that begins with TLS at once, as if weir were its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsClients {
    /// `close`: an alert (access_denied) says so, and the connection is closed.
    Close,
    /// `sni`: it is carried to port 443 of the host in its server name indication (RFC 6066 §3), as CONNECT would be.
    Sni,
}

impl Default for TunnelRules {
    fn default() -> Self {
        Self { ports: PortSet::single(443), tls: TlsClients::Close }
    }
}

/// The most addresses of one router.
pub(crate) const MOST: usize = 16;

/// The port of the explicit proxy, and of linkerd's before it.
const PORT: u16 = 4140;

/// The label of the only router.
const ONLY: &str = "outgoing";

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            label: ONLY.into(),
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))],
            allow: Allow::default(),
            clients: None,
            in_pods: None,
            via: true,
            overrides: Allow::default(),
            contexts: None,
            destinations: Destinations::default(),
            diagnostics: Allow::new(Vec::new()),
            prefix: Path::from_labels(["svc"]),
            identifiers: vec![Identifier::Host],
            dtab: None,
            interpreter: None,
            services: None,
            requests: RequestPolicy::default(),
            tunnels: TunnelRules::default(),
        }
    }
}

impl Outgoing {
    /// Whether it has a label of its own.
    pub fn is_labelled(&self) -> bool {
        *self.label != *ONLY
    }

    /// Whom it serves with weir's sockets in the pods.
    pub fn serves(&self) -> Served {
        let unsaid = || if self.allow.has_everyone() { Served::Any } else { Served::Node };
        self.clients.unwrap_or_else(unsaid)
    }

    /// Whether what it has at `port` of the node is also at that port of the pods' loopback addresses.
    pub fn is_in_pods(&self, port: u16) -> bool {
        self.in_pods.unwrap_or(port == PORT)
    }
}

/// One router, and its own `baseDtab` and `dtab`.
pub(super) fn read(mut section: Section<'_, '_>) -> (Outgoing, dtab::Written) {
    let mut outgoing = Outgoing::default();
    section.set("label", &mut outgoing.label, label);
    if section.is_list("listen") {
        if let Some(addresses) = section.list("listen", values::listen) {
            match addresses.len() {
                0 => section
                    .mistake("listen", Mistake::new("an empty list").hint("write `none`, or an address")),
                1..=MOST => {}
                many => {
                    section.mistake("listen", Mistake::new(format!("{many} addresses, {MOST} are the most")))
                }
            }
            outgoing.listen = addresses;
        }
    } else {
        section.set("listen", &mut outgoing.listen, |node| match node.text() {
            Some("none") => Ok(Vec::new()),
            _ => values::listen(node).map(|address| vec![address]),
        });
    }
    outgoing.allow = Allow::read(&mut section);
    let clients = values::choice(&[("node", Served::Node), ("any", Served::Any)]);
    section.set("clients", &mut outgoing.clients, |node| clients(node).map(Some));
    section.set("inPods", &mut outgoing.in_pods, |node| values::boolean(node).map(Some));
    outgoing.overrides =
        section.list("overrides", values::cidr).map_or_else(|| outgoing.allow.clone(), Allow::new);
    if let Some(section) = section.section("destinations") {
        outgoing.destinations = destinations::read(section);
    }
    outgoing.contexts = section.list("contexts", contexts::believed).map(Contexts::new);
    if let Some(ranges) = section.list("diagnostics", values::cidr) {
        outgoing.diagnostics = Allow::new(ranges);
    }
    section.set("via", &mut outgoing.via, values::boolean);
    section.set("dstPrefix", &mut outgoing.prefix, |node| identifier::name(values::text(node)?));
    section.set("identifier", &mut outgoing.identifiers, identifier::identifiers);
    section.set("interpreter", &mut outgoing.interpreter, interpreter::read);
    let own = dtab::read(&mut section);
    outgoing.services = section.section("policies").map(policies::read_services);
    outgoing.requests = policies::read_requests(&mut section);
    section.set("connectPorts", &mut outgoing.tunnels.ports, ports);
    let tls = values::choice(&[("close", TlsClients::Close), ("sni", TlsClients::Sni)]);
    section.set("tls", &mut outgoing.tunnels.tls, tls);
    section.finish();
    (outgoing, own)
}

/// Ports and ranges of them: `443`, `443,8443,9000-9010`, or `none`.
fn ports(node: &Node) -> Result<PortSet, Mistake> {
    let text = match &node.value {
        Value::Integer(port) => port.to_string(),
        _ => values::text(node)?.to_owned(),
    };
    if text == "none" {
        return Ok(PortSet::default());
    }
    match PortSet::parse(&text) {
        (set, None) if !set.is_empty() => Ok(set),
        (_, mistake) => {
            let mistake = mistake.unwrap_or_else(|| "no port".to_owned());
            Err(Mistake::new(mistake).hint("write it as 443, \"443,8443,9000-9010\", 1-65535 or none"))
        }
    }
}

fn label(node: &Node) -> Result<Box<str>, Mistake> {
    let text = values::text(node)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if (1..=63).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text.into());
    }
    let hint = "1 to 63 letters, digits, dots, dashes, underscores and slashes";
    Err(Mistake::new(format!("{} is no label", quoted(text))).hint(hint))
}
