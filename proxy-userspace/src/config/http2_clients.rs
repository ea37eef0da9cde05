//! `limits.http2`: the bounds of clients' HTTP/2 connections.

use std::time::Duration;

use super::fields::Section;
use super::values::{count, duration, size};

/// The bounds of clients' HTTP/2 connections. A connection gets those in force when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Clients {
    /// `maxConcurrentStreams`: requests at the same time on one connection (SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113
    /// §6.5.2). 1 to 10,000, default 100.
    pub streams: u32,
    /// `streamWindow`: bytes of one request's body that its endpoint has not taken yet (SETTINGS_INITIAL_WINDOW_SIZE).
    /// 16 KiB to 16 MiB, default 64 KiB.
    pub stream_window: usize,
    /// `connectionWindow`: the same of all requests of a connection together. Unless it is `streamWindow` times
    /// `maxConcurrentStreams`, requests whose endpoints take nothing stop the connection's other ones. 64 KiB to
    /// 256 MiB, default 8 MiB.
    pub connection_window: usize,
    /// `windowWait`: how long an answer may wait for its client to open the stream's window; then the stream is reset.
    /// Default 5 m.
    pub window_wait: Duration,
    /// `ping`: how long a connection with open streams may be silent before its client is asked by a PING. 0 (never) to
    /// 24 h, default 5 m.
    pub ping: Duration,
    /// `pingTimeout`: how long the client may be silent after that before the connection is closed. Default 20 s.
    pub ping_timeout: Duration,
    /// `idleFrames`: frames in 10 s that do no work (PING, SETTINGS, PRIORITY, WINDOW_UPDATE and frames of unknown
    /// types) beyond 8 for each stream opened and 4 for each 16 KiB sent. 10 to 1,000,000, default 1,000.
    pub idle_frames: u32,
    /// `resets`: streams that a client may reset in 10 s, if these are also more than half of those it opens. 1 to
    /// 1,000,000, default 500.
    pub resets: u32,
    /// `streamErrors`: streams of a connection that weir had to reset because of what the client sent. 10 to 1,000,000,
    /// default 1,000.
    pub stream_errors: usize,
}

impl Default for Http2Clients {
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window: 64 * 1024,
            connection_window: 8 * 1024 * 1024,
            window_wait: Duration::from_secs(300),
            ping: Duration::from_secs(300),
            ping_timeout: Duration::from_secs(20),
            idle_frames: 1000,
            resets: 500,
            stream_errors: 1000,
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Http2Clients {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    const DAY: Duration = Duration::from_hours(24);
    const MS: Duration = Duration::from_millis(1);
    let mut bounds = Http2Clients::default();
    section.set("maxConcurrentStreams", &mut bounds.streams, count(1..=10_000));
    section.set("streamWindow", &mut bounds.stream_window, size(16 * KIB..=16 * MIB));
    section.set("connectionWindow", &mut bounds.connection_window, size(64 * KIB..=256 * MIB));
    section.set("windowWait", &mut bounds.window_wait, duration(MS..=DAY));
    section.set("ping", &mut bounds.ping, duration(Duration::ZERO..=DAY));
    section.set("pingTimeout", &mut bounds.ping_timeout, duration(MS..=DAY));
    section.set("idleFrames", &mut bounds.idle_frames, count(10..=1_000_000));
    section.set("resets", &mut bounds.resets, count(1..=1_000_000));
    section.set("streamErrors", &mut bounds.stream_errors, count(10..=1_000_000));
    section.finish();
    bounds
}
