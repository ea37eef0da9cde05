//! What a certificate says of itself, by rustls-webpki.
//!
//! webpki tells neither when a certificate ends nor whether it is an authority's, but its verdict does: verifying checks the
//! time first, then whether an authority's certificate is used as a workload's, and looks for an issuer last. So verifying
//! without any root, at a time of one's choice, never succeeds, and the error is the fact. That saves a second parser of
//! certificates, which could read one otherwise than the verifier does. `tests.rs` pins each of these errors.

use std::time::Duration;

use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use super::error::Reason;
use crate::domain::identity::SpiffeId;

/// A time when every certificate has expired.
const NEVER: u64 = u64::MAX;

/// When a certificate is valid, in seconds since 1970, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The first second when it is valid.
    pub(super) from: u64,
    /// The last one.
    pub(super) until: u64,
    /// Whether it is an authority's.
    pub(super) is_authority: bool,
}

impl Facts {
    /// What this certificate says.
    pub(super) fn of(der: &CertificateDer<'_>) -> Result<Self, Reason> {
        let certificate = parse(der)?;
        let until = match verdict(&certificate, NEVER) {
            Error::CertExpired { not_after, .. } => not_after.as_secs(),
            // It ends before it begins.
            Error::InvalidCertValidity => return Err(Reason::Expired(0)),
            other => return Err(Reason::Malformed(other.to_string())),
        };
        let from = match verdict(&certificate, 0) {
            Error::CertNotValidYet { not_before, .. } => not_before.as_secs(),
            // It is valid since 1970.
            _ => 0,
        };
        let is_authority = matches!(verdict(&certificate, until), Error::CaUsedAsEndEntity);
        Ok(Self { from, until, is_authority })
    }

    /// Why it is not valid at `now`, in seconds since 1970.
    pub(super) fn valid_at(self, now: u64) -> Result<(), Reason> {
        if now < self.from {
            return Err(Reason::NotYetValid(self.from));
        }
        if now > self.until {
            return Err(Reason::Expired(self.until));
        }
        Ok(())
    }
}

/// The certificate, parsed.
pub(super) fn parse<'a>(der: &'a CertificateDer<'a>) -> Result<EndEntityCert<'a>, Reason> {
    EndEntityCert::try_from(der).map_err(|error| Reason::Malformed(error.to_string()))
}

/// Why the certificate is not valid at `time` without any root.
fn verdict(certificate: &EndEntityCert<'_>, time: u64) -> Error {
    let time = UnixTime::since_unix_epoch(Duration::from_secs(time));
    let verified = certificate.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None);
    verified.err().unwrap_or(Error::UnknownIssuer)
}

/// Whose certificate this is.
///
/// # Errors
///
/// It has not exactly one URI (X509-SVID, section 2), or that is no ID of a service account.
pub(super) fn id(der: &CertificateDer<'_>) -> Result<SpiffeId, Reason> {
    let certificate = parse(der)?;
    let mut uris = certificate.valid_uri_names();
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(Reason::NoId(certificate.valid_uri_names().count()));
    };
    uri.parse().map_err(Reason::BadId)
}
