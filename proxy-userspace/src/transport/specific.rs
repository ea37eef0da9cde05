//! Header fields that HTTP/2 does not have.

use http::header::{CONNECTION, HeaderMap, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};

/// Those that concern one connection of HTTP/1 (RFC 9113 §8.2.2).
static SPECIFIC: [HeaderName; 6] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
];

/// Removes what is specific to a connection from an answer, or from trailers: h2 sends no such field.
pub fn remove_specific(headers: &mut HeaderMap) {
    for name in &SPECIFIC {
        headers.remove(name);
    }
}
