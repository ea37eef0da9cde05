//! What is counted of clients' HTTP/2 connections.

use std::fmt;
use std::sync::Arc;

use crate::proxy::listener::{Abuse, Codes, Http2Stats, Listener};
use crate::telemetry::{Counter, Gauge, Page};

pub(super) fn clients(page: &mut Page<'_>, listeners: &[Arc<Listener>]) -> fmt::Result {
    // Others never speak it.
    let spoken: Vec<_> = listeners.iter().filter(|it| it.kind.serves_http2()).collect();
    let counts = |count: fn(&Http2Stats) -> &Counter| {
        spoken.iter().map(move |it| (it.labels(), count(&it.http2).value()))
    };
    let levels = |level: fn(&Http2Stats) -> &Gauge| {
        spoken.iter().map(move |it| (it.labels(), level(&it.http2).value() as f64))
    };
    page.counters(
        "weir_http2_connections",
        "Connections accepted that speak HTTP/2",
        counts(|it| &it.connections),
    )?;
    page.gauges("weir_http2_open_connections", "HTTP/2 connections open now", levels(|it| &it.open))?;
    page.counters("weir_http2_streams", "Streams accepted", counts(|it| &it.streams))?;
    page.gauges("weir_http2_open_streams", "Streams open now", levels(|it| &it.open_streams))?;
    let codes = |received: fn(&Http2Stats) -> &Codes, sent: fn(&Http2Stats) -> &Codes| {
        spoken.iter().flat_map(move |it| {
            let rows = |direction: &'static str, codes: &'_ Codes| {
                let rows = codes.rows().map(move |(code, count)| {
                    let [kind, router] = it.labels();
                    ([kind, router, ("direction", direction.into()), ("code", code.into())], count)
                });
                rows.collect::<Vec<_>>()
            };
            [rows("received", received(&it.http2)), rows("sent", sent(&it.http2))].concat()
        })
    };
    page.counters(
        "weir_http2_resets",
        "Streams reset, by code",
        codes(|it| &it.resets_received, |it| &it.resets_sent),
    )?;
    page.counters(
        "weir_http2_goaways",
        "GOAWAYs, by code",
        codes(|it| &it.goaways_received, |it| &it.goaways_sent),
    )?;
    let abuses = spoken.iter().flat_map(|it| {
        let reasons = Abuse::LABELS.iter().zip(&it.http2.abuses);
        reasons.map(|(reason, count)| {
            let [kind, router] = it.labels();
            ([kind, router, ("reason", (*reason).into())], count.value())
        })
    });
    page.counters("weir_http2_abuses", "Bounds that a client exceeded", abuses)?;
    page.counters("weir_http2_pings_lost", "Clients that answered no PING", counts(|it| &it.pings_lost))?;
    let waits = spoken.iter().filter(|it| it.http2.window_waits.count() > 0);
    page.histograms(
        "weir_http2_window_wait_seconds",
        "How long an answer waited for its client's window",
        waits.map(|it| (it.labels(), &it.http2.window_waits)),
    )
}
