//! A request that may be sent again.
//!
//! hyper returns a request only when none of its bytes was written. So the head of a repeatable request is saved before
//! it is sent: as a list, which costs half as much as a copy of the header map, and is rebuilt into a request only when
//! needed.

use http::header::{HeaderName, HeaderValue};
use http::{Extensions, Method, Request, Uri};

use crate::proxy::upstream::RequestBody;

/// The head of a request without a body.
#[derive(Debug)]
pub(super) struct Replay {
    method: Method,
    uri: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
    /// The original case of header names, where it is preserved.
    extensions: Extensions,
}

impl Replay {
    /// Saves the head of `request`.
    pub(super) fn new(request: &Request<RequestBody>) -> Self {
        let fields = request.headers().iter().map(|(name, value)| (name.clone(), value.clone()));
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            fields: fields.collect(),
            extensions: request.extensions().clone(),
        }
    }

    /// Rebuilds the request.
    pub(super) fn request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.extensions_mut() = self.extensions;
        for (name, value) in self.fields {
            request.headers_mut().append(name, value);
        }
        request
    }
}
