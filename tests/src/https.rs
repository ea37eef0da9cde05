//! HTTPS as a scraper asks by it: of a server whose certificate an authority has signed, or of any at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
};

use crate::message::{End, Head, Request, Response};
use crate::time::PATIENCE;

/// Whom a client believes.
#[derive(Clone)]
pub struct Https(Arc<ClientConfig>);

impl Https {
    /// Anybody: `insecureSkipVerify`.
    pub fn trusting_anybody() -> Self {
        let config = builder().dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
        Self(Arc::new(config.with_no_client_auth()))
    }

    /// Whoever has a certificate of the authority with this one, as PEM.
    pub fn trusting(authority: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        Self(Arc::new(builder().with_root_certificates(roots).with_no_client_auth()))
    }

    /// Asks the server of this name at the other end of `stream`, and reads the answer to its end.
    ///
    /// # Errors
    ///
    /// The server is not believed, or closes before it answers.
    pub fn ask(&self, stream: TcpStream, name: &str, request: &Request) -> std::io::Result<Response> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let client = ClientConnection::new(self.0.clone(), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(client, stream);
        stream.write_all(&request.bytes())?;
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
            return Err(read.err().unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into()));
        };
        let body = bytes.split_off(end + 4);
        let head = Head::parse(bytes);
        let length = body.len() as u64;
        let status = head.status().unwrap_or(0);
        Ok(Response { status, head, interim: vec![], body, length, trailers: vec![], end: End::Complete })
    }
}

fn builder() -> tokio_rustls::rustls::ConfigBuilder<ClientConfig, tokio_rustls::rustls::WantsVerifier> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap()
}

#[derive(Debug)]
pub(crate) struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
