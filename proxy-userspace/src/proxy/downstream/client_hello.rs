//! The ClientHello of TLS (RFC 8446 §4.1.2), over any number of segments and records: the host that it asks for.
//!
//! rustls parses it; weir never ends TLS here, and forwards the very bytes that were read.

use std::fmt;

use tokio_rustls::rustls::server::Acceptor;

/// The most bytes of a ClientHello: several times what browsers send with post-quantum key shares.
pub(super) const MOST: usize = 16 * 1024;

/// What the first bytes of a client of TLS say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClientHello {
    /// Its end has not arrived yet.
    Partial,
    /// The host of its server name indication (RFC 6066 §3), in lower case, without a trailing dot.
    Named(String),
    /// It names no host, or an address, which RFC 6066 forbids.
    Unnamed,
    /// It is no ClientHello, is too long, or is one that rustls rejects: such as one without `signature_algorithms`, which
    /// clients of TLS 1.2 and newer send (RFC 8446 §9.2, RFC 5246 §7.4.1.4.1).
    Invalid(String),
}

/// Reads a ClientHello as it arrives. Each byte is read once, however small the pieces are.
#[derive(Default)]
pub(super) struct Reader {
    acceptor: Acceptor,
    read: usize,
}

impl Reader {
    /// Reads the next `bytes` of the connection.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> ClientHello {
        self.read += bytes.len();
        loop {
            // rustls takes some bytes at a time, and no more before it has looked at those.
            let taken = match self.acceptor.read_tls(&mut bytes) {
                Ok(taken) => taken,
                Err(error) => return ClientHello::Invalid(error.to_string()),
            };
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_owned);
                    return name.map_or(ClientHello::Unnamed, ClientHello::Named);
                }
                Ok(None) if taken == 0 && self.read > MOST => {
                    return ClientHello::Invalid(format!("a ClientHello over {MOST} bytes"));
                }
                Ok(None) if taken == 0 => return ClientHello::Partial,
                Ok(None) => {}
                Err((error, _)) => return ClientHello::Invalid(error.to_string()),
            }
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("read", &self.read).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello for `name` with as many bytes of padding (RFC 7685).
    fn hello(name: &str, padding: u16) -> Vec<u8> {
        let lengths = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
        let extension = |kind: u16, bytes: &[u8]| [&kind.to_be_bytes()[..], &lengths(bytes), bytes].concat();
        let host = [&[0][..], &lengths(name.as_bytes()), name.as_bytes()].concat();
        let server_name = [&lengths(&host)[..], &host].concat();
        let extensions = [
            extension(0, &server_name),
            extension(13, &[0, 2, 4, 3]),
            extension(21, &vec![0; padding.into()]),
        ]
        .concat();
        let random = [[3, 3].as_slice(), &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
        let body = [&random[..], &lengths(&extensions), &extensions].concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1][..], &length[1..], &body].concat()
    }

    /// A handshake message in records of `size` bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |piece: &[u8]| {
            [&[0x16, 3, 1][..], &u16::try_from(piece.len()).unwrap().to_be_bytes(), piece].concat()
        };
        message.chunks(size).flat_map(record).collect()
    }

    /// What is read of `bytes` that arrive in pieces of `size`.
    fn read(bytes: &[u8], size: usize) -> ClientHello {
        let mut reader = Reader::default();
        let mut said = ClientHello::Partial;
        for piece in bytes.chunks(size) {
            assert_eq!(said, ClientHello::Partial);
            said = reader.read(piece);
            if matches!(said, ClientHello::Invalid(_)) {
                break;
            }
        }
        said
    }

    #[test]
    fn the_name_is_found_however_the_message_is_cut() {
        for padding in [0, 1800, 14_000] {
            let message = hello("Hello.Shop", padding);
            for record in [100, 1000, 16_000] {
                let bytes = records(&message, record);
                for size in [1, 7, 1460, bytes.len()] {
                    let expected = ClientHello::Named("hello.shop".into());
                    assert_eq!(read(&bytes, size), expected, "{padding} {record} {size}");
                    assert_eq!(read(&bytes[..bytes.len() - 1], size), ClientHello::Partial);
                }
            }
        }
        assert_eq!(read(&records(&hello("127.0.0.1", 0), 1000), 1000), ClientHello::Unnamed);
    }

    #[test]
    fn what_is_too_long_or_no_hello_is_invalid() {
        let long = records(&hello("hello", 40_000), 1000);
        let garbage = [&[0x16, 3, 1, 0x3f, 0xff, 1][..], &[0xff; 30_000]].concat();
        for bytes in [&long[..], &garbage, b"\x16\x03\x01\x00\x05\x02\0\0\x01\0", b"GET / HTTP/1.1\r\n\r\n"] {
            for size in [1, 1000, 30_000] {
                let said = read(bytes, size);
                assert!(matches!(said, ClientHello::Invalid(_)), "{said:?}");
            }
        }
    }
}
