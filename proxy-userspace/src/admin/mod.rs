//! Floor 4: what people and machines ask a running weir.
//!
//! Runs on the control plane's thread. Everything it shows is read from what the data plane counts anyway; nothing
//! here is on the path of a request.

mod desk;
mod enrolment;
mod explain;
mod guard;
mod kubernetes;
mod pace;
mod pages;
mod readers;
mod ready;
mod refusal;
mod routes;
mod serve;
mod state;
mod tls;
mod tokens;

pub use desk::{Desk, Diverted};
pub use serve::listen;
pub use tls::follow_certificate;
