//! What is counted of clients' HTTP/2 connections.

use h2::Reason;

use crate::telemetry::{Counter, Gauge, Histogram};
use crate::transport::{Flood, FrameMeter};

/// The counters of one listener.
#[derive(Debug, Default)]
pub struct Http2Stats {
    /// Connections accepted that speak HTTP/2.
    pub connections: Counter,
    /// Those open now.
    pub open: Gauge,
    /// Streams accepted.
    pub streams: Counter,
    /// Those open now.
    pub open_streams: Gauge,
    /// RST_STREAM frames that clients sent, by code; only those of streams that weir still served.
    pub resets_received: Codes,
    /// RST_STREAM frames that weir sent because of what happened to an exchange, by code.
    pub resets_sent: Codes,
    /// GOAWAY frames that clients sent with an error, by code.
    pub goaways_received: Codes,
    /// GOAWAY frames that weir sent, by code.
    pub goaways_sent: Codes,
    /// What clients did too often; see [`Abuse`].
    pub abuses: [Counter; Abuse::LABELS.len()],
    /// Connections closed since their client did not answer a PING.
    pub pings_lost: Counter,
    /// How long answers waited for their client's flow-control window.
    pub window_waits: Histogram,
}

/// A bound that a client exceeded. All end the connection with ENHANCE_YOUR_CALM, except [`Abuse::ClosedWindow`], which
/// ends the stream, and [`Abuse::SlowHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// PING frames.
    Ping = 0,
    /// SETTINGS frames.
    Settings = 1,
    /// PRIORITY frames.
    Priority = 2,
    /// WINDOW_UPDATE frames.
    WindowUpdate = 3,
    /// Frames of unknown types.
    Unknown = 4,
    /// Streams that it opened and reset (CVE-2023-44487).
    Reset = 5,
    /// Streams that weir had to reset because of what it sent (CVE-2025-8671).
    StreamErrors = 6,
    /// CONTINUATION frames (CVE-2024-27316).
    Continuation = 7,
    /// A header list far larger than the limit, decoded (HPACK bomb).
    HeaderList = 8,
    /// DATA frames with little data, or none.
    SmallData = 9,
    /// A header block that was not complete within `limits.headerRead`.
    SlowHead = 10,
    /// It did not open a stream's window within `limits.http2.windowWait`.
    ClosedWindow = 11,
}

impl Abuse {
    /// The labels in metrics, in order.
    pub const LABELS: [&'static str; 12] = [
        "ping",
        "settings",
        "priority",
        "window_update",
        "unknown_frame",
        "reset",
        "stream_errors",
        "continuation",
        "header_list",
        "small_data",
        "slow_head",
        "closed_window",
    ];

    /// The bound that `h2` found exceeded when it ended the connection of `meter` with this `error`.
    pub fn of(error: &h2::Error, meter: &FrameMeter) -> Option<Self> {
        let said = [
            ("too_many_resets", Self::Reset),
            ("too_many_internal_resets", Self::StreamErrors),
            ("too_many_continuations", Self::Continuation),
            ("header_list_way_too_large", Self::HeaderList),
            ("too_many_data_frames", Self::SmallData),
        ];
        let is_abuse = error.reason() == Some(Reason::ENHANCE_YOUR_CALM) && error.is_library();
        said.into_iter().find(|(text, _)| is_abuse && meter.has_said(text)).map(|(_, abuse)| abuse)
    }
}

impl From<Flood> for Abuse {
    fn from(flood: Flood) -> Self {
        match flood {
            Flood::Ping => Self::Ping,
            Flood::Settings => Self::Settings,
            Flood::Priority => Self::Priority,
            Flood::WindowUpdate => Self::WindowUpdate,
            Flood::Other => Self::Unknown,
            Flood::Reset => Self::Reset,
        }
    }
}

/// Counts by error code (RFC 9113 §7).
#[derive(Debug, Default)]
pub struct Codes([Counter; Self::LABELS.len()]);

impl Codes {
    /// The labels in metrics: the codes by number, and one for all others.
    pub const LABELS: [&'static str; 15] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
        "other",
    ];

    /// Counts one with this code.
    pub fn count(&self, code: Reason) {
        let at = usize::try_from(u32::from(code)).unwrap_or(usize::MAX).min(self.0.len() - 1);
        self.0[at].inc();
    }

    /// Each label with its count, where there is one.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let rows = Self::LABELS.into_iter().zip(self.0.iter().map(Counter::value));
        rows.filter(|(_, count)| *count > 0)
    }
}
