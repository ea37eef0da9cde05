//! Reading PEM files.

use std::io::Read;
use std::path::Path;

use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::error::{IdentityError, Reason};
use crate::config::open_regular;

/// The largest file.
pub(super) const BYTES: u64 = 1 << 20;

/// The certificates in a file, in its order. There may be none.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = contents(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    all.map_err(|error| reason(&error).of(path))
}

/// The first private key in a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(&contents(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => Reason::NoKey.of(path),
        error => reason(&error).of(path),
    })
}

fn reason(error: &pem::Error) -> Reason {
    match error {
        pem::Error::MissingSectionEnd { .. } => Reason::Truncated,
        _ => Reason::NotPem,
    }
}

/// What is in a file. It may be a key, and is not left in memory.
fn contents(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let unreadable = |error: std::io::Error| Reason::Unreadable(error.to_string()).of(path);
    let file = open_regular(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size > BYTES {
        return Err(Reason::TooLarge.of(path));
    }
    // With room for one byte more, so that the buffer is not moved, and a file that grows is seen.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 1));
    file.take(BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > BYTES {
        return Err(Reason::TooLarge.of(path));
    }
    Ok(bytes)
}
