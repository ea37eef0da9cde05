//! weir's identities by an authority of the tests: those that an operator would have, and those that nobody should believe.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd,
};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, ClientConfig, ClientConnection, ConfigBuilder, Error, ServerConfig, ServerConnection,
    StreamOwned,
};

use crate::https::Anybody;
use crate::time::PATIENCE;

/// The trust domain of the tests.
pub const TRUST_DOMAIN: &str = "demo.example";

/// The application protocol of weirs' connections.
pub const PROTOCOL: &[u8] = b"weir/1";

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Clone)]
pub struct Own {
    /// The certificate, and those between it and the root, as PEM.
    pub certificate: String,
    /// Its key, as PEM.
    pub key: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub enum Valid {
    /// Now.
    Now,
    /// Not any more.
    Before,
    /// Not yet.
    Later,
}

/// The ID of a service account.
pub fn id(account: &str) -> String {
    let (namespace, name) = account.split_once('/').expect("a namespace and a name");
    format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{name}")
}

impl Authority {
    /// A new one of this name.
    pub fn new(name: &str) -> Self {
        let parameters = authority(name);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate, as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate with these URIs.
    pub fn signs(&self, uris: &[&str], valid: Valid, change: impl FnOnce(&mut CertificateParams)) -> Own {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "a workload");
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        parameters.subject_alt_names = uris.iter().map(uri).collect();
        let (from, to) = match valid {
            Valid::Now => (2020, 2090),
            Valid::Before => (2020, 2021),
            Valid::Later => (2090, 2091),
        };
        parameters.not_before = date_time_ymd(from, 1, 1);
        parameters.not_after = date_time_ymd(to, 1, 1);
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        Own { certificate: parameters.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A certificate of this service account.
    pub fn own(&self, account: &str) -> Own {
        self.signs(&[&id(account)], Valid::Now, |_| {})
    }

    /// Writes certificates for these service accounts into the folder. Returns the configuration's section, to be continued.
    pub fn section(&self, folder: &Path, accounts: &[&str]) -> String {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let bundle = write("ca.crt", &self.pem());
        let mut section =
            format!("\n  trustDomain: {TRUST_DOMAIN}\n  files:\n    bundle: {bundle}\n    certificates:\n");
        for account in accounts {
            let (own, name) = (self.own(account), account.replace('/', "-"));
            let certificate = write(&format!("{name}.crt"), &own.certificate);
            let key = write(&format!("{name}.key"), &own.key);
            writeln!(section, "      - {{ name: {account}, certificate: {certificate}, key: {key} }}")
                .unwrap();
        }
        section
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

/// Makes the certificate one of an authority's.
pub fn of_an_authority(parameters: &mut CertificateParams) {
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

impl Own {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes()).map(Result::unwrap).collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// The other end's side of TLS, on a connection that a weir has made: it asks no client for a certificate.
    pub fn serves(
        &self,
        stream: TcpStream,
        protocol: Option<&[u8]>,
    ) -> StreamOwned<ServerConnection, TcpStream> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(self.chain(), self.key()).unwrap();
        config.alpn_protocols = protocol.iter().map(|it| it.to_vec()).collect();
        patient(&stream);
        StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream)
    }
}

/// A weir's side of TLS on this connection, with this certificate or none. It believes any server.
pub fn calls(stream: TcpStream, own: Option<&Own>) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config: ConfigBuilder<ClientConfig, _> =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match own {
        Some(own) => config.with_client_auth_cert(own.chain(), own.key()).unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    patient(&stream);
    let name = ServerName::try_from("a.weir").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

/// The first byte of a weir behind the handshake: 0 if it has a connection to its application.
///
/// # Errors
///
/// The handshake failed.
pub fn admitted(stream: &mut (impl Read + io::Write)) -> io::Result<u8> {
    let mut byte = [0];
    stream.flush()?;
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// The alert that a side was sent.
pub fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}
