//! Unused connections to one endpoint, kept by one worker.
//!
//! A worker uses only its own: a pool shared between runtimes wakes another thread for every request, which costs a
//! quarter of the CPU and half of the tail latency. The lock is therefore never contended on the request path; only the
//! sweeper and the admin take it besides.
//!
//! A connection is returned at the **end of a response's body**, not at its head, or the next request would queue
//! behind a streaming answer.

//!
//! A connection of HTTP/2 is shared by many requests, and so is in its pool all the time (`shared.rs`).

mod shared;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use self::shared::Shared;
pub(super) use self::shared::{NoStream, Offer, any_stream, offer};
use super::PooledConnection;
use super::conn::Http2;

/// What a connection can be used for; connections with different keys are not interchangeable. A pool belongs to one
/// endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The transport.
    pub transport: Transport,
    /// The protocol.
    pub protocol: Protocol,
    /// The source address.
    pub source: Source,
}

/// The transport of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone.
    Plain,
}

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 with header names in lower case.
    Http1,
    /// HTTP/1.1 that preserves the case of header names, for applications that do not know of weir.
    Http1Cased,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
    Http2,
}

/// The source address of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The node's address.
    Node,
    /// A pod's own: made in the network namespace with this cookie.
    Pod(u64),
}

impl Key {
    /// Plain TCP from this source.
    pub fn plain(protocol: Protocol, source: Source) -> Self {
        Self { transport: Transport::Plain, protocol, source }
    }
}

/// The unused connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub struct Pool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In order of return; the last is the most recently used.
    idle: Vec<(Instant, PooledConnection)>,
    /// The smallest length of `idle` since the last purge: so many connections were not needed.
    surplus: usize,
    /// The endpoint was removed, or is not to be used now.
    closed: bool,
    /// Connections that are shared; `None` before the first.
    shared: Option<Box<Shared>>,
}

impl Pool {
    /// The most recently used connection with this `key` that is open and was idle for less than `limit`. The checkout
    /// is exclusive.
    pub fn checkout(&self, key: Key, now: Instant, limit: Duration) -> Option<PooledConnection> {
        let mut state = self.0.lock();
        loop {
            let at = state.idle.iter().rposition(|(_, it)| it.key == key)?;
            let (since, connection) = state.idle.remove(at);
            state.surplus = state.surplus.min(state.idle.len());
            if connection.conn.is_ready() && now.saturating_duration_since(since) < limit {
                return Some(connection);
            }
        }
    }

    /// Calls `with` with what is shared.
    fn shared<T>(&self, with: impl FnOnce(&mut Shared) -> T) -> T {
        with(self.0.lock().shared.get_or_insert_default())
    }

    /// Told when a stream of a connection with this `key` is free.
    pub(super) fn freed(&self, key: Key) -> Arc<Notify> {
        self.shared(|shared| shared.freed(key))
    }

    /// Shares `connection` with later requests, unless the pool is closed or its source `is_gone`.
    pub(super) fn share(&self, key: Key, connection: &Arc<Http2>, is_gone: impl FnOnce() -> bool) {
        let mut state = self.0.lock();
        // With the lock, as in `put`.
        if !state.closed && !is_gone() {
            state.shared.get_or_insert_default().add(key, connection.clone());
        }
    }

    /// Keeps `connection` for a later request, unless the pool is closed or the connection's source has ended. Of `most`
    /// that are kept already, the least recently used one of the source that has the most makes room, so that no source
    /// keeps the others from having any; the new one is not kept if that is its own.
    ///
    /// A busy connection is not kept: its endpoint answered before the request's body was complete, and the next request
    /// would wait for this client. Nor is one whose sending side is closed.
    pub fn put(&self, connection: PooledConnection, now: Instant, most: usize) {
        if !connection.conn.is_ready() || connection.peer.has_ended() || connection.is_orphan() {
            return connection.complete();
        }
        connection.peer.owes_nothing();
        let mut state = self.0.lock();
        if state.closed {
            return;
        }
        // With the lock, as `forget_pods` has it after the pod was told to connect anew: one of both sees the other.
        if connection.is_outdated() {
            drop(state);
            return connection.complete();
        }
        let crowds = if state.idle.len() < most {
            None
        } else {
            let sources = state.idle.iter().map(|it| it.1.key.source);
            let Some(at) = crowding(sources, connection.key.source).filter(|_| most > 0) else { return };
            Some(state.idle.remove(at))
        };
        state.idle.push((now, connection));
        drop(state);
        drop(crowds);
    }

    /// Drops connections that are closed, or were idle for `limit`. Returns when the next of the others expires.
    pub fn sweep(&self, now: Instant, limit: Duration) -> Option<Instant> {
        let mut state = self.0.lock();
        state.idle.retain(|(since, connection)| {
            !connection.conn.is_closed() && now.saturating_duration_since(*since) < limit
        });
        let shared = state.shared.as_mut().and_then(|shared| shared.sweep(now, |_| limit));
        if shared.is_none() {
            state.shared = state.shared.take().filter(|shared| !shared.is_empty());
        }
        let first = state.idle.first().map(|(since, _)| *since);
        first.into_iter().chain(shared).min()?.checked_add(limit)
    }

    /// Drops connections from this source.
    pub fn forget(&self, source: Source) {
        let mut state = self.0.lock();
        let (gone, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.idle).into_iter().partition(|(_, it)| it.key.source == source);
        state.idle = stay;
        let shared = state.shared.as_mut().map(|shared| shared.forget(source));
        drop(state);
        drop((gone, shared));
    }

    /// Drops connections that were made in pods' network namespaces.
    pub fn forget_pods(&self) {
        let mut state = self.0.lock();
        let of_pod = |it: &PooledConnection| matches!(it.key.source, Source::Pod(_));
        let (gone, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.idle).into_iter().partition(|(_, it)| of_pod(it));
        state.idle = stay;
        let shared = state.shared.as_mut().map(|shared| shared.forget_pods());
        drop(state);
        drop((gone, shared));
    }

    /// Drops half of the connections that no request has needed since the last purge, the least recently used ones, as
    /// HAProxy does every `pool-purge-delay`. After a peak the number so follows the need within a few of them. A
    /// single connection is kept. Returns the number dropped.
    pub fn purge(&self) -> usize {
        let mut state = self.0.lock();
        let surplus = state.surplus.min(state.idle.len()) / 2;
        let dropped: SmallVec<[_; 1]> = state.idle.drain(..surplus).collect();
        state.surplus = state.idle.len();
        if state.idle.capacity() > 2 * state.idle.len() {
            state.idle.shrink_to_fit();
        }
        drop(state);
        dropped.len()
    }

    /// Adds since when each connection that is not shared has been unused, by its source.
    pub fn unused_since(&self, all: &mut HashMap<Source, Vec<Instant>>) {
        for (since, connection) in &self.0.lock().idle {
            all.entry(connection.key.source).or_default().push(*since);
        }
    }

    /// Drops connections that were unused for as long as those from their source are `kept`. Returns the number dropped.
    pub fn shed(&self, now: Instant, kept: impl Fn(Source) -> Duration) -> usize {
        let mut state = self.0.lock();
        let is_old = |since: Instant, source| now.saturating_duration_since(since) >= kept(source);
        let old = state.idle.extract_if(.., |(since, it)| is_old(*since, it.key.source));
        let dropped: SmallVec<[_; 1]> = old.collect();
        state.idle.shrink_to_fit();
        state.surplus = state.surplus.min(state.idle.len());
        if let Some(shared) = &mut state.shared {
            shared.sweep(now, kept);
        }
        drop(state);
        dropped.len()
    }

    /// Drops every connection in the pool; a shared one ends with its last stream.
    pub fn clear(&self) {
        let mut state = self.0.lock();
        let dropped = std::mem::take(&mut state.idle);
        let shared = state.shared.as_mut().map(|shared| shared.clear());
        drop(state);
        drop((dropped, shared));
    }

    /// Drops every connection, and those in use when they are returned.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.idle.clear();
        let shared = state.shared.as_mut().map(|shared| shared.clear());
        drop(state);
        drop(shared);
    }

    /// Keeps connections again.
    pub fn open(&self) {
        self.0.lock().closed = false;
    }

    /// How many unused connections are kept, those of HTTP/2 without a stream in use included.
    pub fn len(&self) -> usize {
        let state = self.0.lock();
        state.idle.len() + state.shared.as_ref().map_or(0, |shared| shared.unused())
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which of the connections from these `sources` makes room for one from `own`: the first of the source that has the most,
/// if that has more than `own` does.
fn crowding(sources: impl Iterator<Item = Source> + Clone, own: Source) -> Option<usize> {
    if sources.clone().all(|it| it == own) {
        return None;
    }
    let mut counts: HashMap<Source, usize> = HashMap::new();
    for source in sources.clone() {
        *counts.entry(source).or_default() += 1;
    }
    let most = *counts.values().max()?;
    let has = counts.get(&own).copied().unwrap_or_default();
    sources.clone().position(|it| counts.get(&it) == Some(&most)).filter(|_| most > has)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr, TcpListener};

    use tokio::net::TcpStream;
    use tokio::task::LocalSet;

    use super::*;
    use crate::config::Limits;
    use crate::domain::silence::Doubts;
    use crate::proxy::upstream::Conn;
    use crate::transport::{Bounds, Io, NetnsThread, Patience, Peer, PodNetns};

    const POD: fn(u64) -> Source = Source::Pod;

    /// An unused connection to `endpoint` that was made for `pod`.
    async fn unused(endpoint: SocketAddr, pod: &Arc<PodNetns>) -> PooledConnection {
        let key = Key::plain(Protocol::Http1, Source::Pod(pod.cookie()));
        PooledConnection {
            from: Some(pod.clone()),
            renewed: pod.renewed(),
            ..connection(endpoint, key).await
        }
    }

    /// An unused connection to `endpoint` with this key.
    async fn connection(endpoint: SocketAddr, key: Key) -> PooledConnection {
        let second = Duration::from_secs(1);
        let interim = Bounds { answers: 1, bytes: 1_000 };
        let patience = Patience { silence: second, unused: (second, second), probes: 1, interim };
        let peer = Peer::new(patience, Doubts::default());
        let io = Io::to(TcpStream::connect(endpoint).await.unwrap(), peer.clone());
        let conn = Conn::http1(io, key, &Limits::default()).await.unwrap();
        PooledConnection { conn, key, peer, reused: false, from: None, renewed: 0 }
    }

    #[tokio::test]
    async fn a_connection_is_used_for_its_own_protocol_and_source_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (endpoint, now, hour) = (listener.local_addr().unwrap(), Instant::now(), Duration::from_hours(1));
        let sources = [Source::Node, POD(1), POD(2)];
        let keys = sources.map(|it| [Protocol::Http1, Protocol::Http1Cased].map(|of| Key::plain(of, it)));
        let run = async {
            for absent in keys.as_flattened() {
                let pool = Pool::default();
                for key in keys.as_flattened().iter().filter(|key| *key != absent) {
                    pool.put(connection(endpoint, *key).await, now, 100);
                }
                assert!(pool.checkout(*absent, now, hour).is_none(), "{absent:?} is another's");
                for key in keys.as_flattened().iter().filter(|key| *key != absent) {
                    assert_eq!(pool.checkout(*key, now, hour).map(|it| it.key), Some(*key));
                }
                assert!(pool.is_empty());
            }
        };
        LocalSet::new().run_until(run).await;
    }

    #[tokio::test]
    async fn a_full_pool_makes_room_for_another_pod_and_keeps_nothing_of_one_that_has_ended() {
        let Ok(thread) = NetnsThread::start() else { return };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap();
        let pod = |cookie| {
            let kept = listener.try_clone().unwrap().into();
            PodNetns::new(cookie, Ipv6Addr::LOCALHOST, kept, |it| it.try_clone_to_owned(), thread.clone())
        };
        let (greedy, other, now, hour) = (pod(1), pod(2), Instant::now(), Duration::from_hours(1));
        let tasks = LocalSet::new();
        tasks
            .run_until(async {
                let pool = Pool::default();
                for _ in 0..3 {
                    pool.put(unused(endpoint, &greedy).await, now, 2);
                }
                pool.put(unused(endpoint, &other).await, now, 2);
                assert_eq!(pool.len(), 2);
                for pod in [&other, &greedy] {
                    let key = Key::plain(Protocol::Http1, Source::Pod(pod.cookie()));
                    assert!(pool.checkout(key, now, hour).is_some(), "{}", pod.cookie());
                }
                let last = unused(endpoint, &greedy).await;
                greedy.end();
                pool.forget(Source::Pod(greedy.cookie()));
                pool.put(last, now, 2);
                assert!(pool.is_empty(), "a connection of a pod that has ended");
                pool.put(unused(endpoint, &other).await, now, 0);
                assert!(pool.is_empty());
            })
            .await;
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_pod_from_before_it_was_to_connect_anew() {
        let Ok(thread) = NetnsThread::start() else { return };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (endpoint, now) = (listener.local_addr().unwrap(), Instant::now());
        let kept = listener.try_clone().unwrap().into();
        let pod = PodNetns::new(1, Ipv6Addr::LOCALHOST, kept, |it| it.try_clone_to_owned(), thread);
        let run = async {
            let (pool, in_use) = (Pool::default(), unused(endpoint, &pod).await);
            pool.put(unused(endpoint, &pod).await, now, 9);
            pool.put(connection(endpoint, Key::plain(Protocol::Http1, Source::Node)).await, now, 9);
            pod.renew();
            pool.forget_pods();
            assert_eq!(pool.len(), 1, "the node's stays");
            pool.put(in_use, now, 9);
            assert_eq!(pool.len(), 1);
            pool.put(unused(endpoint, &pod).await, now, 9);
            assert_eq!(pool.len(), 2, "one that was made since");
        };
        LocalSet::new().run_until(run).await;
    }

    #[tokio::test]
    async fn unused_connections_are_kept_for_as_long_as_their_source_is_given() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (endpoint, now, ms) = (listener.local_addr().unwrap(), Instant::now(), Duration::from_millis);
        let run = async {
            let pool = Pool::default();
            for (source, since) in [(Source::Node, 0), (POD(1), 100), (POD(2), 200), (POD(1), 4_000)] {
                let key = Key::plain(Protocol::Http1, source);
                pool.put(connection(endpoint, key).await, now + ms(since), 8);
            }
            let kept = |source| if source == POD(1) { ms(1_000) } else { ms(10_000) };
            assert_eq!((pool.shed(now + ms(4_500), kept), pool.len()), (1, 3));
            assert_eq!((pool.shed(now + ms(10_100), kept), pool.len()), (2, 1));
            let left = pool.checkout(Key::plain(Protocol::Http1, POD(2)), now, ms(60_000));
            assert!(left.is_some(), "the one that nobody was above with, and that was used last");
        };
        LocalSet::new().run_until(run).await;
    }

    #[test]
    fn the_first_of_the_source_with_the_most_makes_room() {
        let (a, b, node) = (POD(1), POD(2), Source::Node);
        for (sources, own, at) in [
            (vec![], a, None),
            (vec![node, node], node, None),
            (vec![a, a], a, None),
            (vec![a, a], b, Some(0)),
            (vec![a], b, Some(0)),
            (vec![b, a, a], b, Some(1)),
            (vec![b, a], b, None),
            (vec![b, b, a], b, None),
            (vec![node, b, a, b, a], node, Some(1)),
            (vec![a, node, node], POD(3), Some(1)),
        ] {
            assert_eq!(crowding(sources.iter().copied(), own), at, "{sources:?} {own:?}");
        }
    }

    #[test]
    fn in_a_full_pool_every_source_comes_to_its_share() {
        let mut idle = vec![POD(0); 32];
        for round in 0..1_000 {
            // One that returns thousands, and three others.
            for own in std::iter::repeat_n(POD(0), 10).chain([POD(1 + round % 3)]) {
                if let Some(at) = crowding(idle.iter().copied(), own) {
                    idle.remove(at);
                    idle.push(own);
                }
            }
        }
        for pod in 0..4 {
            assert_eq!(idle.iter().filter(|it| **it == POD(pod)).count(), 8, "{idle:?}");
        }
    }
}
