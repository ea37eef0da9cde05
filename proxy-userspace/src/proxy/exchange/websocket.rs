//! The keys of a WebSocket's opening handshake (RFC 6455 §4), where one side of it is HTTP/2, which has none (RFC 8441 §5.1).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderValue, UPGRADE};

/// What is appended to a key before it is hashed (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocol| protocol == "websocket")
}

/// A new `Sec-WebSocket-Key`: 16 random bytes in base64 (RFC 6455 §4.1).
pub(super) fn key() -> HeaderValue {
    value(&STANDARD.encode(fastrand::u128(..).to_ne_bytes()))
}

/// The `Sec-WebSocket-Accept` that proves that a server has read this key (RFC 6455 §4.2.2).
pub(super) fn accept(key: &HeaderValue) -> HeaderValue {
    let whole = [key.as_bytes(), GUID].concat();
    value(&STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole)))
}

fn value(base64: &str) -> HeaderValue {
    // Base64 is ASCII.
    HeaderValue::from_str(base64).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_16_bytes_and_never_the_same() {
        let (one, other) = (key(), key());
        assert_eq!(STANDARD.decode(one.as_bytes()).unwrap().len(), 16);
        assert_ne!(one, other);
    }

    #[test]
    fn the_proof_of_a_key_is_that_of_the_rfc() {
        // RFC 6455 §1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
