//! Finds the routers that were a second hop: linkerd on the endpoint's node, to which only other linkerds sent.
//!
//! More than the name must identify such a router, because it accepts any destination from a header: weir must never
//! open it to clients.

use super::listeners;
use super::part::Field;
use crate::config::tree::Node;

/// The suffixes of the `l5d-dst-…` headers in which the first hop passed the destination to the second.
const HANDED_ON: [&str; 4] = ["concrete", "client", "service", "logical"];

pub(super) fn protocol<'a>(router: &Field<'a>) -> Option<&'a str> {
    router.node.get("protocol").and_then(Node::text)
}

/// Whether weir's routers take the place of such a router.
pub(super) fn is_routed(router: &Field<'_>) -> bool {
    matches!(protocol(router), Some("http" | "h2"))
}

/// The port of the router's first server.
pub(super) fn port(router: &Field<'_>) -> Option<i128> {
    let default = listeners::port(protocol(router)).into();
    let Some(servers) = router.node.get("servers") else { return Some(default) };
    let servers = Field { node: servers, at: servers.at, path: String::new() };
    let server = servers.items().into_iter().next()?;
    match server.node.get("port") {
        Some(node) => Field { node, ..server }.whole(),
        None => Some(default),
    }
}

/// The transformers of the endpoints that the router found.
pub(super) fn transformers<'a>(router: &Field<'a>) -> Vec<Field<'a>> {
    let node = router.node.get("interpreter").and_then(|interpreter| interpreter.get("transformers"));
    let path = format!("{}.interpreter.transformers", router.path);
    node.map(|node| Field { node, at: node.at, path }.items()).unwrap_or_default()
}

/// Whether `routers[at]` was a second hop: by its label, by a transformer to its own node, by an identifier that reads
/// the first hop's headers, or because another router sent to it.
pub(super) fn is_second(routers: &[Field<'_>], at: usize, namers: Option<&Field<'_>>) -> bool {
    let router = &routers[at];
    let label = router.node.get("label").and_then(Node::text).unwrap_or_default();
    let keeps_to_node =
        |transformer: &Field<'_>| ["io.l5d.k8s.localnode", "io.l5d.localhost"].contains(&transformer.kind());
    label.contains("incoming")
        || transformers(router).iter().any(keeps_to_node)
        || reads_what_was_handed_on(router)
        || senders(routers, at, namers).iter().any(|sender| sends_to(sender, router, label))
}

fn reads_what_was_handed_on(router: &Field<'_>) -> bool {
    let Some(node) = router.node.get("identifier") else { return false };
    let identifiers = Field { node, at: node.at, path: String::new() }.items();
    let headers = identifiers.iter().filter_map(|identifier| identifier.node.get("header")?.text());
    headers.into_iter().any(|header| {
        let header = header.to_ascii_lowercase();
        header.split_once("-dst-").is_some_and(|(start, end)| start == "l5d" && HANDED_ON.contains(&end))
    })
}

/// The transformers of the other routers and of the namers, each of which may send to another linkerd's port.
fn senders<'a>(routers: &[Field<'a>], at: usize, namers: Option<&Field<'a>>) -> Vec<Field<'a>> {
    let others = routers.iter().enumerate().filter(|(index, _)| *index != at);
    let mut senders: Vec<_> = others.flat_map(|(_, router)| transformers(router)).collect();
    for namer in namers.iter().flat_map(|namers| namers.items()) {
        if let Some(node) = namer.node.get("transformers") {
            senders.extend(Field { node, at: node.at, path: String::new() }.items());
        }
    }
    senders
}

/// Whether the transformer sends to this router: `io.l5d.k8s.daemonset` to a port of linkerd's Service, which by
/// convention has the router's label or number; `io.l5d.port` to a number.
fn sends_to(transformer: &Field<'_>, router: &Field<'_>, label: &str) -> bool {
    if !["io.l5d.k8s.daemonset", "io.l5d.port"].contains(&transformer.kind()) {
        return false;
    }
    let Some(node) = transformer.node.get("port") else { return false };
    let to = Field { node, ..transformer.clone() };
    let is_label = to.text().is_some_and(|name| !name.is_empty() && name == label);
    is_label || to.whole().is_some_and(|number| port(router) == Some(number))
}
