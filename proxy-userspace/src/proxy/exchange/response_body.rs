//! The body of an answer, on its way to a client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::record::Record;
use crate::domain::outcome::Outcome;
use crate::proxy::clock::Clock;
use crate::proxy::upstream::PooledConnection;
use crate::proxy::upstream::cluster::Lease;

/// An answer's body. Frames pass one at a time, as the client takes them; trailers included.
#[derive(Debug, Default)]
pub enum ResponseBody {
    /// None.
    #[default]
    Empty,
    /// weir's own words.
    Text(Bytes),
    /// An endpoint's.
    Endpoint(Box<Guarded>),
}

/// An endpoint's body with what is reported at its end. Dropped before, the connection is closed and the client has left.
#[derive(Debug)]
pub struct Guarded {
    incoming: Incoming,
    guard: Option<ResponseGuard>,
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
pub struct ResponseGuard {
    /// The endpoint in use.
    pub lease: Lease,
    /// The connection to it.
    pub connection: PooledConnection,
    /// The number of the worker whose pool the connection came from.
    pub worker: usize,
    /// The exchange's clock.
    pub clock: Clock,
    /// What is told of the exchange.
    pub record: Record,
    /// How many unused connections the pool keeps.
    pub keep: usize,
}

impl ResponseGuard {
    /// The answer is whole: the connection goes back to its pool, and the lease hears the outcome.
    pub fn complete(self) {
        let now = Instant::now();
        self.clock.answered(now);
        self.lease.backend().pool(self.worker).put(self.connection, now, self.keep);
        self.record.end(now, &self.lease, "answered");
        self.lease.complete(now);
    }

    /// The endpoint broke off.
    fn broken(self) {
        let outcome = if self.connection.peer.is_silent() { Outcome::Silent } else { Outcome::Reset };
        let now = Instant::now();
        self.record.end(now, &self.lease, outcome.label());
        self.lease.finish(now, outcome);
    }
}

impl ResponseBody {
    /// An endpoint's body for a client that speaks `spoken`, reported at its end, which for an empty one is now.
    pub fn endpoint(incoming: Incoming, guard: ResponseGuard, spoken: Version) -> Self {
        if incoming.is_end_stream() {
            guard.complete();
            return Self::Empty;
        }
        let end = match spoken {
            Version::HTTP_10 if incoming.size_hint().exact().is_none() => End::Close,
            _ => End::Framed,
        };
        if end == End::Close {
            guard.clock.activity().set_open_ended(true);
        }
        Self::Endpoint(Box::new(Guarded { incoming, guard: Some(guard), end }))
    }
}

impl Guarded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            // After trailers hyper asks for nothing more.
            Some(Ok(frame)) if !frame.is_trailers() && !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => {
                if let Some(guard) = self.guard.take() {
                    if self.end == End::Close {
                        guard.clock.activity().set_open_ended(false);
                    }
                    guard.complete();
                }
            }
            Some(Err(_)) => {
                if let Some(guard) = self.guard.take() {
                    guard.broken();
                }
            }
        }
        Poll::Ready(frame)
    }
}

impl Body for ResponseBody {
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
            Self::Endpoint(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.is_empty(),
            Self::Endpoint(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::Endpoint(body) => body.incoming.size_hint(),
        }
    }
}
