//! One request on one stream of HTTP/2.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::task::JoinHandle;

use super::replay::Kept;
use super::upload::Upload;
use super::{Conn, Http2, PooledConnection};
use crate::config::Limits;
use crate::proxy::upstream::http2::code;
use crate::proxy::upstream::{InterimAnswers, RequestBody};
use crate::transport::{BodyError, Peer, StreamIo};

/// The right to use one stream of a connection. If it is dropped before it is [complete](Self::complete), what is still
/// to be sent of the request is not sent, and the stream is reset.
#[derive(Debug)]
pub struct StreamPermit {
    slot: Slot,
    /// The rest of the request's body, where the answer began before its end.
    rest: Option<Rest>,
    /// The sending side of a stream that has become a tunnel.
    tunnel: Option<SendStream<Bytes>>,
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
    /// Of a request for a tunnel, instead of a body.
    tunnel: Option<SendStream<Bytes>>,
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
        Self { slot: Slot { connection, cancels: true }, rest: None, tunnel: None, reused }
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
        PooledConnection { conn: Conn::Http2(self), key, peer, reused: true, from: None, renewed: 0 }
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
        let interim = Interim::within(limits);
        let stalls = self.slot.connection.stalls();
        let upload = (!ends).then(|| Upload::new(stream, body, kept, stalls.clone()));
        Ok(Outgoing { response, upload, tunnel: None, interim })
    }

    /// Whether its endpoint takes extended CONNECT (RFC 8441 §3). Its SETTINGS are awaited for `limit` at most.
    pub async fn takes_extended_connect(&self, limit: Duration) -> bool {
        self.slot.connection.takes_extended_connect(limit).await
    }

    /// Sends `head`, an extended CONNECT. It has no body: what follows are the bytes of the tunnel.
    ///
    /// # Errors
    ///
    /// When the connection takes no more requests; nothing was sent then.
    pub fn ask_for_tunnel(&self, head: Request<()>, limits: &Limits) -> Result<Outgoing, Box<Refused>> {
        let ends = *head.method() != Method::CONNECT;
        let (response, stream) = match self.slot.connection.sender().send_request(head, ends) {
            Ok(sent) => sent,
            Err(error) => return Err(Box::new(Refused { error, body: RequestBody::Empty })),
        };
        let tunnel = (!ends).then_some(stream);
        Ok(Outgoing { response, upload: None, tunnel, interim: Interim::within(limits) })
    }

    /// Whether an answer of `status` to `sent` makes a tunnel of the stream, as any 2xx does (RFC 9110 §9.3.6). Any other ends the
    /// request.
    pub fn switches(&mut self, sent: &mut Outgoing, status: StatusCode) -> bool {
        let Some(mut stream) = sent.tunnel.take() else { return false };
        if !status.is_success() {
            // An error is found again when the answer is read.
            let _ = stream.send_data(Bytes::new(), true);
            return false;
        }
        self.tunnel = Some(stream);
        true
    }

    /// The tunnel that it has become; `received` is its other direction.
    pub fn into_tunnel(mut self, received: RecvStream) -> Option<StreamIo> {
        let stream = self.tunnel.take()?;
        // The end of a tunnel cancels nothing.
        self.slot.cancels = false;
        // As for uploads: what others send may have to wait as long.
        let (stalls, mut stall) = (self.slot.connection.stalls().clone(), None);
        let note = move |waits: bool| {
            drop(stall.take());
            stall = waits.then(|| stalls.begin(Instant::now()));
        };
        // RFC 8441 §5: what is a reset of a connection elsewhere is CANCEL here.
        Some(StreamIo::new(stream, received, Reason::CANCEL, self.slot).tell_of_waits(note))
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
    fn within(limits: &Limits) -> Self {
        Self { answers: limits.interim_answers, bytes: limits.interim_bytes }
    }

    /// Whether one more answer, with these fields, is within the bounds.
    fn takes(&mut self, fields: &HeaderMap) -> bool {
        let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let (answers, bytes) = (self.answers.checked_sub(1), self.bytes.checked_sub(bytes));
        let (Some(answers), Some(bytes)) = (answers, bytes) else { return false };
        (self.answers, self.bytes) = (answers, bytes);
        true
    }
}
