//! The body of a request to an endpoint.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::conn::Replayed;
use super::gate::Gate;
use crate::proxy::clock::{Clock, Flow, Upload};
use crate::transport::{BodyError, MessageBody};

/// A request's body. Frames pass one at a time, as the endpoint reads them, including trailers.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// No body.
    #[default]
    Empty,
    /// A client's.
    Client(MessageBody, Upload),
    /// A client's, held back until the endpoint asks for it.
    Held(Box<(Gate, MessageBody, Upload)>),
    /// A client's, of which a part was sent to an endpoint that did not process it.
    Replayed(Box<Replayed>),
}

impl RequestBody {
    /// A client's body, if there is one, in the exchange of `clock`.
    pub fn new(incoming: Option<MessageBody>, clock: &Clock) -> Self {
        match incoming {
            Some(incoming) if !incoming.is_end_stream() => Self::Client(incoming, clock.upload()),
            Some(_) | None => Self::Empty,
        }
    }

    /// Whether it can be sent again, however much of it was sent.
    pub fn is_replayable(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Holds it back until `gate` opens.
    pub fn hold(&mut self, gate: Gate) {
        *self = match std::mem::take(self) {
            Self::Client(incoming, upload) => Self::Held(Box::new((gate, incoming, upload))),
            body @ (Self::Empty | Self::Held(_) | Self::Replayed(_)) => body,
        };
    }

    /// Holds it back no longer.
    pub fn release(&mut self) {
        *self = match std::mem::take(self) {
            Self::Held(held) => Self::Client(held.1, held.2),
            body @ (Self::Empty | Self::Client(..) | Self::Replayed(_)) => body,
        };
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Client(incoming, upload) => {
                let frame = Pin::new(&mut *incoming).poll_frame(cx);
                upload.flows(if frame.is_pending() { Flow::Waits } else { Flow::Moves });
                if let (MessageBody::Http2(_), true) = (&*incoming, frame.is_ready()) {
                    upload.moves();
                }
                frame
            }
            Self::Held(held) => {
                ready!(held.0.poll_open(cx));
                this.release();
                Pin::new(this).poll_frame(cx)
            }
            Self::Replayed(replayed) => replayed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(incoming, _) => incoming.is_end_stream(),
            Self::Held(held) => held.1.is_end_stream(),
            Self::Replayed(replayed) => replayed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(incoming, _) => incoming.size_hint(),
            Self::Held(held) => held.1.size_hint(),
            Self::Replayed(replayed) => replayed.size_hint(),
        }
    }
}
