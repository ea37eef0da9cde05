//! The one body type: whatever is sent to a client or to an endpoint.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::expect::Gate;
use crate::domain::outcome::Outcome;
use crate::proxy::upstream::cluster::Lease;
use crate::proxy::upstream::pool::Ready;
use crate::transport::{Flow, Pulse, Upload};

/// A message's body. Frames pass through one at a time, as the receiver takes them; trailers included.
#[derive(Debug, Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// weir's own words.
    Text(Bytes),
    /// A client's, on its way to an endpoint.
    Request(Incoming, Upload),
    /// A client's, kept back until the endpoint asks for it.
    Held(Box<(Gate, Incoming, Upload)>),
    /// An endpoint's, on its way to the client.
    Answer(Box<Answer>),
}

/// An endpoint's body, and what is to be settled when it ends: the connection goes back to the pool, and the lease
/// hears the outcome. Dropped before its end, the connection is closed and the client has left.
#[derive(Debug)]
pub struct Answer {
    incoming: Incoming,
    settlement: Option<Settlement>,
    end: End,
}

/// What tells a client that an answer is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its length, or the last chunk.
    Framed,
    /// The end of the connection (RFC 9112 §6.3): one that speaks HTTP/1.0 knows no chunks.
    Close,
}

/// What an exchange still holds once the answer's head is on its way.
#[derive(Debug)]
pub struct Settlement {
    /// The endpoint in use.
    pub lease: Lease,
    /// The connection to it.
    pub ready: Ready,
    /// The number of the worker whose pool the connection came from.
    pub worker: usize,
    /// The client's connection.
    pub pulse: Pulse,
    /// How many unused connections the pool keeps.
    pub keep: usize,
}

impl Settlement {
    /// The answer is whole.
    pub fn complete(self) {
        let now = Instant::now();
        self.pulse.answered(now);
        self.lease.backend().pool(self.worker).put(self.ready, now, self.keep);
        self.lease.complete(now);
    }

    /// The endpoint broke off.
    fn broken(self) {
        let outcome = if self.ready.peer.is_silent() { Outcome::Silent } else { Outcome::Reset };
        self.lease.finish(Instant::now(), outcome);
    }
}

impl Body {
    /// An endpoint's body, settled at its end, which for an empty one is now.
    pub fn answer(incoming: Incoming, settlement: Settlement, spoken: Version) -> Self {
        if incoming.is_end_stream() {
            settlement.complete();
            return Self::Empty;
        }
        let end = match spoken {
            Version::HTTP_10 if incoming.size_hint().exact().is_none() => End::Close,
            _ => End::Framed,
        };
        if end == End::Close {
            settlement.pulse.set_open_ended(true);
        }
        Self::Answer(Box::new(Answer { incoming, settlement: Some(settlement), end }))
    }

    /// A client's body.
    pub fn request(incoming: Incoming, pulse: &Pulse) -> Self {
        if incoming.is_end_stream() { Self::Empty } else { Self::Request(incoming, pulse.upload()) }
    }

    /// Whether it can be sent again.
    pub fn is_replayable(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Answer {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            // After trailers hyper asks for nothing more.
            Some(Ok(frame)) if !frame.is_trailers() && !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => {
                if let Some(settlement) = self.settlement.take() {
                    if self.end == End::Close {
                        settlement.pulse.set_open_ended(false);
                    }
                    settlement.complete();
                }
            }
            Some(Err(_)) => {
                if let Some(settlement) = self.settlement.take() {
                    settlement.broken();
                }
            }
        }
        Poll::Ready(frame)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Text(text) => {
                let text = std::mem::take(text);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Self::Request(incoming, upload) => {
                let frame = Pin::new(incoming).poll_frame(cx);
                upload.flows(if frame.is_pending() { Flow::Waits } else { Flow::Moves });
                frame
            }
            Self::Held(held) => {
                ready!(held.0.poll_open(cx));
                if let Self::Held(held) = std::mem::replace(this, Self::Empty) {
                    *this = Self::Request(held.1, held.2);
                }
                Pin::new(this).poll_frame(cx)
            }
            Self::Answer(answer) => answer.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.is_empty(),
            Self::Request(incoming, _) => incoming.is_end_stream(),
            Self::Held(held) => held.1.is_end_stream(),
            Self::Answer(answer) => answer.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::Request(incoming, _) => incoming.size_hint(),
            Self::Held(held) => held.1.size_hint(),
            Self::Answer(answer) => answer.incoming.size_hint(),
        }
    }
}
