//! The root certificates of the trust domain.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::development;
use super::error::{IdentityError, Reason};
use super::facts::{Facts, parse};
use super::files;

/// The most root certificates: two while the root is renewed, and room for several authorities.
pub(super) const MOST: usize = 64;

/// The root certificates that are believed. Those that have expired, or are not valid yet, are not among them: webpki does
/// not look at a root's time.
#[derive(Debug)]
pub struct Bundle {
    /// As TLS needs them.
    pub(super) roots: Arc<RootCertStore>,
    /// All of the file, to tell one bundle from another.
    certificates: Vec<CertificateDer<'static>>,
    /// When the last one that is believed expires, in seconds since 1970.
    pub until: u64,
    /// How many are believed.
    pub count: usize,
    /// When the next one becomes valid or expires.
    pub(super) changes: u64,
    /// Whether one was made by `weir certs`.
    pub is_development: bool,
}

impl Bundle {
    /// Reads the bundle in a file, as of `now` in seconds since 1970.
    ///
    /// # Errors
    ///
    /// It cannot be read or parsed, is empty, has a certificate that is no authority's, or none that is valid.
    pub(super) fn read(path: &Path, now: u64) -> Result<Self, IdentityError> {
        let certificates = files::certificates(path)?;
        Self::new(certificates, now).map_err(|reason| reason.of(path))
    }

    fn new(certificates: Vec<CertificateDer<'static>>, now: u64) -> Result<Self, Reason> {
        if certificates.is_empty() {
            return Err(Reason::EmptyBundle);
        }
        if certificates.len() > MOST {
            return Err(Reason::TooManyRoots(certificates.len()));
        }
        let mut roots = RootCertStore::empty();
        let (mut until, mut changes, mut is_development) = (0, u64::MAX, false);
        let mut not_now = None;
        for certificate in &certificates {
            let facts = Facts::of(certificate)?;
            if !facts.is_authority {
                return Err(Reason::NotAnAuthority);
            }
            match facts.valid_at(now) {
                Ok(()) => {
                    roots.add(certificate.clone()).map_err(|error| Reason::Malformed(error.to_string()))?;
                    until = until.max(facts.until);
                    changes = changes.min(facts.until);
                    is_development |= development::made(parse(certificate)?.subject());
                }
                Err(why) => {
                    if now < facts.from {
                        changes = changes.min(facts.from);
                    }
                    not_now = Some(why);
                }
            }
        }
        let count = roots.len();
        match not_now {
            Some(why) if count == 0 => Err(why),
            _ => Ok(Self { roots: Arc::new(roots), certificates, until, count, changes, is_development }),
        }
    }

    /// Whether `other` believes the same certificates.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.certificates == other.certificates && self.count == other.count
    }
}
