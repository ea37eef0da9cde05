//! End-to-end tests: the real binary, real sockets, and, as root, real namespaces and BPF.
#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(clippy::disallowed_types, reason = "a test that meets a poisoned lock is to fail")]

mod balance; // Who gets the next request.
mod control; // What operators touch: files, configuration, admin, signals.
mod dns; // Names outside, by DNS.
mod explicit; // The explicit proxy on :4140, when everybody behaves.
mod failure; // Endpoints that fail.
mod grpcio; // gRPC as an application has it: grpcio, both ways.
mod guards; // Where weir will not connect, and whom it does not serve.
mod handover; // One weir takes over from another.
mod harness; // The harness itself, without weir.
mod http2_clients; // Clients that speak HTTP/2.
mod http2_endpoints; // Endpoints that speak HTTP/2.
mod import; // Configurations of linkerd, imported, started and asked.
mod input; // Input that is wrong, hostile or unlucky.
mod kube; // Kubernetes: the API server, discovery, who is diverted.
mod leaks; // Names that are the cluster's, and DNS outside.
mod leaving; // Clients that leave, and full listeners.
mod policies; // Settings for some names only.
mod routing; // Dtabs, splits, overrides, explanations.
mod services; // What Kubernetes says of services and endpoints.
mod shares; // What one client takes is no other client's loss.
mod transformers; // What becomes of the endpoints that a namer finds.
mod transparent; // Diverted connections.
mod websocket; // An echo with Python's `websockets`, both ways.
