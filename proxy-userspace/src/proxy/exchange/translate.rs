//! Requests for HTTP/2, and answers of HTTP/2 for HTTP/1.1 (RFC 9113 §8.2.2, §8.3.1; RFC 9112 §7.1.2).
//!
//! An exchange has its request as HTTP/1.1. What frames a message is not translated: the side that sends it frames it
//! anew.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, Scheme, Uri};
use http::{Method, Request, Response, StatusCode, Version};

use super::scan::{KEEP_ALIVE, PROXY_CONNECTION};
use super::websocket;

static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The head of `request` as HTTP/2: without fields about one connection, with its Host as `:authority`.
pub(super) fn to_http2<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.version_mut() = Version::HTTP_2;
    let mut fields = request.headers().clone();
    for name in [&CONNECTION, &UPGRADE, &TRANSFER_ENCODING, &KEEP_ALIVE, &PROXY_CONNECTION, &HTTP2_SETTINGS] {
        fields.remove(name);
    }
    if fields.get(TE).is_some_and(|te| te != "trailers") {
        fields.remove(TE);
    }
    if let Some(uri) = whole(request.uri(), &fields) {
        fields.remove(HOST);
        *head.uri_mut() = uri;
    } else {
        *head.uri_mut() = request.uri().clone();
        if request.uri().authority().is_none() {
            // Without a host there is no `:authority` either (RFC 9113 §8.3.1).
            *head.version_mut() = Version::HTTP_11;
        }
    }
    *head.headers_mut() = fields;
    head
}

/// The target with scheme and authority, for a target that is a path, or a whole URL already. `None` for that of
/// CONNECT, and where no host is known.
fn whole(target: &Uri, fields: &HeaderMap) -> Option<Uri> {
    let path = target.path_and_query()?;
    let host = fields.get(HOST).filter(|host| !host.is_empty());
    let authority = match host.map(|host| Authority::try_from(host.as_bytes())) {
        Some(authority) => authority.ok()?,
        None => without_user(target.authority()?)?,
    };
    let scheme = target.scheme().cloned().unwrap_or(Scheme::HTTP);
    Uri::builder().scheme(scheme).authority(authority).path_and_query(path.clone()).build().ok()
}

/// `authority` without user information, which `:authority` may not have.
fn without_user(authority: &Authority) -> Option<Authority> {
    match authority.as_str().rsplit_once('@') {
        None => Some(authority.clone()),
        Some((_, host)) => host.parse().ok(),
    }
}

/// The head of `request`, which asks for an upgrade, as an extended CONNECT (RFC 8441 §4); [`to_http2`] where that cannot say
/// it, since it has no host or offers several protocols.
pub(super) fn to_extended_connect<B>(request: &Request<B>) -> Request<()> {
    let mut head = to_http2(request);
    let token = request.headers().get(UPGRADE).and_then(|it| HeaderName::from_bytes(it.as_bytes()).ok());
    let several = request.headers().get_all(UPGRADE).iter().count() > 1;
    let (Some(token), false, Some(_)) = (token, several, head.uri().authority()) else { return head };
    *head.method_mut() = Method::CONNECT;
    // It has no content, and what follows are no bytes of one.
    for name in [SEC_WEBSOCKET_KEY, CONTENT_LENGTH, TRAILER, EXPECT] {
        head.headers_mut().remove(name);
    }
    head.extensions_mut().insert(h2::ext::Protocol::from(token.as_str()));
    head
}

/// The answer to an extended CONNECT as one to the upgrade that these fields of a request ask for: its stream is a tunnel.
pub(super) fn to_switch<B>(asked: &HeaderMap, mut answer: Response<B>) -> Response<B> {
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = answer.headers_mut();
    // A tunnel has no length.
    fields.remove(CONTENT_LENGTH);
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = asked.get(UPGRADE) {
        fields.insert(UPGRADE, protocol.clone());
    }
    if let Some(key) = asked.get(SEC_WEBSOCKET_KEY) {
        fields.insert(SEC_WEBSOCKET_ACCEPT, websocket::accept(key));
    }
    answer
}

/// Prepares the answer to a gRPC call for HTTP/1.1, which sends only trailers that were announced.
pub(super) fn call_to_http1(fields: &mut HeaderMap) {
    if !fields.contains_key(TRAILER) {
        fields
            .insert(TRAILER, HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::upstream::RequestBody;

    type Fields = &'static [(&'static str, &'static str)];

    fn request(method: &str, target: &str, fields: Fields) -> Request<RequestBody> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(RequestBody::Empty).unwrap()
    }

    fn shown(fields: &HeaderMap) -> Vec<(String, String)> {
        let shown = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        fields.iter().map(shown).collect()
    }

    #[test]
    fn a_request_as_http2_has_an_authority_and_no_field_about_one_connection() {
        let cases: [(&str, &str, Fields, &str, Fields); 9] = [
            ("GET", "/x?y", &[("host", "hello:81")], "http://hello:81/x?y", &[]),
            ("GET", "http://hello/x", &[], "http://hello/x", &[]),
            ("GET", "http://me:secret@hello/x", &[], "http://hello/x", &[]),
            ("GET", "http://b/x", &[("host", "a")], "http://a/x", &[]),
            ("OPTIONS", "*", &[("host", "hello")], "http://hello*", &[]),
            (
                "GET",
                "/",
                &[("host", "a"), ("connection", "te"), ("te", "trailers"), ("keep-alive", "3")],
                "http://a/",
                &[("te", "trailers")],
            ),
            (
                "GET",
                "/",
                &[("host", "a"), ("connection", "upgrade"), ("upgrade", "chat"), ("proxy-connection", "x")],
                "http://a/",
                &[],
            ),
            (
                "GET",
                "/",
                &[("host", "a"), ("te", "gzip"), ("transfer-encoding", "chunked")],
                "http://a/",
                &[],
            ),
            ("GET", "/", &[("host", "")], "/", &[("host", "")]),
        ];
        for (method, target, fields, whole, left) in cases {
            let head = to_http2(&request(method, target, fields));
            let left: Vec<_> =
                left.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            assert_eq!(
                (head.uri().to_string().as_str(), shown(head.headers())),
                (whole, left),
                "{target} {fields:?}"
            );
        }
        assert_eq!(to_http2(&request("OPTIONS", "*", &[("host", "hello")])).uri().path(), "*");
    }
}
