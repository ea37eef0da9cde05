//! The certificate of a service account, with its key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rsa;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use webpki::{Error, KeyUsage};

use super::bundle::Bundle;
use super::error::{IdentityError, Reason, expect};
use super::facts::{self, Facts};
use super::files;
use crate::config;
use crate::domain::identity::{SpiffeId, TrustDomain};

/// A certificate with its chain and its key.
pub struct Own {
    /// Whose it is.
    pub id: SpiffeId,
    /// When it expires, in seconds since 1970.
    pub until: u64,
    /// As TLS needs it.
    pub(super) certified: Arc<CertifiedKey>,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Own({}, until {})", self.id, self.until)
    }
}

impl Own {
    /// Reads the certificate and its key, as of `now` in seconds since 1970.
    ///
    /// # Errors
    ///
    /// A file cannot be read or parsed, the key is not the certificate's or is weak, or a peer would not believe that this
    /// is the service account: see [`Reason`].
    pub(super) fn read(
        wanted: &config::Own,
        trust_domain: &TrustDomain,
        bundle: &Bundle,
        provider: &CryptoProvider,
        now: u64,
    ) -> Result<Self, IdentityError> {
        let (certificate, key) = (&wanted.files.certificate, &wanted.files.key);
        let chain = files::certificates(certificate)?;
        let first = chain.first().ok_or_else(|| Reason::NoCertificate.of(certificate))?;
        let private = files::key(key)?;
        let of_certificate = |reason: Reason| reason.of(certificate);
        let id = facts::id(first).map_err(of_certificate)?;
        expect(&id, trust_domain, &wanted.account).map_err(of_certificate)?;
        let facts = Facts::of(first).map_err(of_certificate)?;
        facts.valid_at(now).map_err(of_certificate)?;
        let certified = certify(chain, private, provider).map_err(|reason| reason.of(key))?;
        verify(&certified, bundle, provider, now).map_err(of_certificate)?;
        Ok(Self { id, until: facts.until, certified: Arc::new(certified) })
    }

    /// Whether `other` is the same certificate.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

/// The chain with its key, which is the first certificate's.
fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Reason> {
    let weak = is_weak(&key);
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|_| if weak { Reason::WeakKey } else { Reason::UnusableKey })?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| Reason::KeyMismatch)?;
    Ok(certified)
}

/// Whether the library rejects it as an RSA key that is too short. rustls only says that it does not load it.
fn is_weak(key: &PrivateKeyDer<'_>) -> bool {
    let parsed = match key {
        PrivateKeyDer::Pkcs8(key) => rsa::KeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => rsa::KeyPair::from_der(key.secret_pkcs1_der()),
        _ => return false,
    };
    parsed.is_err_and(|rejected| rejected.to_string() == "TooSmall")
}

/// Whether a peer with this bundle would believe the chain, as a client's and as a server's.
fn verify(
    certified: &CertifiedKey,
    bundle: &Bundle,
    provider: &CryptoProvider,
    now: u64,
) -> Result<(), Reason> {
    let Some((first, others)) = certified.cert.split_first() else { return Err(Reason::NoCertificate) };
    let certificate = facts::parse(first)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let algorithms = provider.signature_verification_algorithms.all;
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let verified =
            certificate.verify_for_usage(algorithms, &bundle.roots.roots, others, time, usage, None, None);
        verified.map_err(|error| match error {
            // Of a certificate between this one and the root.
            Error::CertExpired { not_after, .. } => Reason::Expired(not_after.as_secs()),
            Error::CertNotValidYet { not_before, .. } => Reason::NotYetValid(not_before.as_secs()),
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension | Error::CaUsedAsEndEntity => {
                Reason::WrongUse
            }
            _ => Reason::UnknownAuthority,
        })?;
    }
    Ok(())
}
