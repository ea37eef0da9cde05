//! TLS at the probes' listener, on the same port as plain HTTP: a bearer token must not cross the network in clear
//! text.
//!
//! As Kubernetes components do, weir creates a self-signed certificate at start, unless files are configured.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rcgen::{CertificateParams, DnType, KeyPair};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::server::TlsStream;

use super::Server;
use crate::config::{Certificate, Settings, open_regular};
use crate::domain::pace::Pace;
use crate::intercept::node_addresses;

/// The first byte of a TLS handshake record (RFC 8446 §5.1); no HTTP method begins with it.
const HANDSHAKE: u8 = 0x16;

/// How often a client may start a handshake, which costs about 200 us: burst, then interval.
const HANDSHAKES: (u32, Duration) = (100, Duration::from_millis(20));

/// Interval between reads of the files.
const LOOK: Duration = Duration::from_secs(10);

/// Maximum file size.
const BYTES: u64 = 1 << 20;

/// The server side of TLS.
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
    files: Option<Certificate>,
    pace: Mutex<Pace<IpAddr>>,
    /// Why the last reload of the files failed.
    failed: Mutex<Option<String>>,
}

/// The certificate in force.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The protocol that a connection begins with.
pub(super) enum Greeting {
    /// Plain text.
    Plain(TcpStream),
    /// TLS, with a completed handshake.
    Secured(Box<TlsStream<TcpStream>>),
    /// TLS, but this client starts handshakes too often.
    Often,
}

impl Tls {
    /// Uses the certificate in `files`, or creates a self-signed one.
    ///
    /// # Errors
    ///
    /// The files cannot be read or parsed, or the certificate does not match the key.
    fn new(files: Option<Certificate>) -> anyhow::Result<Arc<Self>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certified = match &files {
            Some(files) => read(files, &provider)?,
            None => make(&provider).context("a certificate for the probes' listener cannot be made")?,
        };
        let current = Arc::new(Current(ArcSwap::from_pointee(certified)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let pace = Mutex::new(Pace::new(HANDSHAKES.0, HANDSHAKES.1));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Arc::new(Self { acceptor, current, files, pace, failed: Mutex::default() }))
    }

    /// Waits for the first byte from `client` and, if it is TLS, for the end of the handshake.
    ///
    /// # Errors
    ///
    /// The client disconnected, or the handshake failed.
    pub(super) async fn greet(&self, stream: TcpStream, client: SocketAddr) -> std::io::Result<Greeting> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 || first[0] != HANDSHAKE {
            return Ok(Greeting::Plain(stream));
        }
        if !self.pace.lock().admits(client.ip().to_canonical(), Instant::now()) {
            return Ok(Greeting::Often);
        }
        Ok(Greeting::Secured(Box::new(self.acceptor.accept(stream).await?)))
    }

    /// Reloads the files. Invalid files change nothing.
    fn read_again(&self) {
        let Some(files) = &self.files else { return };
        let failed = match read(files, &aws_lc_rs::default_provider()) {
            Ok(now) if now.cert == self.current.0.load().cert => None,
            Ok(now) => {
                tracing::info!("the certificate of the probes' listener was replaced");
                self.current.0.store(Arc::new(now));
                None
            }
            Err(why) => Some(format!("{why:#}")),
        };
        let mut said = self.failed.lock();
        if let Some(why) = failed.as_ref().filter(|why| said.as_ref() != Some(why)) {
            tracing::error!("the certificate of the probes' listener stays: {why}");
        }
        *said = failed;
    }
}

impl Server {
    /// Enables or disables TLS at the probes' listener as `settings` require: TLS is on if tokens are accepted or a
    /// certificate is configured.
    ///
    /// # Errors
    ///
    /// The certificate's files are invalid. Nothing has changed then.
    pub fn secure_probes(&self, settings: &Settings) -> anyhow::Result<()> {
        let files = settings.probes.as_ref().and_then(|it| it.tls.clone());
        let speaks = files.is_some() || settings.readers().tokens;
        self.tls.store(speaks.then(|| Tls::new(files)).transpose()?);
        Ok(())
    }
}

/// Reloads the certificate's files periodically, as long as weir runs.
///
/// # Errors
///
/// None.
pub async fn follow_certificate(server: Arc<Server>) -> anyhow::Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(tls) = &*server.tls.load() {
            tls.read_again();
        }
    }
}

/// A self-signed certificate for this machine's name and addresses. It is valid as long as weir runs.
fn make(provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_lowercase();
    let loopback = ["127.0.0.1", "::1"].map(str::to_owned);
    let own = node_addresses().unwrap_or_default().into_iter().map(|it: IpAddr| it.to_string());
    let names = ["localhost".to_owned(), host].into_iter().chain(loopback).chain(own);
    let mut names: Vec<String> = names.filter(|name| is_name(name)).collect();
    names.sort();
    names.dedup();
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name.push(DnType::CommonName, "weir");
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok(CertifiedKey::from_der(vec![certificate.der().clone()], key, provider)?)
}

/// Whether a certificate can be for `name`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte))
}

fn read(files: &Certificate, provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
    let text = contents(&files.certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let at = || format!("probes.tls.certificate: {}", files.certificate.display());
    let chain = chain.map_err(|error| anyhow::anyhow!("{error}")).with_context(at)?;
    if chain.is_empty() {
        bail!("{}: there is no certificate in it", at());
    }
    let key = PrivateKeyDer::from_pem_slice(&contents(&files.key)?);
    let at = || format!("probes.tls.key: {}", files.key.display());
    let key = key.map_err(|error| anyhow::anyhow!("{error}")).with_context(at)?;
    CertifiedKey::from_der(chain, key, provider).with_context(at)
}

fn contents(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_regular(path).with_context(|| path.display().to_string())?;
    file.take(BYTES).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_where_none_is_configured() {
        Tls::new(None).unwrap();
    }

    #[test]
    fn files_that_do_not_serve_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        let files =
            || Certificate { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        let said = || format!("{:#}", Tls::new(Some(files())).err().unwrap());
        assert!(said().contains("tls.crt") && said().contains("No such file"), "{}", said());
        write("tls.crt", "no PEM");
        assert!(said().contains("tls.crt: there is no certificate in it"), "{}", said());
        let of = || {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(["weir".to_owned()]).unwrap().self_signed(&key).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        let ((certificate, key), (_, other)) = (of(), of());
        write("tls.crt", &certificate);
        assert!(said().contains("tls.key"), "{}", said());
        write("tls.key", &certificate);
        assert!(said().contains("tls.key"), "{}", said());
        write("tls.key", &other);
        assert!(said().contains("tls.key"), "of another certificate: {}", said());
        write("tls.key", &key);
        Tls::new(Some(files())).unwrap();
    }
}
