//! What the fuzz targets `translation` and `upgrade` check of heads (`tests/fuzz`). Their kept inputs are run by
//! `cargo test`, too.
//!
//! An input is one head in text: a digit that says from whom it comes and in which version, the method, a space, the target,
//! and then one field a line. Heads that hyper or h2 refuse before weir sees them are left out here as well.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Empty, Full};

use super::headers::Upgrade;
use super::scan::{HeaderScan, KEEP_ALIVE, PROXY_CONNECTION};
use super::session::Origin;
use super::{headers, http2, prepare, translate, websocket};
use crate::config::Limits;

type Body = Either<Empty<Bytes>, Full<Bytes>>;

/// Checks what becomes of a head between HTTP/1 and HTTP/2: one host, one framing, one request.
///
/// # Panics
///
/// When more or less than that comes out.
pub fn translation(input: &[u8]) {
    let Some((mut request, origin)) = read(input) else { return };
    let has_body = matches!(request.body(), Either::Right(_));
    let limits = Limits::default();
    let Ok((head, upgrade)) = prepare(&mut request, origin, &limits, true) else { return };
    check_fields(&request, has_body, upgrade);
    if origin == Origin::Explicit && *request.method() != Method::CONNECT {
        assert!(request.uri().authority().is_none(), "{request:?}");
        assert!(head.has_host() || head.spoken == Version::HTTP_10, "{request:?}");
    }
    check_http1(&request);
    if *request.method() != Method::CONNECT {
        check_http2(&request, &limits);
    }
}

/// Checks what becomes of a head that asks for an upgrade, and of the answer to it.
///
/// # Panics
///
/// When another protocol comes out, or one that nobody asked for.
pub fn upgrade(input: &[u8]) {
    let Some((mut request, origin)) = read(input) else { return };
    let (limits, version) = (Limits::default(), request.version());
    let Ok((_, upgrade)) = prepare(&mut request, origin, &limits, false) else { return };
    if upgrade == Upgrade::None {
        assert!(!request.headers().contains_key(UPGRADE), "{request:?}");
        return;
    }
    assert_ne!(version, Version::HTTP_10);
    let asked = request.headers().get_all(UPGRADE).iter().map(|it| it.as_bytes().to_ascii_lowercase());
    let asked: Vec<_> = asked.collect();
    assert!(!asked.is_empty() && asked.iter().all(|it| it != b"h2c"), "{request:?}");
    let head = translate::to_extended_connect(&request);
    if *head.method() != Method::CONNECT {
        return;
    }
    for gone in [SEC_WEBSOCKET_KEY, CONTENT_LENGTH, TRAILER, EXPECT, CONNECTION, UPGRADE, TRANSFER_ENCODING] {
        assert!(!head.headers().contains_key(&gone), "{gone} in {head:?}");
    }
    let mut again = head.map(|()| Body::Left(Empty::new()));
    let Ok((_, upgrade)) = prepare(&mut again, diverted(), &limits, false) else {
        panic!("what weir sends, weir refuses: {again:?}");
    };
    assert_eq!((again.method(), upgrade), (&Method::GET, Upgrade::Wanted));
    assert_eq!(again.headers()[UPGRADE].as_bytes(), asked[0], "{request:?}");
    check_switch(again.headers());
}

/// Checks the answer that switches, to a request with these fields.
fn check_switch(asked: &HeaderMap) {
    let mut answer = Response::new(());
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("another's"));
    let mut answer = translate::to_switch(asked, answer);
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(!answer.headers().contains_key(CONTENT_LENGTH));
    if websocket::is_asked_for(asked) {
        let proof = websocket::accept(&asked[SEC_WEBSOCKET_KEY]);
        let shown: Vec<_> = answer.headers().get_all(SEC_WEBSOCKET_ACCEPT).iter().collect();
        assert_eq!(shown, [&proof]);
    }
    let scan = HeaderScan::new(answer.headers());
    let kept = headers::strip_hop_by_hop(scan, Origin::Explicit, answer.headers_mut());
    assert_eq!((kept, answer.headers().get(UPGRADE)), (Upgrade::Wanted, asked.get(UPGRADE)));
}

/// Checks the fields that say where a request ends, to whom it goes, and what its connection does.
fn check_fields<B>(request: &Request<B>, has_body: bool, upgrade: Upgrade) {
    let fields = request.headers();
    let all = |name: &HeaderName| fields.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    assert!(all(&HOST).len() <= 1, "{fields:?}");
    let lengths = all(&CONTENT_LENGTH);
    assert!(lengths.len() <= 1 && lengths.iter().all(|it| it.iter().all(u8::is_ascii_digit)), "{fields:?}");
    assert!(has_body || lengths.iter().all(|it| it.iter().all(|digit| *digit == b'0')), "{fields:?}");
    let codings = all(&TRANSFER_ENCODING);
    assert!(codings.is_empty() || (codings == [b"chunked"] && lengths.is_empty() && has_body), "{fields:?}");
    for gone in [&KEEP_ALIVE, &PROXY_CONNECTION] {
        assert!(!fields.contains_key(gone), "{fields:?}");
    }
    let options = all(&CONNECTION);
    assert!(options.iter().all(|it| *it == b"upgrade" || *it == b"te"), "{fields:?}");
    assert_eq!(options.contains(&&b"upgrade"[..]), upgrade == Upgrade::Wanted, "{fields:?}");
    assert_eq!(fields.contains_key(UPGRADE), upgrade == Upgrade::Wanted, "{fields:?}");
    assert!(all(&TE).iter().all(|it| *it == b"trailers"), "{fields:?}");
    assert!(all(&VIA).last().is_some_and(|it| it.ends_with(b" weir")), "{fields:?}");
}

/// Checks that the head, as hyper writes it, is read as this one head.
fn check_http1<B: std::fmt::Debug>(request: &Request<B>) {
    let mut sent = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        sent.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    sent.extend_from_slice(b"\r\n");
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS + headers::ADDED + 4];
    let mut head = httparse::Request::new(&mut fields);
    assert_eq!(head.parse(&sent), Ok(httparse::Status::Complete(sent.len())), "{request:?}");
    assert_eq!((head.method, head.version), (Some(request.method().as_str()), Some(1)));
    assert_eq!(head.headers.len(), request.headers().len(), "{request:?}");
    for (field, (name, value)) in head.headers.iter().zip(request.headers()) {
        assert_eq!((field.name, field.value), (name.as_str(), value.as_bytes()), "{request:?}");
    }
}

/// Checks the head as HTTP/2 (RFC 9113 §8.2, §8.3), and that weir reads of it what it said.
fn check_http2<B>(request: &Request<B>, limits: &Limits) {
    let head = translate::to_http2(request);
    let fields = head.headers();
    for gone in [&CONNECTION, &UPGRADE, &TRANSFER_ENCODING, &KEEP_ALIVE, &PROXY_CONNECTION] {
        assert!(!fields.contains_key(gone), "{head:?}");
    }
    assert!(fields.get_all(TE).iter().all(|te| te == "trailers"), "{head:?}");
    if head.version() != Version::HTTP_2 {
        return;
    }
    let authority = head.uri().authority().map(|it| it.as_str().to_owned());
    let authority = authority.unwrap_or_else(|| panic!("no authority: {head:?}"));
    assert!(!authority.contains('@') && !fields.contains_key(HOST), "{head:?}");
    let path = head.uri().path();
    assert!(path.starts_with('/') || (path == "*" && *head.method() == Method::OPTIONS), "{head:?}");
    let mut again = head.clone();
    match http2::read(&mut again, diverted(), limits) {
        Ok(()) => assert_eq!(again.headers()[HOST].as_bytes(), authority.as_bytes()),
        Err(fault) => panic!("what weir sends, weir refuses: {fault:?} {head:?}"),
    }
    let same = |name: &HeaderName| again.headers().get_all(name).iter().eq(fields.get_all(name).iter());
    assert!(fields.keys().filter(|name| **name != http::header::COOKIE).all(same), "{head:?}");
}

/// More fields are no more kinds of heads.
const MOST_FIELDS: usize = 40;

fn diverted() -> Origin {
    Origin::Diverted(SocketAddr::from((Ipv4Addr::new(10, 96, 0, 10), 80)))
}

/// The head that `input` spells, as hyper or h2 hands it over.
fn read(input: &[u8]) -> Option<(Request<Body>, Origin)> {
    let (first, rest) = input.split_first()?;
    let mut lines = rest.split(|byte| *byte == b'\n');
    let line = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = line.split_once(' ')?;
    let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][usize::from(first % 3)];
    let origin = if first & 8 == 0 { Origin::Explicit } else { diverted() };
    let mut request = Request::new(Body::Left(Empty::new()));
    if first & 16 == 0 {
        *request.body_mut() = Body::Right(Full::new(Bytes::from_static(b"body")));
    }
    *request.version_mut() = version;
    *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    for line in lines.take(MOST_FIELDS) {
        if let Some(protocol) = line.strip_prefix(b":protocol: ") {
            let protocol = std::str::from_utf8(protocol).ok()?;
            request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
            continue;
        }
        let at = line.iter().position(|byte| *byte == b':')?;
        let value = if version == Version::HTTP_2 { &line[at + 1..] } else { line[at + 1..].trim_ascii() };
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(value).ok()?);
    }
    let is_taken = if version == Version::HTTP_2 { h2_takes(&request) } else { hyper_takes(&mut request) };
    is_taken.then_some((request, origin))
}

/// Whether h2 hands such a request over (RFC 9113 §8.2.2, §8.3.1).
fn h2_takes(request: &Request<Body>) -> bool {
    let fields = request.headers();
    let of_connections = [&CONNECTION, &UPGRADE, &TRANSFER_ENCODING, &KEEP_ALIVE, &PROXY_CONNECTION];
    let extended = request.extensions().get::<h2::ext::Protocol>().is_some();
    let has_target = match *request.method() == Method::CONNECT {
        true if !extended => request.uri().authority().is_some() && request.uri().scheme().is_none(),
        true => request.uri().scheme().is_some(),
        false => !extended && request.uri().path_and_query().is_some(),
    };
    has_target
        && !of_connections.iter().any(|name| fields.contains_key(*name))
        && fields.get_all(TE).iter().all(|te| te == "trailers")
}

/// Whether hyper hands such a request over, and the fields as it does (RFC 9112 §6).
fn hyper_takes(request: &mut Request<Body>) -> bool {
    let (version, connects) = (request.version(), *request.method() == Method::CONNECT);
    // A CONNECT of HTTP/1 becomes a tunnel, or is opaque.
    if connects || request.extensions().get::<h2::ext::Protocol>().is_some() {
        return false;
    }
    let fields = request.headers_mut();
    let last = fields.get_all(TRANSFER_ENCODING).iter().next_back();
    let coded = last.is_some();
    let chunked = |it: &HeaderValue| it.as_bytes().to_ascii_lowercase().ends_with(b"chunked");
    if coded && (version == Version::HTTP_10 || !last.is_some_and(chunked)) {
        return false;
    }
    let lengths: Vec<_> = fields.get_all(CONTENT_LENGTH).iter().cloned().collect();
    let is_number = |it: &HeaderValue| !it.is_empty() && it.as_bytes().iter().all(u8::is_ascii_digit);
    match lengths.first() {
        Some(first) if !coded => {
            let is_one = is_number(first) && lengths.iter().all(|it| it == first);
            fields.insert(CONTENT_LENGTH, first.clone());
            is_one
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_translation_was_fuzzed_with_holds() {
        assert!(crate::proxy::kept_inputs("translation", super::translation) >= 10);
    }

    #[test]
    fn what_upgrades_were_fuzzed_with_holds() {
        assert!(crate::proxy::kept_inputs("upgrade", super::upgrade) >= 10);
    }
}
