//! `Expect: 100-continue` (RFC 9110 §10.1.1): the client keeps its body back until the endpoint asks for it.
//!
//! hyper tells the client to go on as soon as its body is read. So the body is not read before the endpoint said 100, or
//! has said nothing for `limits.expectContinue`, which RFC 9110 has clients take for a yes. If it answers instead, the
//! body is never sent. A client that sends its body unasked waits for nobody, and neither does weir: the body is passed on
//! as it comes; and so is one of which that cannot be told, its client being told to go on at once. HTTP/1.0 has no interim answers, and its expectation is ignored.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{EXPECT, HeaderMap};
use http::{Request, StatusCode, Version};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::Body;
use crate::proxy::exchange::session::Session;
use crate::proxy::routing::snapshot::World;
use crate::proxy::worker::{Shared, Worker};
use crate::transport::Pulse;

/// Keeps a body back.
#[derive(Debug)]
pub struct Gate {
    asked: oneshot::Receiver<()>,
    pulse: Pulse,
    patience: Pin<Box<Sleep>>,
    shared: Arc<Shared>,
}

impl Gate {
    /// Ready once the body may be sent.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // An error only says that nobody will ask any more, as when the endpoint has answered.
        if !self.asked.is_terminated() && matches!(Pin::new(&mut self.asked).poll(cx), Poll::Ready(Ok(()))) {
            return Poll::Ready(());
        }
        if self.pulse.poll_more(cx).is_ready() {
            return Poll::Ready(());
        }
        ready!(self.patience.as_mut().poll(cx));
        self.shared.unasked.up();
        Poll::Ready(())
    }
}

/// Whether a request expects an interim answer before its body: its only expectation says so.
fn is_expected(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(EXPECT).iter();
    let (only, more) = (fields.next(), fields.next());
    more.is_none() && only.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// What the head of a request with an `Expect` field asks for, read before the head changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expectation {
    /// Nothing that weir knows of.
    None,
    /// HTTP/1.0 asks for what it cannot have: the field is removed.
    Ignored,
    /// An interim answer before the body, of a head that has so many bytes when it is written the usual way.
    Continue(usize),
}

impl Expectation {
    /// Reads it.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        match request.version() {
            _ if !is_expected(request.headers()) => Self::None,
            Version::HTTP_10 => Self::Ignored,
            _ => Self::Continue(usual_length(request)),
        }
    }
}

/// The bytes of a request's head with one space behind each colon, and CRLF.
fn usual_length<B>(request: &Request<B>) -> usize {
    let start = request.method().as_str().len() + request.uri().to_string().len() + "  HTTP/1.1\r\n".len();
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        name.as_str().len() + ": ".len() + value.len() + "\r\n".len()
    };
    start + request.headers().iter().map(field).sum::<usize>() + "\r\n".len()
}

/// Keeps the body of `request` back until the endpoint asks for it, unless some of it has come already.
pub(super) fn hold_back(
    worker: &Worker,
    world: &World,
    session: &Session,
    expectation: Expectation,
    request: &mut Request<Body>,
) {
    match expectation {
        Expectation::None => return,
        Expectation::Ignored => {
            request.headers_mut().remove(EXPECT);
            return;
        }
        Expectation::Continue(usual) if session.pulse.is_head_of(usual) => {}
        Expectation::Continue(_) => return,
    }
    let Body::Request(..) = request.body() else { return };
    let (ask, asked) = oneshot::channel();
    session.pulse.watch_for_more();
    let gate = Gate {
        asked,
        pulse: session.pulse.clone(),
        patience: Box::pin(sleep(world.terms.limits.expect_continue)),
        shared: worker.shared.clone(),
    };
    if let Body::Request(incoming, upload) = std::mem::replace(request.body_mut(), Body::Empty) {
        *request.body_mut() = Body::Held(Box::new((gate, incoming, upload)));
    }
    let ask = Mutex::new(Some(ask));
    hyper::ext::on_informational(request, move |interim| {
        if interim.status() == StatusCode::CONTINUE
            && let Some(ask) = ask.lock().take()
        {
            // The body may be gone already.
            let _ = ask.send(());
        }
    });
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
        assert_eq!(Expectation::of(&request.body(()).unwrap()), Expectation::Continue(head.len()));
    }

    #[test]
    fn only_one_expectation_of_http11_keeps_a_body_back() {
        let of = |version, fields: &[&str]| {
            let mut request = Request::builder().version(version);
            for field in fields {
                request = request.header("expect", *field);
            }
            Expectation::of(&request.body(()).unwrap())
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
