//! Sends a request's body on a stream of HTTP/2, as the endpoint takes it (RFC 9113 §5.2).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body as _, Frame};

use super::replay::Kept;
use crate::proxy::upstream::RequestBody;
use crate::transport::BodyError;

/// A body that is being sent. If it is dropped before its end, the stream is reset.
#[derive(Debug)]
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    body: RequestBody,
    kept: Kept,
    ended: bool,
}

impl Upload {
    pub(super) fn new(stream: SendStream<Bytes>, body: RequestBody, kept: Kept) -> Self {
        Self { stream, body, kept, ended: false }
    }

    /// Whether there is nothing more to send.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The endpoint asks for the body (100). Returns whether it was held back for that.
    pub(super) fn is_asked_for(&mut self) -> bool {
        let is_held = matches!(self.body, RequestBody::Held(_));
        self.body.release();
        is_held
    }

    /// Sends what the endpoint takes now. Ready when there is nothing more to send, or when the stream takes nothing
    /// more: its answer says why. At most one frame is taken from the client before the endpoint has room for more.
    ///
    /// # Errors
    ///
    /// When the client's body broke off; the stream is reset then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while !self.ended {
            if ready!(self.poll_room(cx)).is_none() {
                return Poll::Ready(Ok(()));
            }
            let (frame, is_last) = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => (frame, self.body.is_end_stream()),
                Some(Err(error)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(error));
                }
                None => (Frame::data(Bytes::new()), true),
            };
            let sent = match frame.into_data() {
                Ok(data) => {
                    self.ended = is_last;
                    self.kept.data(&data);
                    self.stream.send_data(data, self.ended)
                }
                Err(frame) => {
                    self.ended = true;
                    let trailers = frame.into_trailers().unwrap_or_default();
                    self.kept.trailers(&trailers);
                    self.stream.send_trailers(trailers)
                }
            };
            if sent.is_err() {
                return Poll::Ready(Ok(()));
            }
        }
        // The client's side of the exchange is over.
        self.body = RequestBody::Empty;
        Poll::Ready(Ok(()))
    }

    /// Ready when the endpoint has room for at least one byte; `None` when the stream is closed.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.stream.reserve_capacity(1);
        if self.stream.capacity() > 0 {
            return Poll::Ready(self.stream.poll_reset(cx).is_pending().then_some(()));
        }
        let room = ready!(self.stream.poll_capacity(cx));
        Poll::Ready(room.filter(Result::is_ok).map(drop))
    }

    /// Sends the rest, of which nothing is kept any more.
    pub(super) async fn finish(mut self) {
        self.kept.forget();
        // An error has reset the stream, which ends the answer, too.
        let _ = poll_fn(|cx| self.poll(cx)).await;
    }

    /// The whole body, to be sent again; `None` where not all that was sent has been kept.
    pub(super) fn into_body(self) -> Option<RequestBody> {
        self.kept.before(self.body)
    }
}
