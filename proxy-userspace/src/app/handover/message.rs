//! What two weirs of a node say to one another while one takes over from the other.
//!
//! One message is one packet: JSON of at most [`crate::transport::Channel`]'s size, with descriptors beside it. The first one of either side
//! has the version. Fields may be added to a version; a message that is not known ends the exchange.

use std::net::{SocketAddr, TcpListener};
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
    /// The next weir's first: it asks for the listeners. `pod` is the UID of its pod, if it is in one.
    Next {
        version: u32,
        #[serde(default)]
        pod: Option<String>,
    },
    /// The answer: the listeners are beside it. `pod` is that of the weir that gives them, which has never been ready if it `waits`:
    /// then it may take over again.
    Listeners {
        version: u32,
        #[serde(default)]
        pod: Option<String>,
        #[serde(default)]
        waits: bool,
    },
    /// The answer: no, or not now.
    No { version: u32, why: String, later: bool },
    /// The next weir is alive, and not ready yet. Whether its programs divert all the same.
    Alive {
        #[serde(default)]
        diverts: bool,
    },
    /// The predecessor goes on, and the next weir must end.
    Enough { why: String },
    /// The next weir serves. Its predecessor no longer accepts, and closes what the next one has no use for: the sockets at
    /// these addresses.
    Serves {
        #[serde(default)]
        unused: Vec<SocketAddr>,
    },
    /// The predecessor, after that: beside it are the explicit proxy's sockets in pods, or some of them.
    Pods,
    /// The predecessor, once a second while it drains: how many connections are open in it and in those before it, for
    /// how many seconds the first of them has been draining, and how many they are.
    Drains {
        open: usize,
        seconds: u64,
        #[serde(default)]
        weirs: usize,
    },
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

    #[tokio::test]
    async fn a_message_names_as_many_unused_sockets_as_can_be_handed_over() {
        let ip = std::net::Ipv6Addr::from([0xff; 16]);
        let longest = std::net::SocketAddrV6::new(ip, u16::MAX, 0, u32::MAX);
        let unused = vec![SocketAddr::from(longest); crate::transport::MOST_DESCRIPTORS];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = crate::transport::ChannelListener::bind(&path).unwrap();
        let next = Channel::connect(&path).unwrap();
        let old = listener.accept().await.unwrap();
        let serves = Message::Serves { unused };
        send(&next, &serves).await.unwrap();
        assert_eq!(receive(&old).await.unwrap().unwrap().0, serves);
    }

    #[test]
    fn a_message_with_more_fields_is_read_and_an_unknown_one_is_not() {
        let read = |text: &str| serde_json::from_str::<Message>(text);
        let next = read(r#"{"is":"next","version":2,"pod":"a","newer":[1]}"#).unwrap();
        assert_eq!(next, Message::Next { version: 2, pod: Some("a".to_owned()) });
        let next = read(r#"{"is":"next","version":1}"#).unwrap();
        assert_eq!(next, Message::Next { version: 1, pod: None });
        assert_eq!(read(r#"{"is":"serves"}"#).unwrap(), Message::Serves { unused: Vec::new() });
        assert_eq!(read(r#"{"is":"alive"}"#).unwrap(), Message::Alive { diverts: false });
        let given = Message::Listeners { version: 1, pod: None, waits: false };
        assert_eq!(read(r#"{"is":"listeners","version":1}"#).unwrap(), given);
        for garbage in
            ["", "{}", "[]", r#"{"is":"else"}"#, r#"{"is":"next"}"#, "\u{0}", r#"{"is":"no","version":-1}"#]
        {
            assert!(read(garbage).is_err(), "{garbage}");
        }
    }
}
