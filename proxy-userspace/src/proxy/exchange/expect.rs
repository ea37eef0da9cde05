//! `Expect: 100-continue` (RFC 9110 §10.1.1): the client holds its body back until the endpoint asks for it.
//!
//! hyper sends 100 to the client as soon as the body is polled. So the body is not polled before the endpoint has said
//! 100, or has said nothing for `limits.expectContinue` (RFC 9110 lets clients then send the body anyway). If the
//! endpoint sends a final answer instead, the body is never sent. When a client sends its body without waiting, weir
//! passes it on as it comes. Where weir cannot tell whether body bytes have come, the client gets 100 at once. HTTP/1.0
//! has no interim answers, so its expectation is ignored.

use http::header::{EXPECT, HeaderMap};
use http::{Request, Version};

use crate::config::Limits;
use crate::proxy::upstream::{Gate, RequestBody};
use crate::proxy::worker::Worker;
use crate::transport::Activity;

/// Whether a request expects an interim answer before its body: `100-continue` is its only expectation.
fn is_expected(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(EXPECT).iter();
    let (only, more) = (fields.next(), fields.next());
    more.is_none() && only.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The expectation of a request with an `Expect` field, read before the head changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expectation {
    /// Nothing that weir knows.
    #[default]
    None,
    /// HTTP/1.0 cannot have interim answers: the field is removed.
    Ignored,
    /// An interim answer before the body; the value is the length of the head in its usual spelling, in bytes.
    Continue(usize),
}

impl Expectation {
    /// Reads the expectation.
    pub(super) fn read<B>(request: &Request<B>) -> Self {
        match request.version() {
            _ if !is_expected(request.headers()) => Self::None,
            Version::HTTP_10 => Self::Ignored,
            _ => Self::Continue(usual_length(request)),
        }
    }
}

/// The length of a request's head with one space after each colon, and CRLF, in bytes.
fn usual_length<B>(request: &Request<B>) -> usize {
    let start = request.method().as_str().len() + request.uri().to_string().len() + "  HTTP/1.1\r\n".len();
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        name.as_str().len() + ": ".len() + value.len() + "\r\n".len()
    };
    start + request.headers().iter().map(field).sum::<usize>() + "\r\n".len()
}

/// Holds the body of `request` back until the endpoint asks for it, unless some of it has arrived already.
pub(super) fn hold_back(
    worker: &Worker,
    limits: &Limits,
    activity: &Activity,
    expectation: Expectation,
    request: &mut Request<RequestBody>,
) {
    match expectation {
        Expectation::None => {}
        Expectation::Ignored => {
            request.headers_mut().remove(EXPECT);
        }
        Expectation::Continue(usual) if activity.is_head_of(usual) => {
            Gate::hold(request, activity, limits.expect_continue, &worker.dialer.connecting);
        }
        Expectation::Continue(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_written_the_usual_way_is_as_long_as_it_is_said_to_be() {
        let head =
            "POST http://hello/x?y HTTP/1.1\r\nhost: hello\r\nexpect: 100-Continue\r\na: 1\r\na: 2\r\n\r\n";
        let request = Request::builder().method("POST").uri("http://hello/x?y").header("host", "hello");
        let request = request.header("expect", "100-Continue").header("a", "1").header("a", "2");
        assert_eq!(Expectation::read(&request.body(()).unwrap()), Expectation::Continue(head.len()));
    }

    #[test]
    fn only_one_expectation_of_http11_keeps_a_body_back() {
        let of = |version, fields: &[&str]| {
            let mut request = Request::builder().version(version);
            for field in fields {
                request = request.header("expect", *field);
            }
            Expectation::read(&request.body(()).unwrap())
        };
        assert_eq!(of(Version::HTTP_10, &["100-continue"]), Expectation::Ignored);
        assert!(matches!(of(Version::HTTP_11, &["100-CONTINUE"]), Expectation::Continue(_)));
        for fields in [&[][..], &["200-ok"], &["100-continue, x"], &["100-continue", "100-continue"]] {
            for version in [Version::HTTP_10, Version::HTTP_11] {
                assert_eq!(of(version, fields), Expectation::None, "{fields:?}");
            }
        }
    }
}
