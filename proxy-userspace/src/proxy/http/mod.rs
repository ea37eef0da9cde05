//! HTTP/1: `serve` drives a client's connection, `exchange` answers each of its requests.
//!
//! hyper parses and writes messages. What it lets through was checked, and the rest is in `headers`: a message
//! whose framing two parties could read differently never reaches an endpoint.

mod answer;
mod attempt;
mod body;
mod exchange;
mod expect;
mod first_head;
mod head;
mod headers;
mod hops;
mod identify;
mod overrides;
mod replay;
mod serve;
mod survey;
mod tunnel;

pub(super) use body::Body;
pub(super) use first_head::FirstHead;
pub(super) use serve::serve;
