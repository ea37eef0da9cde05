//! Metrics of connections between pods, by whether they are encrypted.

use std::fmt;

use crate::identity::Failure;
use crate::proxy::upstream::{Connecting, Plain};
use crate::telemetry::Page;

/// Nothing while `identity.wire` is not configured and nothing was counted.
pub(super) fn wire(page: &mut Page<'_>, connecting: &Connecting) -> fmt::Result {
    let (wire, links) = (&connecting.wire, connecting.identities.links());
    if links.is_none() && wire.outgoing.value() + wire.incoming.value() == 0 {
        return Ok(());
    }
    let of = |direction: &'static str, why: &'static str| [("direction", direction), ("reason", why)];
    page.counters(
        "weir_identity_connections",
        "Encrypted connections between pods",
        [("outgoing", &wire.outgoing), ("incoming", &wire.incoming)]
            .map(|(direction, count)| ([("direction", direction)], count.value())),
    )?;
    let plain = [("outgoing", &wire.outgoing_plain), ("incoming", &wire.incoming_plain)];
    page.counters(
        "weir_identity_plain",
        "Connections that are not encrypted, by why; incoming ones only from ports of other weirs",
        plain.into_iter().flat_map(|(direction, counts)| {
            Plain::LABELS.iter().zip(counts).map(move |(why, count)| (of(direction, why), count.value()))
        }),
    )?;
    page.counters(
        "weir_identity_refused",
        "Connections to other pods that were not made, since they would not have been encrypted (identity.wire.mode), by why",
        [Plain::UnknownPeer, Plain::NoIdentity]
            .map(|why| ([("reason", why.label())], wire.outgoing_refused[why as usize].value())),
    )?;
    let failed = [("outgoing", &wire.outgoing_failed), ("incoming", &wire.incoming_failed)];
    page.counters(
        "weir_identity_handshake_failures",
        "TLS handshakes with other weirs that failed, by why",
        failed.into_iter().flat_map(|(direction, counts)| {
            Failure::LABELS.iter().zip(counts).map(move |(why, count)| (of(direction, why), count.value()))
        }),
    )?;
    let none: [(&str, &str); 0] = [];
    page.counters(
        "weir_identity_unanswered",
        "Encrypted connections from other pods to which the application did not answer",
        [(none, wire.unanswered.value())],
    )?;
    let peers = links.map_or(0, |links| links.peers()) as f64;
    page.gauges("weir_identity_peers", "Addresses of pods that take TLS", [(none, peers)])
}
