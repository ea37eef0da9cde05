//! Answers that weir generates itself.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::response_body::ResponseBody;
use crate::proxy::fault::{Fault, Kind};

/// linkerd's header for errors that the proxy generated; the text is percent-encoded.
pub(super) static L5D_ERR: HeaderName = HeaderName::from_static("l5d-err");

/// The most bytes of an error's text that go into a header.
const MAX_HEADER_TEXT: usize = 1024;

/// The answer to a request that could not be served: the status, and one line with the reason. A stranger gets only the
/// status's standard meaning. A client of gRPC gets its own kind of answer.
pub(super) fn fault(fault: &Fault, is_stranger: bool, is_grpc: bool) -> Response<ResponseBody> {
    match is_grpc {
        true => grpc(fault, is_stranger),
        false => plain(fault, is_stranger).map(ResponseBody::Text),
    }
}

/// What a client is told of a fault.
fn detail(fault: &Fault, is_stranger: bool) -> &str {
    match is_stranger {
        true => fault.kind.status().canonical_reason().unwrap_or_default(),
        false => &fault.detail,
    }
}

/// A trailers-only answer (gRPC over HTTP/2, "Responses"): the status of HTTP is 200, and that of gRPC says the rest.
fn grpc(fault: &Fault, is_stranger: bool) -> Response<ResponseBody> {
    static STATUS: HeaderName = HeaderName::from_static("grpc-status");
    static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
    let mut response = Response::new(ResponseBody::Empty);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(&STATUS, HeaderValue::from(fault.kind.grpc_status()));
    if let Ok(text) = HeaderValue::try_from(percent_encoded(detail(fault, is_stranger))) {
        headers.insert(&MESSAGE, text.clone());
        headers.insert(&L5D_ERR, text);
    }
    response
}

/// The answer of HTTP, as [`fault`].
pub(super) fn plain(fault: &Fault, is_stranger: bool) -> Response<Bytes> {
    let status = fault.kind.status();
    let detail = detail(fault, is_stranger);
    let mut response = Response::new(Bytes::from(format!("{detail}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Ok(text) = HeaderValue::try_from(percent_encoded(detail)) {
        headers.insert(&L5D_ERR, text);
    }
    let closes = match fault.kind {
        // The two sides may parse what follows on the connection differently.
        Kind::TransferCoding | Kind::NoHost | Kind::BadTarget | Kind::BadBody => true,
        // The connection's own memory is needed, too.
        Kind::Memory => true,
        _ => false,
    };
    if closes {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(after) = retry_after(fault.kind) {
        headers.insert(RETRY_AFTER, after);
    }
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    response
}

fn retry_after(kind: Kind) -> Option<HeaderValue> {
    (kind.status() == StatusCode::SERVICE_UNAVAILABLE).then(|| HeaderValue::from_static("1"))
}

/// `text` percent-encoded (RFC 3986 §2.1) except for these characters, cut at a character boundary.
fn percent_encoded(text: &str) -> String {
    const KEPT: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');
    let mut encoded = String::with_capacity(text.len() + 16);
    for piece in text.chars().map(|it| utf8_percent_encode(it.encode_utf8(&mut [0; 4]), KEPT).to_string()) {
        if encoded.len() >= MAX_HEADER_TEXT {
            break;
        }
        encoded.push_str(&piece);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_header_is_always_a_header() {
        for text in ["/svc/hello has no endpoint", "umlaut ä, newline \n, quote \"", &"x".repeat(5000)] {
            let encoded = percent_encoded(text);
            assert!(
                encoded.len() < MAX_HEADER_TEXT + 3 && HeaderValue::try_from(&encoded).is_ok(),
                "{encoded}"
            );
        }
        assert_eq!(percent_encoded("a b%"), "a%20b%25");
    }
}
