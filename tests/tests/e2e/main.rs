//! End-to-end tests: the real binary, real sockets, and, as root, real namespaces and BPF.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod harness; // The harness itself, without weir.
