//! Interim answers (1xx, RFC 9110 §15.2) of endpoints, for a client of HTTP/1.1. hyper writes none but 100, so they are
//! written below it.

use http::Response;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::scan::{HeaderScan, L5D};
use super::session::Session;
use super::{headers, overrides};
use crate::proxy::worker::Worker;

/// Fields of one head, at most; a head with more is dropped.
const FIELDS: usize = 100;

/// What concerns one connection alone, or frames a body, which an interim answer has not.
const SPECIFIC: [&str; 7] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

/// The bytes of `heads`, which came from an endpoint of HTTP/1, one behind the other. One that cannot be read is
/// dropped: it says nothing that the answer does not depend on. A stranger gets none of linkerd's fields.
pub(super) fn of_http1(mut heads: &[u8], is_stranger: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(heads.len());
    while !heads.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = head.parse(heads) else { break };
        heads = &heads[length..];
        let named = |name: &str| {
            let connection = head.headers.iter().filter(|it| it.name.eq_ignore_ascii_case("connection"));
            let values = connection.filter_map(|it| std::str::from_utf8(it.value).ok());
            values.flat_map(|it| it.split(',')).any(|it| it.trim().eq_ignore_ascii_case(name))
        };
        let kept = head.headers.iter().filter(|it| !is_dropped(it.name, is_stranger) && !named(it.name));
        write(&mut bytes, head.code.unwrap_or(103), kept.map(|it| (it.name, it.value)));
    }
    bytes
}

/// The bytes of `head`, which came from an endpoint of HTTP/2. A stranger gets none of linkerd's fields.
pub(super) fn of_http2(head: &Response<()>, is_stranger: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let field =
        |(name, value): (&'_ HeaderName, &'_ HeaderValue)| (name.to_string(), value.as_bytes().to_vec());
    let kept = head.headers().iter().filter(|(name, _)| !is_dropped(name.as_str(), is_stranger));
    let fields: Vec<_> = kept.map(field).collect();
    let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    write(&mut bytes, head.status().as_u16(), fields);
    bytes
}

/// Removes what is not for the client of `session` from the head of an interim answer that goes to a client of HTTP/2.
pub fn prepare(worker: &Worker, session: &Session, head: &mut HeaderMap) {
    let scan = HeaderScan::new(head);
    headers::strip_hop_by_hop(scan, session.origin, head);
    let config = || worker.router.snapshot_at(&session.listener).unwrap_or_else(|| worker.router.snapshot());
    if scan.l5d && overrides::is_stranger(session.permitted_as, session.origin, &config().config) {
        overrides::clear_answer(head);
    }
}

fn is_dropped(name: &str, is_stranger: bool) -> bool {
    let is_linkerds = || name.get(..L5D.len()).is_some_and(|start| start.eq_ignore_ascii_case(L5D));
    SPECIFIC.iter().any(|specific| name.eq_ignore_ascii_case(specific)) || (is_stranger && is_linkerds())
}

fn write<'a>(bytes: &mut Vec<u8>, status: u16, fields: impl Iterator<Item = (&'a str, &'a [u8])>) {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason());
    bytes.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or_default()).as_bytes());
    for (name, value) in fields {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_keeps_its_fields_but_those_about_the_connection() {
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-one\r\nX-One: 1\r\nKeep-Alive: 3\r\nContent-Length: 9\r\n\r\n";
        let kept = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        for (heads, expected) in [
            (hint.to_owned(), kept.to_owned()),
            (hint.repeat(2), kept.repeat(2)),
            ("HTTP/1.1 102\r\n\r\n".to_owned(), "HTTP/1.1 102 Processing\r\n\r\n".to_owned()),
            ("HTTP/1.1 199 Own\r\n\r\n".to_owned(), "HTTP/1.1 199 \r\n\r\n".to_owned()),
            (format!("{hint}what is that\r\n\r\n"), kept.to_owned()),
            (format!("HTTP/1.1 103\r\n{}\r\n", "a: b\r\n".repeat(FIELDS + 1)), String::new()),
        ] {
            assert_eq!(String::from_utf8(of_http1(heads.as_bytes(), false)).unwrap(), expected, "{heads}");
        }
        let head = Response::builder().status(103).header("link", "</a>").header("content-length", "3");
        let bytes = of_http2(&head.body(()).unwrap(), false);
        assert_eq!(String::from_utf8(bytes).unwrap(), "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    }
}
