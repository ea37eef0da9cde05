//! Why a file gives no identity.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use httpdate::fmt_http_date;

use crate::domain::identity::{IdError, ServiceAccount, SpiffeId, TrustDomain};

/// A file that gives no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a file. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It cannot be read: it is missing, say.
    Unreadable(String),
    /// It is larger than 1 MiB.
    TooLarge,
    /// It is no PEM.
    NotPem,
    /// A section of its PEM has no end.
    Truncated,
    /// It has no certificate.
    NoCertificate,
    /// It has no private key.
    NoKey,
    /// It is a bundle without certificates.
    EmptyBundle,
    /// It is a bundle of more than 64 certificates.
    TooManyRoots(usize),
    /// It is a bundle with a certificate that is no authority's.
    NotAnAuthority,
    /// A certificate cannot be parsed.
    Malformed(String),
    /// The certificate, or the last of a bundle's, has expired.
    Expired(u64),
    /// The certificate, or the first of a bundle's, is not valid yet.
    NotYetValid(u64),
    /// The key is of a kind or curve that weir does not use.
    UnusableKey,
    /// The key is an RSA key of less than 2048 bits.
    WeakKey,
    /// The key is not the certificate's.
    KeyMismatch,
    /// The certificate names no workload, or more than one.
    NoId(usize),
    /// What the certificate names is no service account.
    BadId(IdError),
    /// The certificate is one of another trust domain.
    WrongTrustDomain(TrustDomain),
    /// The certificate is another service account's.
    WrongName(ServiceAccount),
    /// The certificate is not signed by an authority of the bundle, or not correctly.
    UnknownAuthority,
    /// The certificate may not be used for TLS, or not on both sides.
    WrongUse,
}

impl Reason {
    /// The labels, for metrics.
    pub const LABELS: [&'static str; 20] = [
        "unreadable",
        "too_large",
        "not_pem",
        "truncated",
        "no_certificate",
        "no_key",
        "empty_bundle",
        "too_many_roots",
        "not_an_authority",
        "malformed",
        "expired",
        "not_yet_valid",
        "unusable_key",
        "weak_key",
        "key_mismatch",
        "no_id",
        "wrong_trust_domain",
        "wrong_name",
        "unknown_authority",
        "wrong_use",
    ];

    /// The place of its label in [`Self::LABELS`].
    pub fn index(&self) -> usize {
        match self {
            Self::Unreadable(_) => 0,
            Self::TooLarge => 1,
            Self::NotPem => 2,
            Self::Truncated => 3,
            Self::NoCertificate => 4,
            Self::NoKey => 5,
            Self::EmptyBundle => 6,
            Self::TooManyRoots(_) => 7,
            Self::NotAnAuthority => 8,
            Self::Malformed(_) => 9,
            Self::Expired(_) => 10,
            Self::NotYetValid(_) => 11,
            Self::UnusableKey => 12,
            Self::WeakKey => 13,
            Self::KeyMismatch => 14,
            Self::NoId(_) | Self::BadId(_) => 15,
            Self::WrongTrustDomain(_) => 16,
            Self::WrongName(_) => 17,
            Self::UnknownAuthority => 18,
            Self::WrongUse => 19,
        }
    }

    /// Its label.
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// The error that this is in a file.
    pub(super) fn of(self, file: &Path) -> IdentityError {
        IdentityError { file: file.to_owned(), reason: self }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "it cannot be read: {why}"),
            Self::TooLarge => f.write_str("it is larger than 1 MiB"),
            Self::NotPem => f.write_str("it is no PEM"),
            Self::Truncated => f.write_str("its PEM is truncated"),
            Self::NoCertificate => f.write_str("there is no certificate in it"),
            Self::NoKey => f.write_str("there is no private key in it"),
            Self::EmptyBundle => f.write_str("there is no root certificate in it"),
            Self::TooManyRoots(count) => {
                write!(f, "there are {count} root certificates in it, and 64 may be")
            }
            Self::NotAnAuthority => f.write_str("a certificate in it is no authority's"),
            Self::Malformed(why) => write!(f, "a certificate in it cannot be parsed: {why}"),
            Self::Expired(at) => write!(f, "the certificate expired on {}", date(*at)),
            Self::NotYetValid(at) => write!(f, "the certificate is not valid before {}", date(*at)),
            Self::UnusableKey => {
                f.write_str("the key is not one of ECDSA P-256, P-384, P-521, Ed25519 or RSA")
            }
            Self::WeakKey => f.write_str("the key is weak: an RSA key has to have 2048 bits or more"),
            Self::KeyMismatch => f.write_str("the key is not the certificate's"),
            Self::NoId(0) => f.write_str("the certificate has no SPIFFE ID"),
            Self::NoId(count) => write!(f, "the certificate has {count} URIs; a SPIFFE certificate has one"),
            Self::BadId(why) => write!(f, "the certificate's URI is no service account's SPIFFE ID: {why}"),
            Self::WrongTrustDomain(domain) => {
                write!(f, "the certificate is one of another trust domain, {domain}")
            }
            Self::WrongName(account) => write!(f, "the certificate is another service account's, {account}"),
            Self::UnknownAuthority => {
                f.write_str("the certificate is not signed by an authority of identity.files.bundle")
            }
            Self::WrongUse => {
                f.write_str("the certificate may not be used on both sides of TLS (extended key usage)")
            }
        }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

impl std::error::Error for IdentityError {}

/// Seconds since 1970 as a date. Later than the year 9999 is that year.
fn date(seconds: u64) -> String {
    const LATEST: u64 = 253_402_300_799;
    fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LATEST)))
}

/// What a certificate's ID has to be.
pub(super) fn expect(
    id: &SpiffeId,
    trust_domain: &TrustDomain,
    account: &ServiceAccount,
) -> Result<(), Reason> {
    if id.trust_domain != *trust_domain {
        return Err(Reason::WrongTrustDomain(id.trust_domain.clone()));
    }
    if id.account != *account {
        return Err(Reason::WrongName(id.account.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_every_calendar_is_a_date() {
        for at in [0, 1, u64::MAX] {
            assert!(Reason::Expired(at).to_string().ends_with("GMT"));
        }
    }
}
