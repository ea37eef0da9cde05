//! One request on one stream of HTTP/2.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use h2::RecvStream;
use h2::client::ResponseFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::task::JoinHandle;

use super::replay::Kept;
use super::upload::Upload;
use super::{Conn, Http2, PooledConnection};
use crate::config::Limits;
use crate::proxy::upstream::http2::code;
use crate::proxy::upstream::{InterimAnswers, RequestBody};
use crate::transport::{BodyError, Peer};

/// The right to use one stream of a connection. If it is dropped before it is [complete](Self::complete), what is still
/// to be sent of the request is not sent, and the stream is reset.
#[derive(Debug)]
pub struct StreamPermit {
    slot: Slot,
    /// The rest of the request's body, where the answer began before its end.
    rest: Option<Rest>,
    /// Whether its connection has carried a request before.
    reused: bool,
}

#[derive(Debug)]
struct Slot {
    connection: Arc<Http2>,
    /// Whether the exchange ends before its answer.
    cancels: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.cancels {
            self.connection.stats().cancelled.inc();
        }
        self.connection.release();
    }
}

/// A task that sends the rest of a body; it ends with this value.
#[derive(Debug)]
struct Rest(JoinHandle<()>);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request that is being sent, and whose answer is awaited. If it is dropped, the stream is reset (CANCEL).
#[derive(Debug)]
pub struct Outgoing {
    response: ResponseFuture,
    upload: Option<Upload>,
    interim: Interim,
}

/// What may still come of interim answers (1xx).
#[derive(Debug)]
struct Interim {
    answers: usize,
    bytes: usize,
}

/// A request that could not be sent at all, with its body.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: h2::Error,
    /// Its body, of which nothing was sent.
    pub body: RequestBody,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The stream was reset, or the connection ended.
    Stream(h2::Error),
    /// The client's own body broke off.
    Body(BodyError),
    /// Too many interim answers came.
    Interim,
    /// A 101 came, which HTTP/2 does not have (RFC 9113 §8.6).
    Switched,
}

impl StreamPermit {
    pub(super) fn new(connection: Arc<Http2>, reused: bool) -> Self {
        Self { slot: Slot { connection, cancels: true }, rest: None, reused }
    }

    /// The endpoint.
    pub fn peer(&self) -> &Peer {
        self.slot.connection.peer()
    }

    /// Whether its connection has carried a request before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// As a connection that carries an answer.
    pub fn into_connection(self) -> PooledConnection {
        let (key, peer) = (self.slot.connection.key(), self.peer().clone());
        PooledConnection { conn: Conn::Http2(self), key, peer, reused: true, from: None }
    }

    /// Sends `head`, and then `body` as the endpoint takes it. What is sent of the body is `kept`.
    ///
    /// # Errors
    ///
    /// When the connection takes no more requests; nothing was sent then.
    pub fn send(
        &self,
        head: Request<()>,
        body: RequestBody,
        kept: Kept,
        limits: &Limits,
    ) -> Result<Outgoing, Box<Refused>> {
        let ends = body.is_end_stream();
        let (response, stream) = match self.slot.connection.sender().send_request(head, ends) {
            Ok(sent) => sent,
            Err(error) => return Err(Box::new(Refused { error, body })),
        };
        let interim = Interim { answers: limits.interim_answers, bytes: limits.interim_bytes };
        let stalls = self.slot.connection.stalls();
        let upload = (!ends).then(|| Upload::new(stream, body, kept, stalls.clone()));
        Ok(Outgoing { response, upload, interim })
    }

    /// The answer to `sent` has begun: what is left of the request is sent beside it.
    pub fn answers(&mut self, sent: Outgoing) {
        if let Some(upload) = sent.upload {
            self.rest = Some(Rest(tokio::task::spawn_local(upload.finish())));
        }
    }

    /// The answer is complete. What is left of the request is still sent.
    pub(super) fn complete(mut self) {
        self.slot.cancels = false;
        if let Some(mut rest) = self.rest
            && !rest.0.is_finished()
        {
            let slot = self.slot;
            tokio::task::spawn_local(async move {
                let _ = (&mut rest.0).await;
                drop(slot);
            });
        }
    }

    /// The endpoint, or its connection, ended the stream by `error`.
    pub fn broken(&mut self, error: &h2::Error) {
        self.slot.cancels = false;
        if let Some(reason) = error.reason().filter(|_| error.is_reset() && error.is_remote()) {
            self.slot.connection.stats().resets_received[code(reason)].inc();
        }
    }

    /// Whether the endpoint did not answer a PING, so that its connection was closed.
    pub fn is_unanswered(&self) -> bool {
        self.slot.connection.is_unanswered()
    }
}

impl Outgoing {
    /// The answer. `told` is told of each interim answer before it.
    pub fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        told: Option<&InterimAnswers>,
    ) -> Poll<Result<Response<RecvStream>, NoAnswer>> {
        if let Some(upload) = &mut self.upload {
            match upload.poll(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(NoAnswer::Body(error))),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        let mut is_told = false;
        while let Poll::Ready(Some(more)) = self.response.poll_informational(cx) {
            let more = more.map_err(NoAnswer::Stream)?;
            if more.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(NoAnswer::Switched));
            }
            if !self.interim.takes(more.headers()) {
                return Poll::Ready(Err(NoAnswer::Interim));
            }
            if more.status() == StatusCode::CONTINUE
                && let Some(upload) = &mut self.upload
                && upload.is_asked_for()
            {
                cx.waker().wake_by_ref();
            } else if let Some(told) = told {
                told.tell(more);
                is_told = true;
            }
        }
        if is_told {
            // They are written before the answer, which may be there already.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let answer = ready!(Pin::new(&mut self.response).poll(cx));
        // Without an answer the body may have to be sent again.
        if answer.is_ok() && self.upload.as_ref().is_some_and(Upload::has_ended) {
            self.upload = None;
        }
        Poll::Ready(answer.map_err(NoAnswer::Stream))
    }

    /// The body from its first byte, to be sent again; `None` where too much of it has been sent.
    pub fn into_body(self) -> Option<RequestBody> {
        self.upload.map_or(Some(RequestBody::Empty), Upload::into_body)
    }
}

impl Interim {
    /// Whether one more answer, with these fields, is within the bounds.
    fn takes(&mut self, fields: &HeaderMap) -> bool {
        let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let (answers, bytes) = (self.answers.checked_sub(1), self.bytes.checked_sub(bytes));
        let (Some(answers), Some(bytes)) = (answers, bytes) else { return false };
        (self.answers, self.bytes) = (answers, bytes);
        true
    }
}
