//! Names: what a request asks for, before anything decides where it goes.
//!
//! A request's host becomes one canonical name, so that `hello`, `HELLO.`, `hello:80` and
//! `hello.default.svc.cluster.local` are the same service in routing, metrics and policy. The rules are the
//! product's interface; linkerd left each spelling a name of its own, which was a standing complaint.
//!
//! Deliberately absent: dtabs. They rewrite canonical names and come with the delegation engine.

mod canonical;
mod literal;
mod service;

pub use canonical::{BadHost, Host, Rules};
pub use service::ServiceName;
