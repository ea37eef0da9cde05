//! The body of an answer, sent on a stream as its client's window allows.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body, Frame};

use super::stream::{Cut, Stream};
use crate::proxy::clock::{Clock, Wait};
use crate::proxy::exchange::ResponseBody;
use crate::transport::{BodyError, remove_specific};

/// Sends `body`. The next frame is read when the last one was sent: so at most one waits for the window.
pub(super) async fn send(
    stream: &Stream,
    send: &mut SendStream<Bytes>,
    mut body: ResponseBody,
) -> Result<(), Cut> {
    loop {
        let Some(frame) = read(stream, send, &mut body).await? else {
            // It needs no window.
            return send.send_data(Bytes::new(), true).map_err(|_| Cut::Left);
        };
        let trailers = match frame.into_data() {
            Ok(data) => {
                let is_last = body.is_end_stream();
                write(stream, send, data, is_last).await?;
                if is_last {
                    return Ok(());
                }
                continue;
            }
            Err(frame) => frame.into_trailers(),
        };
        if let Ok(mut trailers) = trailers {
            remove_specific(&mut trailers);
            return send.send_trailers(trailers).map_err(|_| Cut::Left);
        }
    }
}

/// The next frame of `body`, unless the stream is cut before.
async fn read(
    stream: &Stream,
    send: &mut SendStream<Bytes>,
    body: &mut ResponseBody,
) -> Result<Option<Frame<Bytes>>, Cut> {
    poll_fn(|cx| {
        stream.wake_me(cx);
        if let Poll::Ready(reset) = send.poll_reset(cx) {
            return Poll::Ready(Err(stream.left(reset)));
        }
        stream.check()?;
        let frame = Pin::new(&mut *body).poll_frame(cx);
        frame.map(|frame| frame.transpose().map_err(|error| Cut::Broken(code(&error))))
    })
    .await
}

/// The code for an answer that broke off: that of an endpoint's own reset, where it has one that says so.
fn code(error: &BodyError) -> Reason {
    let code = match error {
        BodyError::Http2(error) if error.is_reset() && error.is_remote() => error.reason(),
        BodyError::Http1(_) | BodyError::Http2(_) => None,
    };
    code.filter(|code| *code != Reason::NO_ERROR).unwrap_or(Reason::INTERNAL_ERROR)
}

/// Sends `data`, each piece once the window allows it and h2's buffer has room: so h2 holds one frame at most of a stream
/// whose client opens windows and does not read.
async fn write(
    stream: &Stream,
    send: &mut SendStream<Bytes>,
    mut data: Bytes,
    is_last: bool,
) -> Result<(), Cut> {
    if data.is_empty() && is_last {
        return send.send_data(data, true).map_err(|_| Cut::Left);
    }
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        if send.capacity() == 0 {
            wait(stream, send).await?;
        }
        let piece = data.split_to(send.capacity().min(data.len()));
        stream.meter.sent(piece.len());
        send.send_data(piece, is_last && data.is_empty()).map_err(|_| Cut::Left)?;
        let now = Instant::now();
        stream.activity.passed(now);
        stream.session.activity.passed(now);
    }
    Ok(())
}

/// Waits until the stream's window is open. The exchange may be over by then: the wait has a clock of its own.
async fn wait(stream: &Stream, send: &mut SendStream<Bytes>) -> Result<(), Cut> {
    let began = Instant::now();
    let clock = stream.session.clocks.begin_stream(&stream.activity, began);
    clock.set_wait(Wait::Window);
    let mut asked = false;
    stream.session.activity.set_waiting(true);
    let waited = poll_fn(|cx| poll_window(&clock, &mut asked, send, cx)).await;
    stream.session.activity.set_waiting(false);
    let now = Instant::now();
    clock.abandon();
    stream.stats().window_waits.observe(now.saturating_duration_since(began));
    match waited {
        Ok(()) => Ok(()),
        Err(Cut::Left) => Err(match poll_once(send).await {
            Some(reset) => stream.left(reset),
            None => Cut::Left,
        }),
        Err(cut) => Err(cut),
    }
}

fn poll_window(
    clock: &Clock,
    asked: &mut bool,
    send: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Cut>> {
    if !std::mem::replace(asked, true) {
        clock.wake_when_too_long(cx);
    }
    if clock.wait() == Wait::Expired {
        return Poll::Ready(Err(Cut::ClosedWindow));
    }
    loop {
        match send.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) if send.capacity() > 0 => return Poll::Ready(Ok(())),
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Cut::Left)),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// How the client has left, where it says so.
async fn poll_once(send: &mut SendStream<Bytes>) -> Option<Result<Reason, h2::Error>> {
    poll_fn(|cx| {
        Poll::Ready(match send.poll_reset(cx) {
            Poll::Ready(reset) => Some(reset),
            Poll::Pending => None,
        })
    })
    .await
}
