//! `Expect: 100-continue` (RFC 9110 §10.1.1): the client keeps its body back until the endpoint asks for it.
//!
//! hyper tells the client to go on as soon as its body is read. So the body is not read before the endpoint said 100,
//! or has said nothing for a while, which RFC 9110 has clients take for a yes. If it answers instead, the body is
//! never sent.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{EXPECT, HeaderMap};
use http::{Request, StatusCode};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::Body;

/// How long an endpoint may keep silent before the body is sent all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a body back.
#[derive(Debug)]
pub struct Gate {
    asked: oneshot::Receiver<()>,
    patience: Pin<Box<Sleep>>,
}

impl Gate {
    /// Ready once the body may be sent.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // An error only says that nobody will ask any more, as when the endpoint has answered.
        if !self.asked.is_terminated() && matches!(Pin::new(&mut self.asked).poll(cx), Poll::Ready(Ok(()))) {
            return Poll::Ready(());
        }
        self.patience.as_mut().poll(cx)
    }
}

/// Whether the client waits to be told to go on.
pub(super) fn is_expected(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Keeps the body of `request` back until the endpoint asks for it.
pub(super) fn hold_back(request: &mut Request<Body>) {
    let Body::Request(..) = request.body() else { return };
    let (ask, asked) = oneshot::channel();
    let gate = Gate { asked, patience: Box::pin(sleep(PATIENCE)) };
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
