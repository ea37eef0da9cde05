//! HTTP/2 to endpoints.

use std::fmt;

use crate::proxy::upstream::Connecting;
use crate::proxy::upstream::http2::CODES;
use crate::telemetry::Page;

pub(super) fn endpoints(page: &mut Page<'_>, connecting: &Connecting) -> fmt::Result {
    let stats = &connecting.http2;
    let none: [(&str, &str); 0] = [];
    let levels = [
        ("weir_http2_endpoint_connections", "HTTP/2 connections to endpoints", stats.connections.value()),
        ("weir_http2_endpoint_streams", "Streams in use on them", stats.streams.value()),
        ("weir_http2_replay_bytes", "Bytes of bodies kept to be sent again", connecting.replays.bytes()),
    ];
    for (name, help, level) in levels {
        page.gauges(name, help, [(none, level as f64)])?;
    }
    let codes = CODES.iter().zip(&stats.resets_received);
    let codes = codes.map(|(code, count)| ([("code", *code)], count.value()));
    page.counters("weir_http2_endpoint_resets", "Streams that an endpoint reset, by code", codes)?;
    let waits = [("stream", &stats.waits), ("none", &stats.waits_in_vain)];
    let waits = waits.map(|(end, count)| ([("end", end)], count.value()));
    page.counters("weir_http2_endpoint_waits", "Requests that waited for a stream, by what they got", waits)?;
    for (name, help, count) in [
        (
            "weir_http2_endpoint_cancels",
            "Streams that weir reset before their answer was complete",
            &stats.cancelled,
        ),
        ("weir_http2_endpoint_goaways", "Connections that an endpoint ended by a GOAWAY", &stats.goaways),
        (
            "weir_http2_endpoint_pings_lost",
            "Connections closed without an answer to a PING",
            &stats.unanswered_pings,
        ),
        (
            "weir_http2_endpoint_stalled",
            "Requests that avoided a connection on which an upload waited for window",
            &stats.stalled,
        ),
        ("weir_http2_replays", "Requests sent again with what was kept of their bodies", &stats.replays),
        (
            "weir_http2_replays_not_kept",
            "Bodies not kept, as all together had the bound",
            &stats.replay_bound,
        ),
    ] {
        page.counters(name, help, [(none, count.value())])?;
    }
    Ok(())
}
