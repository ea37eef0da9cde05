//! Holds a body back until its endpoint asks for it (`Expect: 100-continue`, RFC 9110 §10.1.1).
//!
//! The gate opens when the endpoint has said 100, when it has said nothing for `limits.expectContinue` (RFC 9110 lets
//! clients then send the body anyway), or when the client sends more without waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, StatusCode};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::RequestBody;
use super::dial::Connecting;
use crate::transport::Activity;

/// Holds a body back.
#[derive(Debug)]
pub struct Gate {
    asked: oneshot::Receiver<()>,
    activity: Activity,
    patience: Pin<Box<Sleep>>,
    connecting: Arc<Connecting>,
}

impl Gate {
    /// Holds the body of `request` back for `patience`, unless the endpoint asks for it or the client of `activity`
    /// sends more. A timeout is counted in `connecting`.
    pub fn hold(
        request: &mut Request<RequestBody>,
        activity: &Activity,
        patience: Duration,
        connecting: &Arc<Connecting>,
    ) {
        let RequestBody::Client(..) = request.body() else { return };
        let (ask, asked) = oneshot::channel();
        activity.watch_for_more();
        request.body_mut().hold(Self {
            asked,
            activity: activity.clone(),
            patience: Box::pin(sleep(patience)),
            connecting: connecting.clone(),
        });
        let ask = Mutex::new(Some(ask));
        hyper::ext::on_informational(request, move |interim| {
            if interim.status() == StatusCode::CONTINUE
                && let Some(ask) = ask.lock().take()
            {
                // The body may have been dropped already.
                let _ = ask.send(());
            }
        });
    }

    /// Ready once the body may be sent.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // An error only means that the endpoint will not ask any more, e.g. because it has answered.
        if !self.asked.is_terminated() && matches!(Pin::new(&mut self.asked).poll(cx), Poll::Ready(Ok(()))) {
            return Poll::Ready(());
        }
        if self.activity.poll_more(cx).is_ready() {
            return Poll::Ready(());
        }
        ready!(self.patience.as_mut().poll(cx));
        self.connecting.unasked.inc();
        Poll::Ready(())
    }
}
