//! What two weirs of a node say to one another while one takes over from the other.
//!
//! One message is one packet: JSON of at most [`crate::transport::Channel`]'s size, with descriptors beside it. The first one of either side
//! has the version. Fields may be added to a version; a message that is not known ends the exchange.

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::time::timeout;

use crate::transport::Channel;

/// The version of these messages.
pub(super) const VERSION: u32 = 1;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub(super) enum Message {
    /// The next weir's first: it asks for the listeners of the weir of this name.
    Next { version: u32, name: String },
    /// The answer: the listeners are beside it.
    Listeners { version: u32 },
    /// The answer: no, or not now.
    No { version: u32, why: String, later: bool },
    /// The next weir answers at the admin's and the probes' listeners.
    Probes,
    /// The next weir is alive, and not ready yet.
    Alive,
    /// The next weir serves. Its predecessor no longer accepts.
    Serves,
    /// The predecessor, once a second while it drains: how many connections are open in it and in those before it, and
    /// for how many seconds the first of them has been draining.
    Drains { open: usize, seconds: u64 },
}

/// Sends a message.
pub(super) async fn send(channel: &Channel, message: &Message) -> anyhow::Result<()> {
    send_with(channel, message, &[]).await
}

/// Sends a message with listeners.
pub(super) async fn send_with(
    channel: &Channel,
    message: &Message,
    listeners: &[TcpListener],
) -> anyhow::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    let bytes = serde_json::to_vec(message)?;
    let sent = channel.send(&bytes, &descriptors);
    // The other side may not read: its queue is bounded by the kernel.
    timeout(Duration::from_secs(5), sent).await.context("the other weir does not read")??;
    Ok(())
}

/// The next message, and the listeners beside it; `None` at the end.
pub(super) async fn receive(channel: &Channel) -> anyhow::Result<Option<(Message, Vec<TcpListener>)>> {
    let Some((bytes, descriptors)) = channel.receive().await? else { return Ok(None) };
    let message = serde_json::from_slice(&bytes).context("a message of another version")?;
    let listeners = descriptors.into_iter().map(listener).collect::<anyhow::Result<_>>()?;
    Ok(Some((message, listeners)))
}

/// The descriptor as a listener.
fn listener(descriptor: OwnedFd) -> anyhow::Result<TcpListener> {
    let socket = SockRef::from(&descriptor);
    if !socket.is_listener().context("a descriptor that is no socket")? {
        bail!("a socket that does not listen");
    }
    // Also where it was made by a weir that did not set it.
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from(descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_more_fields_is_read_and_an_unknown_one_is_not() {
        let read = |text: &str| serde_json::from_str::<Message>(text);
        let next = read(r#"{"is":"next","version":2,"name":"weir","newer":[1]}"#).unwrap();
        assert_eq!(next, Message::Next { version: 2, name: "weir".to_owned() });
        assert_eq!(read(r#"{"is":"serves"}"#).unwrap(), Message::Serves);
        for garbage in
            ["", "{}", "[]", r#"{"is":"else"}"#, r#"{"is":"next"}"#, "\u{0}", r#"{"is":"no","version":-1}"#]
        {
            assert!(read(garbage).is_err(), "{garbage}");
        }
    }
}
