//! The head of a request of HTTP/2 (RFC 9113 §8.3), as one of HTTP/1.1: what follows reads only that form.
//!
//! h2 has checked already that no field is specific to a connection, that `TE` says nothing but `trailers`, that the
//! pseudo-header fields are complete and come first, and it checks that the body has the length that Content-Length says.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};
use http_body::Body;

use super::headers;
use super::scan::HeaderScan;
use super::session::Origin;
use super::websocket;
use crate::config::Limits;
use crate::proxy::fault::{Fault, Kind};

/// Makes an HTTP/1.1 head of the head of `request`: its target in origin-form, exactly one Host where the request says
/// one, one Cookie, and the fields of an upgrade instead of an extended CONNECT (RFC 8441).
///
/// # Errors
///
/// [`Kind::HeadTooLarge`], [`Kind::BadHead`], [`Kind::BadBody`], [`Kind::BadTarget`], [`Kind::NoHost`].
pub(super) fn read<B>(request: &mut Request<B>, origin: Origin, limits: &Limits) -> Result<(), Fault> {
    if request.headers().len() > limits.header_count {
        let why = format!("the request's head is over {} fields (limits.headerCount)", limits.header_count);
        return Err(Fault::new(Kind::HeadTooLarge, why));
    }
    check_values(request.headers())?;
    headers::settle_length(HeaderScan::new(request.headers()), request.headers_mut())?;
    if *request.method() == Method::CONNECT {
        without_content(request.headers_mut())?;
    }
    extended_connect(request)?;
    if *request.method() == Method::CONNECT {
        let authority = request.uri().authority().cloned();
        return authority.map_or(Ok(()), |authority| host(request.headers_mut(), &authority));
    }
    target(request, origin)?;
    join_cookies(request.headers_mut());
    Ok(())
}

/// The value of a field has no space or tab at its ends (RFC 9113 §8.2.1).
fn check_values(headers: &HeaderMap) -> Result<(), Fault> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    match headers.iter().find(|(_, it)| is_blank(it.as_bytes().first()) || is_blank(it.as_bytes().last())) {
        None => Ok(()),
        Some((name, _)) => {
            let why = format!("the value of {name} begins or ends with a space (RFC 9113 §8.2.1)");
            Err(Fault::new(Kind::BadHead, why))
        }
    }
}

/// Turns the target into origin-form, and `:authority` into Host.
fn target<B>(request: &mut Request<B>, origin: Origin) -> Result<(), Fault> {
    let parts = std::mem::take(request.uri_mut()).into_parts();
    if let (Origin::Explicit, Some(scheme)) = (origin, parts.scheme.as_ref())
        && *scheme != Scheme::HTTP
    {
        let why = format!("weir does not speak {scheme} for a client; use CONNECT for anything but http");
        return Err(Fault::new(Kind::BadTarget, why));
    }
    let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let whole_server = path.as_str() == "*" && *request.method() == Method::OPTIONS;
    if !path.as_str().starts_with('/') && !whole_server {
        return Err(Fault::new(Kind::BadTarget, ":path does not begin with a slash"));
    }
    *request.uri_mut() = Uri::from(path);
    match parts.authority {
        Some(authority) => host(request.headers_mut(), &authority),
        None => Ok(()),
    }
}

/// Makes `authority` the Host. A Host that says something else is refused (RFC 9113 §8.3.1): what one recipient takes
/// for the host and another does not helps only an attacker.
fn host(headers: &mut HeaderMap, authority: &Authority) -> Result<(), Fault> {
    if authority.as_str().contains('@') {
        return Err(Fault::new(Kind::BadTarget, ":authority has user information (RFC 9113 §8.3.1)"));
    }
    let said = |host: &HeaderValue| is_same_host(host.as_bytes(), authority.as_str().as_bytes());
    if !headers.get_all(HOST).iter().all(said) {
        return Err(Fault::new(Kind::NoHost, "Host and :authority name different hosts"));
    }
    let host = HeaderValue::from_str(authority.as_str());
    headers.insert(HOST, host.map_err(|_| Fault::new(Kind::NoHost, "the host is not ASCII"))?);
    Ok(())
}

/// Host names are compared without their case, and port 80 is the default.
fn is_same_host(one: &[u8], other: &[u8]) -> bool {
    let plain = |host: &'_ [u8]| host.strip_suffix(b":80").unwrap_or(host).to_ascii_lowercase();
    plain(one) == plain(other)
}

/// Joins the pieces of a Cookie, which HTTP/2 may send as several fields (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(_)) = (pieces.next(), pieces.next()) {
        let mut whole = first.as_bytes().to_vec();
        for piece in headers.get_all(COOKIE).iter().skip(1) {
            whole.extend_from_slice(b"; ");
            whole.extend_from_slice(piece.as_bytes());
        }
        if let Ok(whole) = HeaderValue::from_bytes(&whole) {
            headers.insert(COOKIE, whole);
        }
    }
}

/// Marks a body of unknown length for an endpoint that speaks HTTP/1.1: hyper sends none with these methods otherwise.
pub(super) fn frame<B: Body>(request: &mut Request<B>) {
    if matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.body().is_end_stream()
        && !request.headers().contains_key(CONTENT_LENGTH)
    {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// A CONNECT has no content (RFC 9110 §9.3.6): what follows on its stream are bytes of the tunnel. A length that went on
/// would make its endpoint read the next request on the connection as content.
fn without_content(headers: &mut HeaderMap) -> Result<(), Fault> {
    if headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes().iter().any(|digit| *digit != b'0'))
    {
        return Err(Fault::new(Kind::BadBody, "CONNECT has no body"));
    }
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, EXPECT] {
        headers.remove(name);
    }
    Ok(())
}

/// Turns an extended CONNECT into the GET that asks for the same by Upgrade (RFC 8441 §5).
fn extended_connect<B>(request: &mut Request<B>) -> Result<(), Fault> {
    if *request.method() != Method::CONNECT {
        return Ok(());
    }
    let Some(protocol) = request.extensions_mut().remove::<h2::ext::Protocol>() else { return Ok(()) };
    let bad = || Fault::new(Kind::BadHead, ":protocol is not a token");
    let token = HeaderName::from_bytes(protocol.as_str().as_bytes()).map_err(|_| bad())?;
    if token == "h2c" {
        return Err(Fault::new(
            Kind::BadHead,
            "a stream of HTTP/2 is not upgraded to HTTP/2 (RFC 9113 §3.1)",
        ));
    }
    let upgrade = HeaderValue::from_str(token.as_str()).map_err(|_| bad())?;
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(UPGRADE, upgrade);
    if websocket::is_asked_for(headers) {
        headers.insert(SEC_WEBSOCKET_KEY, websocket::key());
    }
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    Ok(())
}

/// Whether the request is one of gRPC, whose client understands a status in trailers.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    request.version() == Version::HTTP_2
        && request.headers().get(http::header::CONTENT_TYPE).is_some_and(|it| {
            let rest = it.as_bytes().strip_prefix(TYPE);
            rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
        })
}

#[cfg(test)]
#[path = "http2_tests.rs"]
mod tests;
