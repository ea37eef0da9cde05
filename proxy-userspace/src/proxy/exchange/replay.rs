//! A request that may be sent again.
//!
//! hyper returns a request only when none of its bytes was written. So the connection keeps the head of a repeatable request as
//! it was written (transport/sent_head.rs): one copy of bytes. It is read into a request again only when needed.

use http::header::{HeaderName, HeaderValue};
use http::{Extensions, Method, Request, Uri};

use crate::proxy::upstream::RequestBody;

/// The request without a body whose head was written as `head`, with its `extensions`: they have the original case of header
/// names, where that is preserved. `None` if `head` is not whole.
pub(super) fn read(head: &[u8], extensions: Extensions) -> Option<Request<RequestBody>> {
    let head = head.strip_suffix(b"\r\n\r\n")?;
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut first = lines.next()?.split(|byte| *byte == b' ');
    let (method, target) = (first.next()?, first.next()?);
    let mut request = Request::new(RequestBody::Empty);
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    *request.extensions_mut() = extensions;
    for line in lines {
        let end = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..end], line[end + 1..].trim_ascii_start());
        let (name, value) = (HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        request.headers_mut().append(name, value);
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use http::header::HeaderMap;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    /// What hyper writes for `request`.
    async fn written(request: Request<RequestBody>) -> Vec<u8> {
        let (here, mut there) = duplex(64 * 1024);
        let (mut sender, connection) = http1::handshake(TokioIo::new(here)).await.unwrap();
        let writes = async {
            let _ = tokio::join!(connection, sender.send_request(request));
        };
        let reads = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(there.read_u8().await.unwrap());
            }
            head
        };
        tokio::select! {
            () = writes => unreachable!("no answer comes"),
            head = reads => head,
        }
    }

    #[tokio::test]
    async fn a_request_is_rebuilt_with_every_field_in_its_order() {
        let mut headers = HeaderMap::new();
        let long = "x".repeat(5_000);
        for (name, value) in [
            ("host", "hello:8080"),
            ("cookie", "a=b; c=d"),
            ("x-empty", ""),
            ("cookie", "e=f:g"),
            ("x-tab", "a\tb"),
            ("x-spaces", "a  b : c"),
            ("x!#$%&'*+-.^_`|~9", ":"),
            ("x-long", &long),
            ("content-length", "0"),
        ] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers.append("x-not-ascii", HeaderValue::from_bytes(b"\xffpi\xc3\xa8ce\x80").unwrap());
        for target in ["/", "/a?b", "/a%20b?c=d&e", "*", "/{a}?b"] {
            for method in [Method::PUT, Method::GET, Method::OPTIONS, Method::from_bytes(b"PURGE").unwrap()] {
                let mut request = Request::new(RequestBody::Empty);
                *request.method_mut() = method.clone();
                *request.uri_mut() = Uri::try_from(target).unwrap();
                *request.headers_mut() = headers.clone();
                request.extensions_mut().insert(7_u8);
                let extensions = request.extensions().clone();
                let rebuilt = read(&written(request).await, extensions).unwrap();
                assert_eq!((rebuilt.method(), rebuilt.uri().to_string()), (&method, target.to_owned()));
                assert_eq!(rebuilt.extensions().get(), Some(&7_u8));
                let fields = |it: &HeaderMap| -> Vec<_> {
                    it.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
                };
                assert_eq!(fields(rebuilt.headers()), fields(&headers));
            }
        }
    }

    #[test]
    fn a_part_of_a_head_is_no_request() {
        for part in [
            "",
            "GET",
            "GET /",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost",
        ] {
            assert!(read(part.as_bytes(), Extensions::new()).is_none(), "{part}");
        }
    }
}
