//! A request that may be sent again.
//!
//! hyper returns a request only when none of its bytes was written. So the head of a repeatable request is saved before
//! it is sent. The fields are saved as text, in one buffer: a list of names and values costs more, since each of them has
//! a reference count, and a copy of the header map still more. The text is read into a request again only when needed.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Extensions, Method, Request, Uri};

use crate::proxy::upstream::RequestBody;

/// Ends a name: no name contains it (RFC 9110 §5.6.2).
const NAME_END: u8 = b':';

/// Ends a value: no value contains it (RFC 9110 §5.5).
const VALUE_END: u8 = b'\n';

/// The head of a request without a body.
#[derive(Debug)]
pub(super) struct Replay {
    method: Method,
    uri: Uri,
    /// Each field as its name, [`NAME_END`], its value and [`VALUE_END`].
    fields: Vec<u8>,
    /// The original case of header names, where it is preserved.
    extensions: Extensions,
}

impl Replay {
    /// Saves the head of `request`.
    pub(super) fn new(request: &Request<RequestBody>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            fields: written(request.headers()),
            extensions: request.extensions().clone(),
        }
    }

    /// Rebuilds the request.
    pub(super) fn request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.extensions_mut() = self.extensions;
        read(&self.fields, request.headers_mut());
        request
    }
}

/// The fields of `headers` as text.
fn written(headers: &HeaderMap) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    for (name, value) in headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.push(NAME_END);
        text.extend_from_slice(value.as_bytes());
        text.push(VALUE_END);
    }
    text
}

/// Adds the fields of `text` to `headers`, in their order.
fn read(text: &[u8], headers: &mut HeaderMap) {
    for line in text.split(|byte| *byte == VALUE_END) {
        let Some(end) = line.iter().position(|byte| *byte == NAME_END) else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..end]), HeaderValue::from_bytes(&line[end + 1..]));
        // They are valid: they come from a header map.
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_rebuilt_with_every_field_in_its_order() {
        let mut headers = HeaderMap::new();
        let long = "x".repeat(5_000);
        for (name, value) in [
            ("host", "hello:8080"),
            ("cookie", "a=b; c=d"),
            ("x-empty", ""),
            ("cookie", "e=f:g"),
            ("x-tab", "a\tb"),
            ("x!#$%&'*+-.^_`|~9", ":"),
            ("x-long", &long),
        ] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers.append("x-not-ascii", HeaderValue::from_bytes(b"\xffpi\xc3\xa8ce\x80").unwrap());
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = Uri::from_static("/a?b");
        *request.headers_mut() = headers.clone();
        let rebuilt = Replay::new(&request).request();
        assert_eq!((rebuilt.method(), rebuilt.uri()), (&Method::PUT, &Uri::from_static("/a?b")));
        assert_eq!(*rebuilt.headers(), headers);
        let fields = |it: &HeaderMap| -> Vec<_> {
            it.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        assert_eq!(fields(rebuilt.headers()), fields(&headers));
    }
}
