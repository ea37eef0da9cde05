//! How a connection ends for its peer when it is dropped.

use std::io;
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
    /// `second` is another descriptor of `stream`. Without it (EMFILE) the connection must end by a FIN alone, so only then
    /// is it changed.
    fn of(stream: &TcpStream, second: io::Result<OwnedFd>) -> Option<Self> {
        let second = second.ok()?;
        stream.set_zero_linger().ok()?;
        Some(Self(second))
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
        // TLS says its end first, and that takes a while to be acknowledged.
        self.frees_port = self.tls.is_none();
        self
    }

    /// Whether a reset is to follow the FIN, and nothing that was sent can get lost by that. Where the peer has closed
    /// first, TIME_WAIT is the peer's: there is no port to free.
    pub(super) fn can_free_port(&mut self) -> bool {
        self.frees_port = self.frees_port && tcp_info::is_open_and_idle(&self.stream);
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
            self.last = FinThenReset::of(&self.stream, self.stream.as_fd().try_clone_to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection whose port is to be freed, and its peer's end.
    async fn connected() -> (Io, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Io::new(here).freeing_port(), listener.accept().await.unwrap().0)
    }

    /// Whether this end, whose port no other connection has, is in TIME_WAIT.
    fn is_waiting(port: u16) -> bool {
        let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        table.lines().any(|it| it.contains(&format!(":{port:04X} ")) && it.contains(" 06 "))
    }

    #[tokio::test]
    async fn an_endpoint_that_closes_first_sees_an_end_and_no_reset() {
        let (mut io, mut there) = connected().await;
        let port = there.local_addr().unwrap().port();
        there.shutdown().await.unwrap();
        assert_eq!(io.read(&mut [0; 1]).await.unwrap(), 0);
        // On loopback its FIN is acknowledged before a reset could follow, so what drop() decides by is asked as well.
        assert!(!io.can_free_port());
        io.shutdown().await.unwrap();
        drop(io);
        assert_eq!(there.read(&mut [0; 1]).await.unwrap(), 0);
        // A reset would end it at once.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_waiting(port) {
            assert!(Instant::now() < deadline, "the endpoint's TIME_WAIT was cut short");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_connection_is_changed_only_if_the_fin_can_come_before_the_reset() {
        for (second, follows) in [(Err(Errno::EMFILE.into()), false), (Ok(()), true)] {
            let (io, _there) = connected().await;
            let second = second.and_then(|()| io.stream.as_fd().try_clone_to_owned());
            let last = FinThenReset::of(&io.stream, second);
            let linger = SockRef::from(&io.stream).linger().unwrap();
            assert_eq!((last.is_some(), linger), (follows, follows.then_some(Duration::ZERO)));
        }
    }
}
