//! A request that may be sent once more.
//!
//! hyper gives a request back only when not a byte of it was written. So whatever may be repeated is noted down before
//! it is sent: as a list, which costs half of what a copy of the header map does, and is made a request again only when
//! it is needed.

use http::header::{HeaderName, HeaderValue};
use http::{Extensions, Method, Request, Uri};

use crate::proxy::upstream::RequestBody;

/// The head of a request without a body.
#[derive(Debug)]
pub(super) struct Replay {
    method: Method,
    uri: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
    /// The spelling of header names, where that is kept.
    extensions: Extensions,
}

impl Replay {
    /// Notes `request` down.
    pub(super) fn new(request: &Request<RequestBody>) -> Self {
        let fields = request.headers().iter().map(|(name, value)| (name.clone(), value.clone()));
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            fields: fields.collect(),
            extensions: request.extensions().clone(),
        }
    }

    /// The request again.
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
