//! Why a handshake between weirs failed, as a label of metrics.

use std::io;

use tokio_rustls::rustls::{CertificateError, Error};

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The peer's certificate has expired.
    Expired = 0,
    /// It is not valid yet.
    NotYetValid = 1,
    /// No root of the bundle signed it.
    UnknownAuthority = 2,
    /// It is valid, but another trust domain's or another service account's.
    WrongName = 3,
    /// It is not one for TLS, or is broken.
    BadCertificate = 4,
    /// The peer has none.
    NoCertificate = 5,
    /// The peer rejected this side's certificate, by an alert.
    Rejected = 6,
    /// The peer does not speak the protocol: a program answered that is no weir, say.
    Protocol = 7,
    /// The connection ended.
    Closed = 8,
    /// It took too long.
    Timeout = 9,
    /// This side has no certificate for the pod.
    NoIdentity = 10,
    /// It was not begun: too many of the source's or of the pod's were going on, or had failed.
    Limited = 11,
}

impl Failure {
    /// The labels in metrics, in order.
    pub const LABELS: [&'static str; 12] = [
        "expired",
        "not_yet_valid",
        "unknown_authority",
        "wrong_name",
        "bad_certificate",
        "no_certificate",
        "rejected",
        "protocol",
        "closed",
        "timeout",
        "no_identity",
        "limited",
    ];

    /// Why a handshake failed with this error.
    pub fn of(cause: &io::Error) -> Self {
        if cause.kind() == io::ErrorKind::TimedOut {
            return Self::Timeout;
        }
        match cause.get_ref().and_then(|it| it.downcast_ref::<Error>()) {
            Some(error) => Self::of_tls(error),
            // What the peer said behind the handshake, or agreed on in it, is no weir's.
            None if cause.kind() == io::ErrorKind::InvalidData => Self::Protocol,
            None => Self::Closed,
        }
    }

    fn of_tls(error: &Error) -> Self {
        use CertificateError::{
            ApplicationVerificationFailure, BadSignature, Expired, ExpiredContext, NotValidYet,
            NotValidYetContext, UnknownIssuer,
        };
        match error {
            Error::InvalidCertificate(Expired | ExpiredContext { .. }) => Self::Expired,
            Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => Self::NotYetValid,
            Error::InvalidCertificate(UnknownIssuer | BadSignature) => Self::UnknownAuthority,
            Error::InvalidCertificate(ApplicationVerificationFailure) => Self::WrongName,
            Error::InvalidCertificate(_) => Self::BadCertificate,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::AlertReceived(_) => Self::Rejected,
            _ => Self::Protocol,
        }
    }

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }
}
