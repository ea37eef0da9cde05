//! The end of the explicit proxy's sockets: closed without refusing anybody who can find another weir, or left to the next one.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::proxy::listener::sockets::Socket;
use crate::transport::refuse_new;

/// The explicit proxy's sockets while weir drains.
pub(super) struct Explicit {
    sockets: Vec<Arc<Socket>>,
    /// Whether another weir has them, too.
    shared: bool,
}

impl Explicit {
    /// These sockets.
    pub(super) fn new(sockets: Vec<Arc<Socket>>, shared: bool) -> Self {
        Self { sockets, shared }
    }

    /// Stops accepting. Keep the returned value until weir ends: while it exists, a new client is not refused but
    /// retries a second later and reaches the next process that listens.
    pub(super) fn close(self) -> Option<Self> {
        if self.shared {
            // The next weir has it as well, or had: it must not refuse anybody, and its queue is left to that one.
            self.hand_over();
            return None;
        }
        // If a socket cannot refuse new connections, the kernel would still establish them, and nobody would accept
        // them.
        refuse(&self.sockets).then_some(self)
    }

    /// Leaves the sockets to the next weir.
    pub(super) fn hand_over(self) {
        self.hand_over_but(&[]);
    }

    /// The same but for those at these addresses, which the next weir does not have: they are closed once their queues are
    /// empty.
    pub(super) fn hand_over_but(self, unused: &[SocketAddr]) {
        let is_unused = |it: &Arc<Socket>| it.address().is_some_and(|at| unused.contains(&at));
        let (closing, left): (Vec<_>, Vec<_>) = self.sockets.into_iter().partition(is_unused);
        left.iter().for_each(|it| it.hand_over());
        refuse(&closing);
    }
}

/// Makes `sockets` refuse new connections. Returns whether that worked.
pub(super) fn refuse(sockets: &[Arc<Socket>]) -> bool {
    let causes: Vec<_> = sockets.iter().filter_map(|it| refuse_new(&it.tcp).err()).collect();
    // One message for all: the cause is the same, usually that newer kernels require a capability.
    if let Some(cause) = causes.first() {
        let why = match cause.kind() {
            std::io::ErrorKind::PermissionDenied => "the kernel asks for CAP_NET_ADMIN".to_owned(),
            _ => cause.to_string(),
        };
        tracing::warn!("clients that connect while weir closes its listeners may be reset: {why}");
    }
    causes.is_empty()
}
