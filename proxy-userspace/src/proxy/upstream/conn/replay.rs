//! Keeps the first part of a request's body until its answer begins, so that a request that its endpoint did not
//! process can be sent to another one (RFC 9113 §8.7).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::config::Http2Endpoints;
use crate::proxy::upstream::{Connecting, RequestBody};
use crate::transport::BodyError;

/// Smaller pieces are copied: they would keep a larger buffer alive.
const SMALL: usize = 1024;

/// What is counted for each piece beside its bytes.
const PIECE: usize = 64;

/// How many bytes of bodies are kept.
#[derive(Debug, Default)]
pub struct ReplayBudget(AtomicUsize);

/// What is kept of a body while it is sent.
#[derive(Debug)]
pub struct Kept {
    connecting: Arc<Connecting>,
    pieces: Option<Pieces>,
    /// Bytes of one body, and of all together, that may be kept.
    most: (usize, usize),
}

#[derive(Debug)]
struct Pieces {
    data: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    share: Share,
}

/// What one body has of the budget.
#[derive(Debug)]
struct Share {
    connecting: Arc<Connecting>,
    bytes: usize,
}

/// A body that is sent again: first what was kept of it, then what has not been sent before.
#[derive(Debug)]
pub struct Replayed {
    pieces: Pieces,
    rest: RequestBody,
}

impl ReplayBudget {
    /// Takes `bytes`, unless there would be more than `most` then.
    fn take(&self, bytes: usize, most: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let is_within = before.saturating_add(bytes) <= most;
        if !is_within {
            self.give_back(bytes);
        }
        is_within
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many are kept now.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.connecting.replays.give_back(self.bytes);
    }
}

impl Kept {
    /// Keeps as much as `bounds` let.
    pub fn new(connecting: &Arc<Connecting>, bounds: &Http2Endpoints) -> Self {
        let share = Share { connecting: connecting.clone(), bytes: 0 };
        let pieces = Pieces { data: VecDeque::new(), trailers: None, share };
        let most = (bounds.replay_bytes, bounds.replay_total);
        Self { connecting: connecting.clone(), pieces: Some(pieces), most }
    }

    /// Keeps nothing any more.
    pub(super) fn forget(&mut self) {
        self.pieces = None;
    }

    /// `data` is sent.
    pub(super) fn data(&mut self, data: &Bytes) {
        if !data.is_empty() && self.has_room(data.len() + PIECE) {
            let data = if data.len() < SMALL { Bytes::copy_from_slice(data) } else { data.clone() };
            if let Some(pieces) = &mut self.pieces {
                pieces.data.push_back(data);
            }
        }
    }

    /// `trailers` are sent.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        let bytes = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + PIECE).sum();
        if self.has_room(bytes)
            && let Some(pieces) = &mut self.pieces
        {
            pieces.trailers = Some(trailers.clone());
        }
    }

    /// Whether so much more may be kept; if not, nothing is.
    fn has_room(&mut self, bytes: usize) -> bool {
        let Some(Pieces { share, .. }) = &mut self.pieces else { return false };
        let (most, total) = self.most;
        if share.bytes + bytes > most {
            self.pieces = None;
            return false;
        }
        if !self.connecting.replays.take(bytes, total) {
            self.connecting.http2.replay_bound.inc();
            self.pieces = None;
            return false;
        }
        share.bytes += bytes;
        true
    }

    /// The body whose first part is kept, and whose `rest` was not sent; `None` where the first part is not kept.
    pub(super) fn before(self, rest: RequestBody) -> Option<RequestBody> {
        let pieces = self.pieces?;
        if pieces.data.is_empty() && pieces.trailers.is_none() {
            return Some(rest);
        }
        self.connecting.http2.replays.inc();
        Some(RequestBody::Replayed(Box::new(Replayed { pieces, rest })))
    }
}

impl Replayed {
    pub(in crate::proxy::upstream) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(data) = self.pieces.data.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match self.pieces.trailers.take() {
            Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    pub(in crate::proxy::upstream) fn is_end_stream(&self) -> bool {
        self.pieces.data.is_empty() && self.pieces.trailers.is_none() && self.rest.is_end_stream()
    }

    pub(in crate::proxy::upstream) fn size_hint(&self) -> SizeHint {
        let kept: u64 = self.pieces.data.iter().map(|data| data.len() as u64).sum();
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(kept + rest),
            None => SizeHint::default(),
        }
    }
}
