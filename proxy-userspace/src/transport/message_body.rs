//! The body of a received message, in any version of HTTP.
//!
//! Frames pass one at a time, as the other side reads them, trailers included. Of HTTP/2 the flow-control capacity of a
//! frame is released when the frame is taken (RFC 9113 §5.2): so a receiver that takes no frame stops its own stream
//! and no other.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::wakeups::Hold;

/// The body of a received message.
#[derive(Debug)]
pub enum MessageBody {
    /// Of HTTP/1.
    Http1(Incoming),
    /// Of one stream of HTTP/2.
    Http2(Box<StreamBody>),
}

/// The body of one stream of HTTP/2.
#[derive(Debug)]
pub struct StreamBody {
    stream: RecvStream,
    /// What is still to come by Content-Length; `None` where it has none.
    left: Option<u64>,
    /// Whether the data has ended: then the trailers are awaited.
    data_ended: bool,
    /// Whether all of it has come.
    is_whole: bool,
}

/// Why a body broke off.
#[derive(Debug)]
pub enum BodyError {
    /// Of HTTP/1.
    Http1(hyper::Error),
    /// Of HTTP/2: a reset of the stream, or the end of the connection.
    Http2(h2::Error),
}

/// The body of a message as its connection has it.
pub trait Received {
    /// The body, if the message can have one.
    fn received(self) -> Option<MessageBody>;
}

impl Received for Incoming {
    fn received(self) -> Option<MessageBody> {
        Some(self.into())
    }
}

impl Received for Option<MessageBody> {
    fn received(self) -> Option<MessageBody> {
        self
    }
}

impl MessageBody {
    /// The body of `stream`, which has `length` bytes where that is known.
    pub fn stream(stream: RecvStream, length: Option<u64>) -> Self {
        let mut body = StreamBody { stream, left: length, data_ended: false, is_whole: false };
        body.note_end();
        Self::Http2(Box::new(body))
    }

    /// Its stream of HTTP/2, of which nothing has been read.
    pub fn into_stream(self) -> Option<RecvStream> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(body) => Some(body.stream),
        }
    }
}

impl From<Incoming> for MessageBody {
    fn from(incoming: Incoming) -> Self {
        Self::Http1(incoming)
    }
}

impl StreamBody {
    /// Notes whether it has ended as it should. Of a stream that was reset h2 says, too, that it has ended: who believed
    /// that would pass on a part as the whole.
    fn note_end(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        if self.stream.is_end_stream() && matches!(self.stream.poll_data(&mut nobody), Poll::Ready(None)) {
            (self.data_ended, self.is_whole) = (true, self.left.is_none_or(|left| left == 0));
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        while !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    if let Err(error) = self.stream.flow_control().release_capacity(data.len()) {
                        return Poll::Ready(Some(Err(error)));
                    }
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    // Padding alone, or an empty frame before the end of the stream, is no progress for the receiver.
                    if !data.is_empty() {
                        self.note_end();
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.is_whole |= trailers.is_ok();
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }
}

impl Body for MessageBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Http1(incoming) => {
                let hold = Hold::begin();
                let frame = Pin::new(&mut *incoming).poll_frame(cx).map_err(BodyError::Http1);
                // Its connection has read the end of the message already.
                if matches!(frame, Poll::Ready(Some(Ok(_)))) && incoming.is_end_stream() {
                    hold.discard();
                }
                frame
            }
            Self::Http2(body) => body.poll_frame(cx).map_err(BodyError::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(body) => body.is_whole,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(body) => body.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1(error) => error.fmt(to),
            Self::Http2(error) => error.fmt(to),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Http1(error) => Some(error),
            Self::Http2(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Request;
    use http_body_util::Empty;
    use hyper::client::conn::http1::{SendRequest, handshake};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::yield_now;

    use super::*;
    use crate::transport::Relayed;

    /// A connection on which requests can be sent, its other end, and how often its task was polled.
    async fn connection() -> (SendRequest<Empty<Bytes>>, DuplexStream, impl Fn() -> usize) {
        let (here, there) = duplex(64 * 1024);
        let (sender, connection) = handshake(TokioIo::new(here)).await.unwrap();
        let polls = Arc::new(AtomicUsize::new(0));
        let count = polls.clone();
        let mut connection = Relayed::new(connection);
        tokio::spawn(poll_fn(move |cx| {
            count.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut connection).poll(cx).map(drop)
        }));
        (sender, there, move || polls.load(Ordering::Relaxed))
    }

    async fn all_have_run() {
        for _ in 0..8 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_last_piece_of_an_answer_wakes_nobody_and_every_other_one_its_connection() {
        let (mut sender, mut there, polls) = connection().await;
        // The length of the first two is known; of the third the end has to be read.
        let answers = [
            &["Content-Length: 2\r\n\r\nok"][..],
            &["Content-Length: 4\r\n\r\nok", "ok"],
            &["Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "0\r\n\r\n"],
        ];
        for pieces in answers.repeat(3) {
            sender.ready().await.unwrap();
            let answer = sender.send_request(Request::new(Empty::new()));
            let begins = async {
                assert!(there.read(&mut [0; 1024]).await.unwrap() > 0);
                there.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
                there.write_all(pieces[0].as_bytes()).await.unwrap();
            };
            let (answer, ()) = tokio::join!(answer, begins);
            let mut body = MessageBody::from(answer.unwrap().into_body());
            let (mut text, mut rest) = (Vec::new(), pieces[1..].iter());
            loop {
                all_have_run().await;
                let before = polls();
                let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else { break };
                text.extend_from_slice(frame.unwrap().data_ref().unwrap());
                all_have_run().await;
                assert_eq!(polls() > before, !body.is_end_stream(), "{pieces:?}");
                match rest.next() {
                    Some(next) => there.write_all(next.as_bytes()).await.unwrap(),
                    None => break,
                }
            }
            assert!(
                text.starts_with(b"ok") && body.is_end_stream() != pieces[0].starts_with('T'),
                "{pieces:?}"
            );
        }
    }
}
