//! Whether hyper can parse the first head of a diverted connection.
//!
//! Interception must be transparent to the application. What its server accepts and hyper's parser does not (`"` or `<`
//! in a target, bytes that are not UTF-8, an obs-fold field) must not become a 400: such a connection is forwarded as
//! opaque bytes to a balanced endpoint. That is safe, since weir frames nothing in it and no other client shares its
//! upstream connection. Ambiguous lengths are still refused by hyper.

use http::{HeaderName, Method, Uri};

use crate::config::Limits;

/// Result of parsing a first head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum FirstHead {
    /// hyper reads it, or reports the bound that it exceeds.
    Held,
    /// hyper cannot parse it.
    Unparsed,
    /// Its end has not arrived yet.
    Partial,
}

impl FirstHead {
    /// The result for a connection that began with `bytes`.
    pub(in crate::proxy) fn parse(bytes: &[u8], limits: &Limits) -> Self {
        let mut fields = vec![httparse::EMPTY_HEADER; limits.header_count];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(httparse::Status::Partial) if bytes.len() > limits.header_bytes => Self::Held,
            Ok(httparse::Status::Partial) => Self::Partial,
            Ok(httparse::Status::Complete(_)) if is_held(&request) => Self::Held,
            Err(httparse::Error::TooManyHeaders) => Self::Held,
            Ok(httparse::Status::Complete(_)) | Err(_) => Self::Unparsed,
        }
    }
}

/// Whether the `http` crate can represent its parts: hyper builds its values from them.
fn is_held(request: &httparse::Request<'_, '_>) -> bool {
    let method = request.method.is_some_and(|method| Method::from_bytes(method.as_bytes()).is_ok());
    let target = request.path.is_some_and(|target| Uri::try_from(target).is_ok());
    method && target && request.headers.iter().all(|field| HeaderName::try_from(field.name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &[u8]) -> FirstHead {
        FirstHead::parse(head, &Limits::default())
    }

    #[test]
    fn what_servers_take_and_hyper_does_not_is_unparsed() {
        let heads: [&[u8]; 8] = [
            b"GET /api?query=up{job=\"x\"} HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /a?x=<b> HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /`a` HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /\xe9t\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX (odd): 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
        ];
        for head in heads {
            let shown = String::from_utf8_lossy(head);
            assert_eq!(of(head), FirstHead::Unparsed, "{shown}");
            assert_ne!(of(&head[..10]), FirstHead::Held, "{shown}");
        }
    }

    #[test]
    fn what_hyper_reads_or_refuses_by_a_bound_is_held() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(Limits::default().header_count + 1));
        let large = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(Limits::default().header_bytes));
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a%20b?c=d%22 HTTP/1.0\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            &many,
            &large,
        ] {
            assert_eq!(of(head.as_bytes()), FirstHead::Held, "{}", &head[..40.min(head.len())]);
        }
        assert_eq!(of(b"GET / HTTP/1.1\r\nHost: a\r\n"), FirstHead::Partial);
    }
}
