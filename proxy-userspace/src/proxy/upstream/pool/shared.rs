//! The connections to one endpoint that requests share: HTTP/2.
//!
//! A request takes a stream of the first connection that has one. Where none has, it opens another connection, unless
//! one is being opened (until its endpoint has said how many streams it takes) or there are as many as there may be:
//! then it waits. So many requests at once to a new endpoint open one connection, and not one each.
//!
//! A connection on which an upload has waited long for window counts as one without a free stream, as long as another
//! connection can be had.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Key, Source};
use crate::proxy::upstream::StreamPermit;
use crate::proxy::upstream::cluster::Backend;
use crate::proxy::upstream::conn::Http2;

/// The shared connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub(super) struct Shared(Vec<Group>);

/// Those with one key.
#[derive(Debug)]
struct Group {
    key: Key,
    connections: Vec<Arc<Http2>>,
    /// One is being opened.
    dials: bool,
    /// How many could not be opened.
    failed: u64,
    /// Told when a stream is free, or when opening a connection has ended.
    freed: Arc<Notify>,
}

/// How a request gets a stream.
#[derive(Debug)]
pub(in crate::proxy::upstream) enum Offer {
    /// It has one.
    Stream(StreamPermit),
    /// It opens a connection.
    Dial(Dialling),
    /// It waits for one to be free.
    Wait(Waiting),
}

/// The right to open one more connection. Dropped, others may.
#[derive(Debug)]
pub(in crate::proxy::upstream) struct Dialling {
    place: Place,
    failed: bool,
}

/// A request that waits for a stream.
#[derive(Debug)]
pub(in crate::proxy::upstream) struct Waiting {
    place: Place,
    /// [`Group::failed`] when it began to wait.
    failed: u64,
}

/// A group in a pool.
#[derive(Debug)]
struct Place {
    backend: Arc<Backend>,
    worker: usize,
    key: Key,
    freed: Arc<Notify>,
}

/// Why a request that has waited has no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy::upstream) enum NoStream {
    /// The connection that was being opened could not be.
    NotOpened,
    /// None became free in time.
    NoneFree,
}

/// A stream of a connection of `worker` with this `key` to `backend`, or how to get one; there may be `most`
/// connections.
pub(in crate::proxy::upstream) fn offer(
    (backend, worker): (&Arc<Backend>, usize),
    key: Key,
    now: Instant,
    most: usize,
) -> Offer {
    backend.pool(worker).shared(|shared| {
        let group = shared.group(key);
        group.connections.retain(|it| !it.is_closed());
        let mut stalled = None;
        let stream = group.connections.iter().find_map(|it| {
            if it.is_stalled(now) {
                stalled = Some(it);
                return None;
            }
            it.stream(now)
        });
        let is_new = |it: &Arc<Http2>| !it.is_settled();
        let is_opening = || group.dials || group.connections.iter().any(is_new);
        let may_open = stream.is_none() && !is_opening();
        let dials = may_open && group.connections.len() < most;
        if let Some(stalled) = stalled.filter(|_| stream.is_some() || dials) {
            stalled.stats().stalled.inc();
        }
        let stream = match stream {
            None if may_open && !dials => group.any_stream(now),
            stream => stream,
        };
        if let Some(stream) = stream {
            return Offer::Stream(stream);
        }
        let place = Place { backend: backend.clone(), worker, key, freed: group.freed.clone() };
        if !dials {
            return Offer::Wait(Waiting { place, failed: group.failed });
        }
        group.dials = true;
        Offer::Dial(Dialling { place, failed: false })
    })
}

/// A stream of any connection, whether or not an upload waits for window on it: no other one can be had.
pub(in crate::proxy::upstream) fn any_stream(
    (backend, worker): (&Arc<Backend>, usize),
    key: Key,
    now: Instant,
) -> Option<StreamPermit> {
    backend.pool(worker).shared(|shared| {
        let group = shared.group(key);
        group.connections.retain(|it| !it.is_closed());
        group.any_stream(now)
    })
}

impl Group {
    fn any_stream(&self, now: Instant) -> Option<StreamPermit> {
        self.connections.iter().find_map(|it| it.stream(now))
    }
}

impl Shared {
    pub(super) fn add(&mut self, key: Key, connection: Arc<Http2>) {
        self.group(key).connections.push(connection);
    }

    pub(super) fn freed(&mut self, key: Key) -> Arc<Notify> {
        self.group(key).freed.clone()
    }

    fn group(&mut self, key: Key) -> &mut Group {
        let at = self.0.iter().position(|it| it.key == key).unwrap_or_else(|| {
            let freed = Arc::new(Notify::new());
            self.0.push(Group { key, connections: Vec::new(), dials: false, failed: 0, freed });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// Drops connections that are closed, or that were unused for the `limit` of their source. Returns since when the longest
    /// unused of the others is so.
    pub(super) fn sweep(&mut self, now: Instant, limit: impl Fn(Source) -> Duration) -> Option<Instant> {
        let mut first = None;
        for group in &mut self.0 {
            let limit = limit(group.key.source);
            group.connections.retain(|it| {
                let since = it.is_unused().then(|| it.used());
                let stays =
                    !it.is_closed() && since.is_none_or(|since| now.saturating_duration_since(since) < limit);
                if stays {
                    first = first.into_iter().chain(since).min();
                }
                stays
            });
        }
        // A request that waits or dials has the other reference.
        self.0.retain(|it| !it.connections.is_empty() || it.dials || Arc::strong_count(&it.freed) > 1);
        first
    }

    /// Takes every connection out.
    pub(super) fn clear(&mut self) -> Vec<Arc<Http2>> {
        self.take(|_| true)
    }

    /// Takes every connection from this source out.
    pub(super) fn forget(&mut self, source: Source) -> Vec<Arc<Http2>> {
        self.take(|key| key.source == source)
    }

    /// Takes every connection out that was made in a pod's network namespace.
    pub(super) fn forget_pods(&mut self) -> Vec<Arc<Http2>> {
        self.take(|key| matches!(key.source, Source::Pod(_)))
    }

    fn take(&mut self, which: impl Fn(Key) -> bool) -> Vec<Arc<Http2>> {
        let mut taken = Vec::new();
        for group in self.0.iter_mut().filter(|it| which(it.key)) {
            taken.append(&mut group.connections);
            // Who waits for a stream of them may open another connection.
            group.freed.notify_waiters();
        }
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many have no stream in use.
    pub(super) fn unused(&self) -> usize {
        self.0.iter().flat_map(|it| &it.connections).filter(|it| it.is_unused()).count()
    }
}

impl Place {
    fn group<T>(&self, with: impl FnOnce(&mut Group) -> T) -> T {
        self.backend.pool(self.worker).shared(|shared| with(shared.group(self.key)))
    }
}

impl Dialling {
    /// The connection could not be opened: requests that wait for it learn so.
    pub(in crate::proxy::upstream) fn failed(mut self) {
        self.failed = true;
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        let failed = u64::from(self.failed);
        self.place.group(|group| {
            group.dials = false;
            group.failed += failed;
        });
        self.place.freed.notify_waiters();
    }
}

impl Waiting {
    /// Waits until there may be a stream.
    ///
    /// # Errors
    ///
    /// [`NoStream`]
    pub(in crate::proxy::upstream) async fn wait(self, limit: Duration) -> Result<(), NoStream> {
        let told = timeout(limit, self.place.freed.notified()).await;
        let failed = self.place.group(|group| group.failed);
        match told {
            _ if failed != self.failed => Err(NoStream::NotOpened),
            Ok(()) => Ok(()),
            Err(_) => Err(NoStream::NoneFree),
        }
    }
}
