//! The bodies of answers: whole, or as they are written.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::mpsc;

use super::slots::Slot;

/// The body of an answer.
#[derive(Debug)]
pub(super) enum PageBody {
    /// All of it is there.
    Whole(Full<Bytes>),
    /// It is written as its client takes it.
    Streamed(Streamed),
}

/// A page that is being written.
#[derive(Debug)]
pub(super) struct Streamed {
    chunks: mpsc::Receiver<Bytes>,
    slot: Slot,
}

impl Streamed {
    /// The page of which `chunks` come.
    pub(super) fn new(chunks: mpsc::Receiver<Bytes>, slot: Slot) -> Self {
        Self { chunks, slot }
    }
}

impl From<Bytes> for PageBody {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Streamed(Streamed { chunks, slot }) => {
                let chunk = ready!(chunks.poll_recv(cx));
                slot.moves();
                Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(body) if body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}
