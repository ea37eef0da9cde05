//! Endpoints that speak HTTP/2.

mod both; // Where the client speaks HTTP/2, too.
mod calls; // gRPC's statuses.
mod connections; // How many connections, how many streams, and how they end.
mod flow; // Who waits for whom.
mod replay; // What is sent again.
mod translation; // From HTTP/1.1 to HTTP/2.
mod upgrades; // Extended CONNECT.

use std::net::SocketAddr;

use e2e::weir::Builder;
use e2e::{H2Backend, Weir};

/// A weir whose service `hello` is asked by HTTP/2, whatever its clients speak.
fn asking(endpoints: &[SocketAddr]) -> Builder {
    let rule = "{ clients: [{ prefix: /, protocol: http2 }] }";
    Weir::new().service("hello", endpoints).set("policies", rule)
}

/// [`asking`] these backends.
fn of(backends: &[&H2Backend]) -> Builder {
    let addresses: Vec<_> = backends.iter().map(|it| it.addr()).collect();
    asking(&addresses)
}
