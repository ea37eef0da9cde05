//! Names: what a request asks for, before routing.
//!
//! A request's host becomes one canonical name, so that `hello`, `HELLO.`, `hello:80` and
//! `hello.default.svc.cluster.local` are the same service in routing, metrics and policy. The rules are the
//! public interface of weir; in linkerd each spelling was a name of its own, a frequent complaint.
//!
//! A name is a [`Path`], which a [`dtab`](super::dtab) rewrites.

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
