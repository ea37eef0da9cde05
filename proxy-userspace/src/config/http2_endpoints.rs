//! `limits.http2Endpoints`: the bounds of HTTP/2 connections to endpoints.

use std::time::Duration;

use super::fields::Section;
use super::values::{count, duration, size};

/// The bounds of HTTP/2 connections to endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Endpoints {
    /// `streams`: requests at the same time on one connection; fewer where its endpoint allows fewer
    /// (SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113 §6.5.2). 1 to 1,000, default 100.
    pub streams: usize,
    /// `connections`: connections to one endpoint, per worker. A request that finds every stream in use waits up to
    /// `limits.connect`. 1 to 100, default 16.
    pub connections: usize,
    /// `window`: bytes of one answer that its client has not taken yet (SETTINGS_INITIAL_WINDOW_SIZE). The window of a
    /// connection is that of all its `streams`, so that no client can stop another's answer. 16 KiB to 1 MiB, default
    /// 64 KiB.
    pub window: usize,
    /// `ping`: how long a connection in use may be silent before its endpoint is asked by a PING. 0 (never) to 24 h,
    /// default 6 m: gRPC's servers close connections on which pings come more often than each 5 m.
    pub ping: Duration,
    /// `pingTimeout`: how long the answer to that may take before the connection is closed. 1 s to 5 m, default 20 s.
    pub ping_timeout: Duration,
    /// `replayBytes`: bytes of a request's body that are kept until its answer begins, so that a request that was not
    /// processed can be sent again; a longer body is not kept. 0 (none) to 1 MiB, default 64 KiB.
    pub replay_bytes: usize,
    /// `replayTotal`: bytes of all of these together. 0 to 1 GiB, default 16 MiB.
    pub replay_total: usize,
}

impl Default for Http2Endpoints {
    fn default() -> Self {
        Self {
            streams: 100,
            connections: 16,
            window: 64 * 1024,
            ping: Duration::from_secs(360),
            ping_timeout: Duration::from_secs(20),
            replay_bytes: 64 * 1024,
            replay_total: 16 * 1024 * 1024,
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Http2Endpoints {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    let mut bounds = Http2Endpoints::default();
    section.set("streams", &mut bounds.streams, count(1..=1000));
    section.set("connections", &mut bounds.connections, count(1..=100));
    section.set("window", &mut bounds.window, size(16 * KIB..=MIB));
    section.set("ping", &mut bounds.ping, duration(Duration::ZERO..=Duration::from_hours(24)));
    let timeout = duration(Duration::from_secs(1)..=Duration::from_mins(5));
    section.set("pingTimeout", &mut bounds.ping_timeout, timeout);
    section.set("replayBytes", &mut bounds.replay_bytes, size(0..=MIB));
    section.set("replayTotal", &mut bounds.replay_total, size(0..=1024 * MIB));
    section.finish();
    bounds
}
