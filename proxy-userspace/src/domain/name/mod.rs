//! Names: what a request asks for, before anything decides where it goes.
//!
//! A request's host becomes one canonical name, so that `hello`, `HELLO.`, `hello:80` and
//! `hello.default.svc.cluster.local` are the same service in routing, metrics and policy. The rules are the
//! product's interface; linkerd left each spelling a name of its own, which was a standing complaint.
//!
//! A name is a [`Path`], which [`dtab`](super::dtab)s rewrite.

mod canonical;
mod literal;
mod path;
mod questions;
mod service;

pub use canonical::{BadHost, Host, Rules, Scope, check_host};
pub use literal::legacy_ipv4;
pub use path::{BadPath, Labels, Path};
pub(super) use path::{scan_label, starts_label, write_label};
pub use questions::{Questions, Services};
pub use service::{PodName, ServiceName};
