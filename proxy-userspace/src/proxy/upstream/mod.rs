//! Endpoints at run time: which one takes a request, the connections to them, and how these are made.

pub mod cluster;
mod conn;
mod dial;
mod gate;
pub mod http2;
mod interim;
mod pool;
mod race;
mod request_body;

pub use conn::{
    Breaker, Conn, Kept, NoAnswer, Outgoing, PooledConnection, Refused, ReplayBudget, Replayed, StreamPermit,
};
pub use dial::{Connecting, Dial, DialRules, Dialer, NotConnected, Tried};
pub use gate::Gate;
pub use interim::InterimAnswers;
pub use pool::{Key, Pool, Protocol, Source, Transport};
pub use request_body::RequestBody;
