//! The ClientHello of TLS (RFC 8446 §4.1.2), over any number of segments and records: the host that it asks for.
//!
//! rustls parses it; weir never ends TLS here, and forwards the very bytes that were read.

use std::io::Read as _;

use tokio_rustls::rustls::server::Acceptor;

/// What the first bytes of a client of TLS say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClientHello {
    /// Its end has not arrived yet.
    Partial,
    /// The host of its server name indication (RFC 6066 §3), in lower case, without a trailing dot.
    Named(String),
    /// It names no host, or an address, which RFC 6066 forbids.
    Unnamed,
    /// It is no ClientHello, or one that rustls rejects.
    Invalid(String),
}

impl ClientHello {
    /// Reads `bytes`, the first of a connection.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let (mut acceptor, mut rest) = (Acceptor::default(), bytes);
        loop {
            // rustls takes some bytes at a time, and no more before it has looked at those.
            let taken = match acceptor.read_tls(&mut rest.by_ref()) {
                Ok(taken) => taken,
                Err(error) => return Self::Invalid(error.to_string()),
            };
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_owned);
                    return name.map_or(Self::Unnamed, Self::Named);
                }
                Ok(None) if taken == 0 => return Self::Partial,
                Ok(None) => {}
                Err((error, _)) => return Self::Invalid(error.to_string()),
            }
        }
    }
}
