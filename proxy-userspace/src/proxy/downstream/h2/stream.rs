//! One stream of a client's HTTP/2 connection: one exchange.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_ACCEPT};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::oneshot;

use super::body;
use super::interim::Interim;
use crate::proxy::clock::{Clock, Wait};
use crate::proxy::exchange::session::Session;
use crate::proxy::exchange::stream::OnStream;
use crate::proxy::exchange::{self, ResponseBody};
use crate::proxy::listener::{Abuse, Http2Stats};
use crate::proxy::memory::Memory;
use crate::proxy::worker::Worker;
use crate::transport::{Activity, FrameMeter, MessageBody, StreamIo, remove_specific};

/// Why a stream ends before its answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its client has reset it, or the connection has ended.
    Left,
    /// It has exceeded a limit.
    Expired,
    /// Its client does not open its window.
    ClosedWindow,
    /// Its endpoint has reset its own stream with this code, or the answer broke off.
    Broken(Reason),
}

/// The facts of one stream. Dropped when it is over.
pub(super) struct Stream {
    pub(super) session: Rc<Session>,
    pub(super) meter: FrameMeter,
    /// What passes on it.
    pub(super) activity: Activity,
    /// The clock of its exchange.
    pub(super) clock: Clock,
    /// Whether the clock knows which task to wake.
    asked: Cell<bool>,
}

/// Answers the `request` of one stream.
pub(super) async fn serve(
    worker: Rc<Worker>,
    session: Rc<Session>,
    meter: FrameMeter,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let stream = Stream::begin(session.clone(), meter, &worker.shared.memory);
    let (switch, tunnel) = oneshot::channel();
    let is_head = *request.method() == Method::HEAD;
    let is_extended = request.extensions().get::<h2::ext::Protocol>().is_some();
    let (mut request, carried) = split(request);
    let interim = Interim::of(&mut request, &stream.clock, worker.clone(), session.clone());
    let on = OnStream { clock: stream.clock.clone(), tunnel };
    let response = {
        let answer = pin!(exchange::handle(worker, session, request, Some(on)));
        stream.head(&mut respond, answer, &interim).await
    };
    let response = match response {
        Ok(response) => response,
        Err(cut) => return stream.cut(cut, |reason| respond.send_reset(reason)),
    };
    let is_tunnel = !switch.is_closed();
    let (head, body) = head(response, is_tunnel, is_head);
    let ends = !is_tunnel && body.is_end_stream();
    // It fails only where the client has left.
    let Ok(mut send) = respond.send_response(head, ends) else { return stream.cut(Cut::Left, |_| {}) };
    match carried.filter(|_| is_tunnel) {
        Some(recv) => {
            let meter = stream.meter.clone();
            let cut = if is_extended { Reason::CANCEL } else { Reason::CONNECT_ERROR };
            // Nobody waits any more where the tunnel's other side has gone.
            let _ = switch.send(StreamIo::new(send, recv, cut, stream).metered(meter));
        }
        None => {
            let sent = if ends { Ok(()) } else { body::send(&stream, &mut send, body).await };
            match sent {
                Ok(()) => stream.outlast(&mut send).await,
                Err(cut) => stream.cut(cut, |reason| send.send_reset(reason)),
            }
        }
    }
}

/// The request and its body; a CONNECT has none, and its stream may carry bytes.
fn split(request: Request<RecvStream>) -> (Request<Option<MessageBody>>, Option<RecvStream>) {
    let (parts, recv) = request.into_parts();
    if parts.method == Method::CONNECT {
        return (Request::from_parts(parts, None), Some(recv));
    }
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    (Request::from_parts(parts, Some(MessageBody::stream(recv, length))), None)
}

/// The head of an answer as HTTP/2 has it, and its body.
fn head(response: Response<ResponseBody>, is_tunnel: bool, is_head: bool) -> (Response<()>, ResponseBody) {
    let (parts, mut body) = response.into_parts();
    let mut head = Response::new(());
    *head.status_mut() = parts.status;
    *head.headers_mut() = parts.headers;
    remove_specific(head.headers_mut());
    if is_tunnel {
        // RFC 8441 §5.1: an upgrade is any 2xx, and has no key to prove.
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            *head.status_mut() = StatusCode::OK;
            head.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
        }
        head.headers_mut().remove(CONTENT_LENGTH);
    } else if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        head.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    if is_head && matches!(body, ResponseBody::Text(_)) {
        // RFC 9110 §9.3.2: the length that a GET would get, and no content.
        body = ResponseBody::Empty;
    }
    (head, body)
}

impl Stream {
    fn begin(session: Rc<Session>, meter: FrameMeter, memory: &Memory) -> Self {
        let now = Instant::now();
        let activity = Activity::new(now);
        let clock = session.clocks.begin_stream(&activity, now);
        memory.begin_further(&session.activity, now);
        let stream = Self { session, meter, activity, clock, asked: Cell::new(false) };
        stream.stats().streams.inc();
        stream.stats().open_streams.inc();
        stream
    }

    pub(super) fn stats(&self) -> &Http2Stats {
        &self.session.listener.http2
    }

    /// The `answer`, unless the stream is cut before. Interim answers are written meanwhile.
    async fn head<E>(
        &self,
        respond: &mut SendResponse<Bytes>,
        mut answer: Pin<&mut impl Future<Output = Result<Response<ResponseBody>, E>>>,
        interim: &Interim,
    ) -> Result<Response<ResponseBody>, Cut> {
        poll_fn(|cx| {
            self.wake_me(cx);
            if let Poll::Ready(reset) = respond.poll_reset(cx) {
                return Poll::Ready(Err(self.left(reset)));
            }
            self.check()?;
            let answered = answer.as_mut().poll(cx);
            for head in interim.take() {
                // An error is found again when the answer is sent.
                let _ = respond.send_informational(head);
            }
            answered.map(|answer| answer.map_err(|_| Cut::Left))
        })
        .await
    }

    /// Waits for the rest of the request's body, which may outlast the answer.
    async fn outlast(&self, send: &mut SendStream<Bytes>) {
        let ended = poll_fn(|cx| {
            self.wake_me(cx);
            if self.clock.is_over() {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(reset) = send.poll_reset(cx) {
                return Poll::Ready(Err(self.left(reset)));
            }
            self.check()?;
            Poll::Pending
        });
        if ended.await == Err(Cut::Expired) {
            // RFC 9113 §8.1: the answer is complete, and no more of the request is needed.
            self.reset(Reason::NO_ERROR, |reason| send.send_reset(reason));
        }
    }

    /// Registers this task, once, to be woken when the exchange exceeds a limit.
    pub(super) fn wake_me(&self, cx: &Context<'_>) {
        if !self.asked.replace(true) {
            self.clock.wake_when_too_long(cx);
        }
    }

    /// An error when the exchange has exceeded a limit.
    pub(super) fn check(&self) -> Result<(), Cut> {
        if self.clock.wait() == Wait::Expired { Err(Cut::Expired) } else { Ok(()) }
    }

    /// The client has left.
    pub(super) fn left(&self, reset: Result<Reason, h2::Error>) -> Cut {
        if let Ok(code) = reset {
            self.stats().resets_received.count(code);
        }
        Cut::Left
    }

    /// Ends the stream early.
    fn cut(&self, cut: Cut, reset: impl FnOnce(Reason)) {
        match cut {
            Cut::Left => {}
            Cut::Expired => self.reset(Reason::CANCEL, reset),
            Cut::ClosedWindow => {
                self.stats().abuses[Abuse::ClosedWindow as usize].inc();
                self.reset(Reason::ENHANCE_YOUR_CALM, reset);
            }
            Cut::Broken(reason) => self.reset(reason, reset),
        }
    }

    fn reset(&self, reason: Reason, reset: impl FnOnce(Reason)) {
        self.stats().resets_sent.count(reason);
        reset(reason);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stats().open_streams.dec();
        self.clock.abandon();
        self.session.activity.end(Instant::now());
    }
}
