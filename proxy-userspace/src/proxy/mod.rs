//! Floor 3: connections and requests.
//!
//! `worker` accepts, `connection` lives one connection, `http` its requests, `tcp` what is not HTTP. `world` says
//! where a name leads, `cluster` which endpoint takes a request, `pool` keeps the connections to it.
//!
//! Deliberately absent: Kubernetes and BPF. What the proxy needs of them it gets as a catalog and as the address
//! a connection had dialled.

pub mod bindings;
pub mod cluster;
mod connection;
pub mod explain;
pub mod fault;
mod http;
pub mod metrics;
pub mod outside;
mod pool;
mod race;
mod room;
pub mod route;
pub mod session;
pub mod settle;
pub mod sockets;
pub mod tcp;
mod upstream;
mod wakers;
pub mod worker;
pub mod world;
