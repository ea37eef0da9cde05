//! Floor 2: who this node's pods are to other weirs, and which of them weir believes.
//!
//! [`Identities`] has what is in force: the root certificates of the trust domain ([`Bundle`]) and a certificate with its
//! key for each service account ([`Own`]). It reads both from files, and again when they change; what cannot be used is a
//! named [`IdentityError`] and changes nothing. [`tls`] makes TLS configurations from it, and [`Links`] keeps those that
//! connections between weirs are made by.
//!
//! Nothing cryptographic is done here by hand: certificates are read and checked by rustls-webpki, keys by rustls. webpki
//! does not say when a certificate ends or whether it is an authority's; `facts.rs` asks it in a way that tells.

mod bundle;
pub mod development;
mod error;
mod facts;
mod files;
mod handshake;
mod limit;
mod links;
mod own;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod tls;
mod verify;

pub use bundle::Bundle;
pub use error::{IdentityError, Reason};
pub use handshake::Failure;
pub use limit::{Admitted, HandshakeLimit};
pub use links::Links;
pub use own::Own;
pub use store::{Identities, InForce, check};
pub use verify::id_of;
