//! Clients that speak HTTP/2 to the explicit proxy.

mod endpoints;
mod exchanges;
mod floods;
mod flow;
mod grpc;
mod identifiers;
mod limits;
mod semantics;
mod smuggling;
mod tunnels;

use std::net::SocketAddr;

use e2e::Weir;
use e2e::http2::Ended;
use e2e::weir::Builder;

/// A weir whose endpoints speak HTTP/1.1.
fn weir() -> Builder {
    Weir::new().set("policies", "{ clients: [{ prefix: /, protocol: http1 }] }")
}

/// The same, started, with one service.
#[track_caller]
fn serving(name: &str, endpoints: &[SocketAddr]) -> Weir {
    weir().service(name, endpoints).start()
}

/// CANCEL (RFC 9113 §7).
const CANCEL: u32 = 8;

/// ENHANCE_YOUR_CALM.
const CALM: Ended = Ended::GoAway(11);

/// PROTOCOL_ERROR.
const PROTOCOL: u32 = 1;
