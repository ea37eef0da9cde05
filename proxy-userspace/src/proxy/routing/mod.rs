//! Where a name leads: snapshots of everything that decides a request, and the routes that names are bound to.

pub mod cache;
pub mod clients;
pub mod explain;
pub mod external;
mod led;
pub mod resolve;
pub mod route;
mod router;
pub mod snapshot;

pub use clients::ClientPod;
pub use router::{Router, Routing};
