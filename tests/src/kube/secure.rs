//! TLS as every real API server speaks it: a certificate of the cluster's own authority, for the address it listens on.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A cluster's authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one; nobody but its own trust it.
    #[expect(clippy::new_without_default, reason = "making a key is no default value")]
    pub fn new() -> Self {
        let mut parameters = CertificateParams::new([]).expect("no names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for self-signed whose issuer has the subject's own name.
        parameters.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(parameters, key).expect("a certificate"))
    }

    /// What a pod finds in its `ca.crt`.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this name with its key, both as PEM.
    pub fn certificate(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = parameters.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// The server's side of TLS under this name, an address. As a real one it would rather speak HTTP/2, which this one cannot, and speaks
    /// HTTP/1.1 to a client that does not ask for it.
    pub(super) fn acceptor(&self, name: IpAddr) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new([name.to_string()]).expect("an address");
        let certificate = parameters.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a PKCS #8 key");
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider's own versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate and its key");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}
