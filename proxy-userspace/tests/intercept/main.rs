//! The eBPF programs and their loader, on a real kernel. Needs root and BPF; with root nothing is left out.
#![allow(unsafe_code, reason = "fork, pidfd and socket options that std lacks")]
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod basics;
mod beside;
mod between;
mod bpf;
mod crash;
mod failing;
mod foreign;
mod in_pods;
mod leftovers;
mod many;
mod moved;
mod netfilter;
mod node;
mod numbers;
mod pods;
mod refusing;
mod scope;
mod snat;
mod sockets;
mod swap;
mod takeover;
mod traced;
mod uring;
mod weir;
mod whose;
mod wire;
mod world;
