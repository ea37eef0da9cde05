//! Floor 2: service discovery.
//!
//! Every source provides the same value, a `watch` of [`Catalog`](crate::domain::catalog::Catalog); the code above
//! cannot distinguish them. [`files`] reads a folder, [`kubernetes`] follows an API server; [`objects`] interprets
//! Kubernetes objects from both. [`dns`] resolves external names.

pub mod dns;
pub mod files;
pub mod kubernetes;
pub mod objects;
