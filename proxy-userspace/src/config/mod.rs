//! Floor 1: the configuration file, checked into [`Settings`].
//!
//! The code above relies on `Settings`: addresses are parsed, ranges are checked, listeners do not collide.
//! [`Settings::default`] is weir without a file. There is one file here per section of the YAML, with the section's
//! type, its defaults and its checks, so that a key is found, documented and validated in one place.

mod admin;
mod allow;
mod breaker;
mod circles;
mod contexts;
mod destinations;
mod discovery;
mod drain;
mod dtab;
mod fields;
mod http2_clients;
mod http2_endpoints;
mod identifier;
mod identity;
mod interpreter;
mod limits;
mod lint;
mod lint_stored;
mod listeners;
mod load;
mod log;
mod names;
mod outgoing;
mod policies;
mod prefixes;
mod problem;
mod routers;
mod settings;
#[cfg(test)]
mod tests;
mod transform;
mod transparent;
pub mod tree;
mod values;

pub use admin::{Admin, Certificate, Metrics, Probes, Readers};
pub use allow::Allow;
pub use breaker::{Backoff, Breaker};
pub use contexts::Contexts;
pub use destinations::{Destinations, LeadsTo};
pub use discovery::{Discovery, Files, Kubernetes};
pub use drain::{Drain, Handover};
pub use http2_clients::Http2Clients;
pub use http2_endpoints::Http2Endpoints;
pub use identity::{Identity, Own, Peer, Wire, WireMode, WirePod};
pub use interpreter::{DtabStore, Interpreter};
pub use limits::Limits;
pub use lint::{Warning, lint};
pub use lint_stored::{lint_of_readers, lint_stored};
pub use load::{load, load_again, open_regular, parse};
pub use log::{Level, Log, LogFormat};
pub use names::{Dns, Names};
pub(crate) use outgoing::MOST as MOST_ADDRESSES;
pub use outgoing::{Outgoing, Served, TlsClients, TunnelRules};
pub use problem::{ConfigError, Mistake, Problem, quoted};
pub use settings::Settings;
pub use transparent::{Adopt, Enrol, Fail, Sockets, Transparent};
