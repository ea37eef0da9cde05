//! Floor 5: what people and machines ask a running weir.
//!
//! Runs on the control plane's thread. Everything it shows is read from what the data plane counts anyway; nothing
//! here is on the path of a request.

mod explain;
mod guard;
mod metrics;
mod pace;
mod pages;
mod readers;
mod refusal;
mod routes;
mod serve;
mod server;
mod tls;
mod tokens;

pub use serve::listen;
pub use server::Server;
pub use tls::follow_certificate;
