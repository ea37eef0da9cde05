//! Clients that speak HTTP/2 to the explicit proxy.

mod exchanges;
mod floods;
mod flow;
mod grpc;
mod limits;
mod semantics;
mod smuggling;
mod tunnels;

use e2e::http2::Ended;

/// CANCEL (RFC 9113 §7).
const CANCEL: u32 = 8;

/// ENHANCE_YOUR_CALM.
const CALM: Ended = Ended::GoAway(11);

/// PROTOCOL_ERROR.
const PROTOCOL: u32 = 1;
