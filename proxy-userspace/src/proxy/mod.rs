//! Floor 3: connections and requests, in rooms of which each uses only those before it.
//!
//! `listener` says who may come in, `upstream` which endpoint takes a request and on which connection, `routing` where a name leads,
//! `exchange` lives one request, `downstream` one client's connection. `worker` is what all of them share on one thread.
//!
//! Deliberately absent: Kubernetes and BPF. What the proxy needs of them it gets as a catalog and as the address
//! a connection had dialled.

pub mod clock;
pub mod downstream;
pub mod exchange;
pub mod fault;
pub mod listener;
pub mod metrics;
pub mod routing;
pub mod tcp;
pub mod upstream;
pub mod worker;
