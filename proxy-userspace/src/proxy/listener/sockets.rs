//! The data plane's listening sockets, which are added and removed at run time.
//!
//! Each worker accepts on a duplicate of every socket. A retired socket is accepted from until its queue is empty, and
//! is closed when the last worker has done so: every client that has connected is served. One that is handed over to another
//! listener or process is closed at once: that one accepts from the same queue.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::proxy::listener::{Listener, ListenerKind};
use crate::transport::{PodNetns, ReceiveBuffers};

/// One listening socket.
#[derive(Debug)]
pub struct Socket {
    /// The listener that its connections belong to.
    pub listener: Arc<Listener>,
    /// The socket itself.
    pub tcp: TcpListener,
    /// The pod in whose network namespace it is.
    pub pod: Option<Arc<PodNetns>>,
    /// Unique in this process.
    pub(in crate::proxy) number: u64,
    retired: CancellationToken,
    /// Another listener or process accepts on it now.
    handed_over: Arc<AtomicBool>,
}

/// All sockets, as published to the workers.
#[derive(Debug)]
pub struct Sockets {
    all: watch::Sender<Vec<Arc<Socket>>>,
    /// What the kernel buffers of connections.
    pub received: Arc<ReceiveBuffers>,
    /// Set by [`Self::let_go`]: no worker takes up another one.
    is_over: AtomicBool,
}

impl Socket {
    /// Connections accepted on `tcp` belong to `listener`.
    pub fn new(listener: &Arc<Listener>, tcp: TcpListener) -> Arc<Self> {
        Self::made(listener, tcp, None)
    }

    /// As [`Socket::new`], in a pod's network namespace.
    pub fn in_pod(listener: &Arc<Listener>, tcp: TcpListener, pod: Arc<PodNetns>) -> Arc<Self> {
        Self::made(listener, tcp, Some(pod))
    }

    fn made(listener: &Arc<Listener>, tcp: TcpListener, pod: Option<Arc<PodNetns>>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (retired, handed_over) = (CancellationToken::new(), Arc::default());
        Arc::new(Self { listener: listener.clone(), tcp, pod, number, retired, handed_over })
    }

    /// Bounds what the kernel buffers of the connections that it accepts.
    fn bound(&self, received: &ReceiveBuffers) {
        if let Err(cause) = received.bound(&self.tcp, self.pod.is_some()) {
            tracing::warn!(address = ?self.address(), %cause, "no bound on what the kernel buffers of its clients");
        }
    }

    /// Its local address.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }

    /// Another listener or process accepts on this socket from now on, and has its queue. Call this before the
    /// workers are told to close it.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::SeqCst);
    }

    /// Whether another listener or process has it.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::SeqCst)
    }

    /// Set once the socket is handed over.
    pub(in crate::proxy) fn handed_over(&self) -> Arc<AtomicBool> {
        self.handed_over.clone()
    }

    /// A worker's duplicate.
    pub(in crate::proxy) fn duplicate(&self) -> io::Result<TcpListener> {
        self.tcp.try_clone()
    }

    /// Cancelled once the socket is retired.
    pub(in crate::proxy) fn retired(&self) -> CancellationToken {
        self.retired.clone()
    }
}

impl Sockets {
    /// The sockets at start, of whose connections the kernel buffers as much as `received` says.
    pub fn new(sockets: Vec<Arc<Socket>>, received: Arc<ReceiveBuffers>) -> Self {
        sockets.iter().for_each(|it| it.bound(&received));
        Self { all: watch::Sender::new(sockets), received, is_over: AtomicBool::new(false) }
    }

    /// `received` has changed: it counts for connections that are accepted from now on.
    pub fn bound_again(&self) {
        self.all.borrow().iter().for_each(|it| it.bound(&self.received));
    }

    /// Adds a listener of a pod. After [`Self::let_go`] it is closed: nobody would accept there.
    pub fn add(&self, socket: Arc<Socket>) {
        if !self.is_over.load(Ordering::SeqCst) {
            socket.bound(&self.received);
            self.all.send_modify(|sockets| sockets.push(socket));
        }
    }

    /// The explicit proxy's sockets in pods.
    pub fn explicit_in_pods(&self) -> Vec<Arc<Socket>> {
        let is_such = |it: &&Arc<Socket>| it.pod.is_some() && it.listener.kind == ListenerKind::Outgoing;
        self.all.borrow().iter().filter(is_such).cloned().collect()
    }

    /// The pods in whose network namespaces weir listens.
    pub fn pods(&self) -> Vec<Arc<PodNetns>> {
        let mut pods: Vec<_> = self.all.borrow().iter().filter_map(|it| it.pod.clone()).collect();
        pods.sort_unstable_by_key(|it| it.cookie());
        pods.dedup_by_key(|it| it.cookie());
        pods
    }

    /// Removes one socket.
    pub fn remove(&self, socket: &Arc<Socket>) {
        self.all.send_modify(|sockets| {
            for gone in sockets.extract_if(.., |it| Arc::ptr_eq(it, socket)) {
                gone.retired.cancel();
            }
        });
    }

    /// Removes the listeners of the pod whose network namespace has this cookie.
    pub fn remove_pod(&self, cookie: u64) {
        let is_its = |it: &Arc<Socket>| it.pod.as_ref().is_some_and(|pod| pod.cookie() == cookie);
        self.all.send_modify(|sockets| {
            for gone in sockets.extract_if(.., |it| is_its(it)) {
                gone.retired.cancel();
            }
        });
    }

    /// Makes `wanted` the sockets that the workers accept on, beside those of pods: new ones are added, missing ones are
    /// retired. Nothing after [`Self::let_go`].
    pub fn set(&self, mut wanted: Vec<Arc<Socket>>) {
        if self.is_over.load(Ordering::SeqCst) {
            return;
        }
        wanted.extend(self.all.borrow().iter().filter(|it| it.pod.is_some()).cloned());
        wanted.iter().for_each(|it| it.bound(&self.received));
        let before = self.all.send_replace(wanted.clone());
        for gone in before.iter().filter(|it| wanted.iter().all(|other| other.number != it.number)) {
            gone.retired.cancel();
        }
    }

    /// Stops accepting on the sockets that are handed over: their clients wait in the queue.
    pub fn leave_handed_over(&self) {
        self.all.send_modify(|sockets| {
            for gone in sockets.extract_if(.., |it| it.is_handed_over()) {
                gone.retired.cancel();
            }
        });
    }

    /// Drops all references to the sockets: weir drains, and the workers close them.
    pub fn let_go(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.all.send_replace(Vec::new());
    }

    /// Subscribes one worker.
    pub(in crate::proxy) fn follow(&self) -> watch::Receiver<Vec<Arc<Socket>>> {
        self.all.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::bind;

    #[test]
    fn a_socket_that_comes_when_nobody_accepts_any_more_is_closed() {
        let (listener, sockets) =
            (Listener::new(ListenerKind::Outgoing), Sockets::new(Vec::new(), Arc::default()));
        // An address of this test's own: its ports stay free.
        let own = [127, 98, fastrand::u8(..), fastrand::u8(1..255)];
        let made = || bind((own, 0).into()).unwrap();
        let (early, late, later) = (made(), made(), made());
        let at = [&early, &late, &later].map(|it| it.local_addr().unwrap());
        sockets.add(Socket::new(&listener, early));
        assert!(bind(at[0]).is_err());
        sockets.let_go();
        sockets.add(Socket::new(&listener, late));
        sockets.set(vec![Socket::new(&listener, later)]);
        for at in at {
            bind(at).unwrap();
        }
    }
}
