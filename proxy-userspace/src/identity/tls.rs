//! TLS configurations of weir's own: TLS 1.3, mutual, by service account.
//!
//! There is no resumption: a resumed session is not verified again, and would outlive the bundle that it was verified by.

use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use super::bundle::Bundle;
use super::own::Own;
use super::verify::{Clients, Server};
use crate::domain::identity::SpiffeId;

/// The application protocol of these connections (RFC 7301), by which they are told from other TLS: once the client is let
/// in, the server sends one byte, [`CONNECTED`] or [`REFUSED`], and then all bytes are those of the two applications.
pub const PROTOCOL: &[u8] = b"weir/1";

/// The server has a connection to its application.
pub const CONNECTED: u8 = 0;

/// Its application does not accept connections.
pub const REFUSED: u8 = 1;

/// The one provider of cryptography: what rustls has for TLS 1.3, with the post-quantum key exchange first.
pub fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.kx_groups = vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1];
    Arc::new(provider)
}

/// What `own` says as a server: to clients of its trust domain alone, by roots of `bundle`.
///
/// # Errors
///
/// The library's, which the checks of [`Own`] and [`Bundle`] leave no cause for.
pub fn server(own: &Own, bundle: &Bundle, provider: &Arc<CryptoProvider>) -> anyhow::Result<ServerConfig> {
    let clients = Clients::new(bundle.roots.clone(), provider.clone(), own.id.trust_domain.clone())?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

/// What `own` says as a client, to the one server that is `expected`, by roots of `bundle`. The name that rustls is given
/// beside it is not looked at, and not sent.
///
/// # Errors
///
/// As for [`server`].
pub fn client(
    own: &Own,
    bundle: &Bundle,
    expected: SpiffeId,
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<ClientConfig> {
    let verifier = Server::new(bundle.roots.clone(), provider, expected);
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified.clone())));
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}
