//! HTTP/1: `serve` drives a client's connection, `exchange` answers each of its requests.
//!
//! hyper parses and writes messages. What it lets through was checked, and the rest is in `headers`: a message
//! whose framing two parties could read differently never reaches an endpoint.

mod answer;
mod attempt;
mod body;
mod expect;
mod head;
mod headers;
mod identify;
mod max_forwards;
mod overrides;
mod replay;
mod request;
mod retry_after;
mod scan;
pub mod session;
mod tunnel;

pub(in crate::proxy) use body::Body;
pub(in crate::proxy) use request::handle;
