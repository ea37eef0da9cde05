//! How a connection ends for its peer when it is dropped.

use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::super::{Activity, Peer, tcp_info};
use super::Io;

/// How a dropped connection ends for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// In order (FIN).
    End,
    /// By a reset (RST).
    Reset,
}

/// A second descriptor of a connection, which is closed last. Between FIN and reset the peer's own FIN may come, and would make
/// a TIME_WAIT of the connection: so nothing else is done in between.
#[derive(Debug)]
pub(super) struct FinThenReset(OwnedFd);

impl FinThenReset {
    fn of(stream: &TcpStream) -> Option<Self> {
        stream.set_zero_linger().ok()?;
        stream.as_fd().try_clone_to_owned().ok().map(Self)
    }
}

impl Drop for FinThenReset {
    fn drop(&mut self) {
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Write);
    }
}

impl Io {
    /// Makes the connection free its port when it is closed here first: once all that was sent is acknowledged, a reset
    /// follows the FIN. The peer's application reads an end as ever, for the FIN comes first, and the kernel keeps no
    /// TIME_WAIT, which would hold the port for a minute.
    pub fn freeing_port(mut self) -> Self {
        self.frees_port = true;
        self
    }

    /// Whether a reset is to follow the FIN, and nothing that was sent can get lost by that.
    pub(super) fn can_free_port(&mut self) -> bool {
        self.frees_port = self.frees_port && tcp_info::has_arrived(&self.stream);
        self.frees_port
    }

    /// Makes closing send RST instead of FIN: the peer learns that the exchange was cut short, not ended.
    pub fn reset_on_close(&mut self) {
        self.close = Close::Reset;
    }

    /// Makes closing send FIN again.
    pub fn end_on_close(&mut self) {
        self.close = Close::End;
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // A close in order would make a truncated answer look complete, where nothing else marks its end.
        let is_cut = self.activity.as_ref().is_some_and(Activity::is_open_ended)
            || self.peer.as_ref().is_some_and(Peer::is_cut);
        if self.close == Close::Reset || is_cut {
            // A socket that is already closed needs no reset.
            let _ = self.stream.set_zero_linger();
        } else if self.can_free_port() {
            self.last = FinThenReset::of(&self.stream);
        }
    }
}
