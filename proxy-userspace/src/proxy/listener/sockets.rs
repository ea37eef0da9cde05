//! The data plane's listening sockets, which come and go while weir runs.
//!
//! Each worker accepts on a duplicate of every socket. One that is retired is accepted from until its queue has run empty,
//! and is closed when the last worker has done so: whoever has connected is served.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::proxy::listener::Listener;

/// One of them.
#[derive(Debug)]
pub struct Socket {
    /// Whose connections it takes.
    pub listener: Arc<Listener>,
    /// The socket itself.
    pub tcp: TcpListener,
    /// Tells it from all others of this process.
    pub(in crate::proxy) number: u64,
    retired: CancellationToken,
}

/// All of them, as the workers are told.
#[derive(Debug)]
pub struct Sockets(watch::Sender<Vec<Arc<Socket>>>);

impl Socket {
    /// What `tcp` takes comes in by `listener`.
    pub fn new(listener: &Arc<Listener>, tcp: TcpListener) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { listener: listener.clone(), tcp, number, retired: CancellationToken::new() })
    }

    /// Where it is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }

    /// A worker's duplicate.
    pub(in crate::proxy) fn duplicate(&self) -> io::Result<TcpListener> {
        self.tcp.try_clone()
    }

    /// Cancelled once it is retired.
    pub(in crate::proxy) fn retired(&self) -> CancellationToken {
        self.retired.clone()
    }
}

impl Sockets {
    /// Those that are there at start.
    pub fn new(sockets: Vec<Arc<Socket>>) -> Self {
        Self(watch::Sender::new(sockets))
    }

    /// Makes `wanted` what the workers accept on: what is not there yet they take up, and the others retire.
    pub fn set(&self, wanted: Vec<Arc<Socket>>) {
        let before = self.0.send_replace(wanted.clone());
        for gone in before.iter().filter(|it| wanted.iter().all(|other| other.number != it.number)) {
            gone.retired.cancel();
        }
    }

    /// Keeps none of them open from now on: weir drains, and the workers know how.
    pub fn let_go(&self) {
        self.0.send_replace(Vec::new());
    }

    /// For one worker.
    pub(in crate::proxy) fn follow(&self) -> watch::Receiver<Vec<Arc<Socket>>> {
        self.0.subscribe()
    }
}
