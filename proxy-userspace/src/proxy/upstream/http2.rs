//! What is counted about HTTP/2 connections to endpoints.

use h2::Reason;

use crate::telemetry::{Counter, Gauge};

/// The counters of HTTP/2 connections to endpoints.
#[derive(Debug, Default)]
pub struct Http2Stats {
    /// Connections open now.
    pub connections: Gauge,
    /// Streams in use now.
    pub streams: Gauge,
    /// Streams that an endpoint reset before its answer was complete, by code: [`CODES`].
    pub resets_received: [Counter; CODES.len()],
    /// Streams that weir reset, because the client left or its body broke off.
    pub cancelled: Counter,
    /// GOAWAYs by which an endpoint ended a connection, or left a stream unprocessed.
    pub goaways: Counter,
    /// PINGs without an answer in time.
    pub unanswered_pings: Counter,
    /// Requests that waited for a stream and got one.
    pub waits: Counter,
    /// Requests that took no stream of a connection because an upload on it waited for window.
    pub stalled: Counter,
    /// Requests that found no stream in time.
    pub waits_in_vain: Counter,
    /// Requests that were sent again with the part of their body that was kept.
    pub replays: Counter,
    /// Bodies that were not kept although they might have been: all together had the bound.
    pub replay_bound: Counter,
}

/// The labels of error codes (RFC 9113 §7), by [`code`].
pub const CODES: [&str; 15] = [
    "no_error",
    "protocol_error",
    "internal_error",
    "flow_control_error",
    "settings_timeout",
    "stream_closed",
    "frame_size_error",
    "refused_stream",
    "cancel",
    "compression_error",
    "connect_error",
    "enhance_your_calm",
    "inadequate_security",
    "http_1_1_required",
    "other",
];

/// The index of a code's label in [`CODES`].
pub fn code(reason: Reason) -> usize {
    usize::try_from(u32::from(reason)).map_or(CODES.len() - 1, |code| code.min(CODES.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_label() {
        for (reason, label) in [
            (Reason::NO_ERROR, "no_error"),
            (Reason::REFUSED_STREAM, "refused_stream"),
            (Reason::CANCEL, "cancel"),
            (Reason::HTTP_1_1_REQUIRED, "http_1_1_required"),
            (Reason::from(14), "other"),
            (Reason::from(u32::MAX), "other"),
        ] {
            assert_eq!(CODES[code(reason)], label);
        }
    }
}
