//! The explicit proxy on :4140, when everybody behaves.

mod answers; // Answers without a body, interim answers, trailers, early answers.
mod bodies; // Streaming and back-pressure, both ways.
mod connections; // Keep-alive, close, pipelining, HTTP/1.0, bounds on connections.
mod expect; // Expect: 100-continue.
mod forms; // How a request looks when it comes and when it goes on.
mod hops; // Max-Forwards, and the diagnosis of a request by it.
mod host; // Which field says where a request goes.
mod names; // Which spelling reaches which service.
mod tls; // TLS, behind a CONNECT or without one.
mod tunnels; // 101 and CONNECT.
