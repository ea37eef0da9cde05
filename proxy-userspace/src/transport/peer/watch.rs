//! The watch over peers that owe an answer.
//!
//! The kernel alone would retry a silent node for a quarter of an hour. Checking each connection with each request
//! would cost a system call: instead each worker checks, four times a second, a number in memory for each of its
//! connections, and queries the kernel only for those that have been waited for longer than a second. A read of a
//! silent connection then fails.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::{Patience, Peer, as_millis};
use crate::domain::silence::{DOUBT, Verdict, Wait};
use crate::transport::tcp_info;

/// How long a connection in use may be silent before TCP sends a probe, and the interval between probes.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(1);

/// Half of the worker's sweep interval: a check that is due this soon after a sweep is done in that sweep.
const HALF_A_ROUND: Duration = Duration::from_millis(125);

impl Peer {
    /// Whether the reader must check the connection.
    pub(in crate::transport) fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Checks the kernel's state of its connection, `stream`.
    ///
    /// # Errors
    ///
    /// When it is silent, now and at every later call.
    pub(in crate::transport) fn look(&self, stream: &TcpStream) -> io::Result<()> {
        let inner = &*self.0;
        let owes = inner.owes.load(Ordering::Relaxed);
        if inner.silent.load(Ordering::Relaxed) {
            return Err(silent());
        }
        inner.asked.store(false, Ordering::Relaxed);
        self.urge(stream, owes != 0);
        if owes == 0 {
            return Ok(());
        }
        let Some(signs) = tcp_info::signs(stream) else { return Ok(()) };
        let now = self.millis(Instant::now());
        let (since, wait) = &mut *inner.wait.lock();
        if *since != owes {
            (*since, *wait) = (owes, Wait::default());
        }
        let waited = Duration::from_millis(now.saturating_sub(owes));
        let (verdict, next) = wait.look(waited, signs, inner.patience.silence);
        inner.due.store(now + as_millis(next), Ordering::Relaxed);
        inner.set_doubted(verdict != Verdict::Well);
        if verdict == Verdict::Silent {
            inner.silent.store(true, Ordering::Relaxed);
            // For readers that read again.
            inner.asked.store(true, Ordering::Relaxed);
            return Err(silent());
        }
        Ok(())
    }

    /// Makes TCP probe each second, or no longer.
    fn urge(&self, stream: &TcpStream, often: bool) {
        if self.0.urged.swap(often, Ordering::Relaxed) == often {
            return;
        }
        let Patience { silence, unused: (time, interval), probes, .. } = self.0.patience;
        let keep_alive = match often {
            true => {
                // The kernel gives up later than the watch, which knows more.
                let probes = u32::try_from(silence.as_secs()).unwrap_or(u32::MAX).saturating_add(3).min(127);
                TcpKeepalive::new().with_interval(ASK_EVERY).with_retries(probes).with_time(ASK_EVERY)
            }
            false => TcpKeepalive::new().with_interval(interval).with_retries(probes).with_time(time),
        };
        // A socket that is already closed has no peer to probe.
        let _ = SockRef::from(stream).set_tcp_keepalive(&keep_alive);
    }

    /// Wakes the reader to check the connection, if that is due.
    fn visit(&self, now: Instant) {
        let inner = &*self.0;
        let owes = inner.owes.load(Ordering::Relaxed);
        let is_due = if owes == 0 {
            inner.urged.load(Ordering::Relaxed)
        } else {
            let now = self.millis(now + HALF_A_ROUND);
            now >= owes + as_millis(DOUBT) && now >= inner.due.load(Ordering::Relaxed)
        };
        if is_due
            && !inner.asked.swap(true, Ordering::Relaxed)
            && let Some(reader) = &*inner.reader.lock()
        {
            reader.wake_by_ref();
        }
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its node is silent")
}

/// One worker's connections to endpoints.
#[derive(Debug, Default)]
pub struct Watch(RefCell<Vec<Peer>>);

impl Watch {
    /// Watches one more, until its connection is closed.
    pub fn add(&self, peer: Peer) {
        self.0.borrow_mut().push(peer);
    }

    /// Checks those that are waited for too long, and removes those whose connections are closed.
    pub fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|peer| {
            let is_there = Arc::strong_count(&peer.0) > 1;
            if is_there {
                peer.visit(now);
            }
            is_there
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
