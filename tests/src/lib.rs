//! The harness of the end-to-end tests: fakes with every bad habit a server can have, a client that controls
//! each byte, the real `weir` binary as a child process, and network namespaces as pods.
//!
//! It uses blocking threads on purpose: a test says exactly which byte goes when, and no runtime reorders it.
//! Nothing here knows weir's code; what it knows of weir's formats is in [`weir`].
//!
//! Deliberately absent: sleeps for synchronisation (use [`eventually`]), fixed ports, shared state between tests.
#![allow(
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails its test, and a panic has a line number"
)]
#![allow(clippy::disallowed_types, reason = "a test that meets a poisoned lock is to fail")]

pub mod agnhost;
pub mod backend;
pub mod client;
pub mod database;
pub mod dns;
pub mod http2;
pub mod https;
pub mod hung;
pub mod kube;
pub mod load;
pub mod message;
pub mod net;
pub mod python;
pub mod raw;
pub mod sockets;
pub mod spiffe;
pub mod weir;
pub mod wire;
pub mod witness;

pub use backend::{Answer, Backend, http2::H2Backend, process::BackendProcess};
pub use client::Client;
pub use dns::{Dns, Said};
pub use http2::{Ended, Frames, Http2};
pub use load::Load;
pub use message::{Head, Request, Response};
pub use net::{Net, Pod, place::Place};
pub use test_support::time;
pub use time::{Clock, eventually};
pub use weir::{Weir, folder};
