//! Floor 2: where services come from.
//!
//! Every source ends in the same value, a `watch` of [`Catalog`](crate::domain::catalog::Catalog); nothing above
//! can tell one from another. [`files`] reads a folder, [`kubernetes`] follows an API server; [`objects`] is what Kubernetes' objects mean, wherever
//! they were read from. [`dns`] answers for the names outside.

pub mod dns;
pub mod files;
pub mod kubernetes;
pub mod objects;
