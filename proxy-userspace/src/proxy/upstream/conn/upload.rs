//! Sends a request's body on a stream of HTTP/2, as the endpoint takes it (RFC 9113 §5.2).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::{Body as _, Frame};

use super::replay::Kept;
use super::stalls::{Stall, Stalls};
use crate::proxy::upstream::RequestBody;
use crate::transport::{BodyError, remove_specific};

/// A body that is being sent. If it is dropped before its end, the stream is reset.
#[derive(Debug)]
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    body: RequestBody,
    /// What was taken from the body and waits for room; it is kept already.
    next: Option<Next>,
    kept: Kept,
    stalls: Stalls,
    /// While it waits for room.
    stall: Option<Stall>,
    ended: bool,
}

/// What is to be sent next.
#[derive(Debug)]
enum Next {
    /// Data, and whether it is the last.
    Data(Bytes, bool),
    /// The end of a body that has trailers.
    Trailers(HeaderMap),
}

impl Upload {
    /// Sends `body` on `stream`. What is sent is `kept`, and a wait for room is one of `stalls`.
    pub(super) fn new(stream: SendStream<Bytes>, body: RequestBody, kept: Kept, stalls: Stalls) -> Self {
        Self { stream, body, next: None, kept, stalls, stall: None, ended: false }
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
    /// more: its answer says why. At most one frame is taken from the client before the endpoint has room for more. An
    /// empty frame at the end, and trailers, need no room.
    ///
    /// # Errors
    ///
    /// When the client's body broke off, or cannot be sent by HTTP/2; the stream is reset then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while !self.ended {
            if self.stream.poll_reset(cx).is_ready() {
                self.stall = None;
                return Poll::Ready(Ok(()));
            }
            let next = match self.next.take() {
                Some(next) => next,
                None => match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                    Some(Ok(frame)) => self.take(frame),
                    Some(Err(error)) => return self.fail(error),
                    None => Next::Data(Bytes::new(), true),
                },
            };
            let mut room = 0;
            if let Next::Data(data, _) = &next
                && !data.is_empty()
            {
                room = match self.poll_room(data.len(), cx) {
                    Poll::Ready(Some(room)) => room,
                    closed_or_pending => {
                        self.next = Some(next);
                        return closed_or_pending.map(|_| Ok(()));
                    }
                };
            }
            if let Err(error) = self.send(next, room) {
                return self.fail(BodyError::Http2(error));
            }
        }
        // The client's side of the exchange is over.
        self.body = RequestBody::Empty;
        Poll::Ready(Ok(()))
    }

    /// `frame` was taken from the body.
    fn take(&mut self, frame: Frame<Bytes>) -> Next {
        match frame.into_data() {
            Ok(data) => {
                self.kept.data(&data);
                Next::Data(data, self.body.is_end_stream())
            }
            Err(frame) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                remove_specific(&mut trailers);
                self.kept.trailers(&trailers);
                Next::Trailers(trailers)
            }
        }
    }

    /// Sends `next`, of data as much as there is `room` for: h2 would keep the rest, and who waits could not be seen.
    fn send(&mut self, next: Next, room: usize) -> Result<(), h2::Error> {
        match next {
            Next::Data(data, false) if data.is_empty() => Ok(()),
            Next::Data(mut data, is_last) => {
                let piece = data.split_to(room.min(data.len()));
                self.ended = is_last && data.is_empty();
                if !data.is_empty() {
                    self.next = Some(Next::Data(data, is_last));
                }
                self.stream.send_data(piece, self.ended)
            }
            Next::Trailers(trailers) => {
                self.ended = true;
                if trailers.is_empty() {
                    return self.stream.send_data(Bytes::new(), true);
                }
                self.stream.send_trailers(trailers)
            }
        }
    }

    /// The rest of the body does not come.
    fn fail(&mut self, error: BodyError) -> Poll<Result<(), BodyError>> {
        self.stream.send_reset(Reason::CANCEL);
        Poll::Ready(Err(error))
    }

    /// For how many of `wanted` bytes the endpoint has room, which is one at least; `None` when the stream is closed.
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.stream.reserve_capacity(wanted);
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                Poll::Pending => {
                    self.stall.get_or_insert_with(|| self.stalls.begin(Instant::now()));
                    return Poll::Pending;
                }
            }
        }
        self.stall = None;
        Poll::Ready(Some(self.stream.capacity()))
    }

    /// Sends the rest, of which nothing is kept any more.
    pub(super) async fn finish(mut self) {
        self.kept.forget();
        // An error has reset the stream, which ends the answer, too.
        let _ = poll_fn(|cx| self.poll(cx)).await;
    }

    /// The whole body, to be sent again; `None` where not all that was taken of it has been kept.
    pub(super) fn into_body(self) -> Option<RequestBody> {
        self.kept.before(self.body)
    }
}
