//! Endpoints at run time: which one takes a request, the connections to them, and how these are made.

pub mod cluster;
mod conn;
mod dial;
mod gate;
pub mod http2;
mod interim;
mod not_connected;
mod pool;
mod race;
mod request_body;
mod wire;
mod wire_stats;

pub use conn::{
    Breaker, Conn, Kept, NoAnswer, Outgoing, PooledConnection, Refused, ReplayBudget, Replayed, StreamPermit,
};
pub use dial::{Connecting, Dial, DialRules, Dialer, Tried};
pub use gate::Gate;
pub use interim::InterimAnswers;
pub use not_connected::NotConnected;
pub use pool::{Key, Pool, Protocol, Source, Transport};
pub use request_body::RequestBody;
pub use wire_stats::{Names, Plain, WireStats};
