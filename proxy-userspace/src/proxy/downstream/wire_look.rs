//! What a connection from a port of other weirs is: TLS of theirs, or anything else that has such a port.

#[cfg(test)]
#[path = "wire_look_tests.rs"]
mod tests;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::server::{Accepted, Acceptor};

use super::client_hello::MOST;
use crate::identity::tls::PROTOCOL;
use crate::proxy::upstream::Plain;
use crate::transport::Io;

/// The type of a record with handshake messages (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// The look at one connection. All that it has read goes to the application if it is not for weir.
pub(super) struct Look {
    acceptor: Acceptor,
    seen: BytesMut,
}

/// What was heard.
pub(super) enum Heard {
    /// A client's first message of another weir's; what follows it was not read.
    Weir(Box<Accepted>),
    /// Something else.
    Other(Plain),
    /// Nothing for so long.
    Silence,
    /// It is gone.
    Gone,
}

impl Look {
    pub(super) fn new() -> Self {
        Self { acceptor: Acceptor::default(), seen: BytesMut::new() }
    }

    /// Reads until it is known what the client is, at most for `silence` if nothing comes, and for `whole` if a part of a
    /// first message of TLS has come.
    pub(super) async fn hear(&mut self, io: &mut Io, silence: Duration, whole: Duration) -> Heard {
        let begun = Instant::now();
        loop {
            let limit = if self.seen.is_empty() { silence } else { whole };
            let before = self.seen.len();
            match timeout_at(begun + limit, io.read_buf(&mut self.seen)).await {
                Err(_) if self.seen.is_empty() => return Heard::Silence,
                // A client that has closed its sending side may still be told something.
                Ok(Ok(0)) if self.seen.is_empty() => return Heard::Other(Plain::Silent),
                Err(_) | Ok(Ok(0)) => return Heard::Other(Plain::NotTls),
                Ok(Err(_)) => return Heard::Gone,
                Ok(Ok(_)) => {}
            }
            if self.seen[0] != HANDSHAKE {
                return Heard::Other(Plain::NotTls);
            }
            match self.read(before) {
                Some(heard) => return heard,
                None if self.seen.len() > MOST => return Heard::Other(Plain::NotTls),
                None => {}
            }
        }
    }

    /// Reads what has come behind the first `before` bytes; `None` if the message is not complete.
    fn read(&mut self, before: usize) -> Option<Heard> {
        let mut new = &self.seen[before..];
        // Never with nothing to read: rustls takes that for the end of the connection, and remembers it.
        while !new.is_empty() {
            // It takes some bytes at a time, and no more before it has looked at those.
            if self.acceptor.read_tls(&mut new).is_err() {
                return Some(Heard::Other(Plain::NotTls));
            }
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    let is_weir =
                        accepted.client_hello().alpn().is_some_and(|mut all| all.any(|one| one == PROTOCOL));
                    // A client of TLS 1.3 waits for the answer. What comes behind its first message is the session's, as far as
                    // it has it; what it does not have would be lost.
                    return Some(match is_weir && new.is_empty() {
                        true => Heard::Weir(Box::new(accepted)),
                        false => Heard::Other(Plain::OtherTls),
                    });
                }
                Ok(None) => {}
                Err(_) => return Some(Heard::Other(Plain::NotTls)),
            }
        }
        None
    }

    /// The bytes that were read.
    pub(super) fn into_seen(self) -> Bytes {
        self.seen.freeze()
    }
}
