//! Floor 5: the HTTP interface to a running weir.
//!
//! Runs on the control plane's thread. It only reads counters that the data plane keeps anyway; nothing here is on the
//! request path.

mod body;
mod chunks;
mod explain;
mod guard;
mod metrics;
mod pages;
mod readers;
mod refusal;
mod routes;
mod serve;
mod server;
mod slots;
mod tls;
mod tokens;

pub use serve::{Retired, listen};
pub use server::Server;
pub use tls::follow_certificate;
