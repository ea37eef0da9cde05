//! Messages with descriptors between two processes: sequenced packets over a Unix socket in the abstract namespace
//! (unix(7)), which belongs to the network namespace.
//!
//! Whoever is in that network namespace may connect, and may bind a name that is free: see [`super::attest`].
//!
//! The runtime's types are those of byte streams. They only watch the descriptor here: every packet is sent and received
//! by the calls below.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::net::{bind, connect, getpeername, listen, recvmsg, sendmsg, socket_with};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// Maximum size of a message.
const MOST_BYTES: usize = 4096;

/// Maximum number of descriptors in a message; the kernel's own limit (`SCM_MAX_FD`) is 253.
pub const MOST_DESCRIPTORS: usize = 250;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A listening socket at an abstract name.
#[derive(Debug)]
pub struct ChannelListener(UnixListener);

/// One end of a connection.
#[derive(Debug)]
pub struct Channel(UnixStream);

/// A socket that has a name and is not connected yet.
#[derive(Debug)]
pub struct Unconnected(OwnedFd);

/// A message with its descriptors.
type Received = (Vec<u8>, Vec<OwnedFd>);

impl ChannelListener {
    /// Listens at the abstract name `name`.
    ///
    /// # Errors
    ///
    /// The kernel's error: the name is taken.
    pub fn bind(name: &str) -> io::Result<Self> {
        let socket = named(name)?;
        listen(&socket, BACKLOG)?;
        UnixListener::from_std(socket.into()).map(Self)
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub async fn accept(&self) -> io::Result<Channel> {
        self.0.accept().await.map(|(socket, _)| Channel(socket))
    }
}

impl Unconnected {
    /// A socket with the abstract name `name`.
    ///
    /// # Errors
    ///
    /// The kernel's error: the name is taken.
    pub fn named(name: &str) -> io::Result<Self> {
        named(name).map(Self)
    }

    /// Connects to the listener at the abstract name `to`.
    ///
    /// # Errors
    ///
    /// The kernel's error: nobody listens there, or its queue is full.
    pub fn connect(&self, to: &str) -> io::Result<()> {
        Ok(connect(&self.0, &address(to)?)?)
    }

    /// The connected socket.
    ///
    /// # Errors
    ///
    /// The runtime cannot watch it.
    pub fn into_channel(self) -> io::Result<Channel> {
        Channel::new(self.0)
    }
}

impl Channel {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        UnixStream::from_std(socket.into()).map(Self)
    }

    /// The abstract name of the other end. As long as that end is open, nobody else can have this name.
    pub fn peer_name(&self) -> Option<String> {
        let address = SocketAddrUnix::try_from(getpeername(&self.0).ok()??).ok()?;
        String::from_utf8(address.abstract_name()?.to_vec()).ok()
    }

    /// Sends a message, which must not be empty.
    ///
    /// # Errors
    ///
    /// The kernel's error: the other end is closed, say.
    pub async fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fit = descriptors.is_empty()
                || (descriptors.len() <= MOST_DESCRIPTORS
                    && control.push(SendAncillaryMessage::ScmRights(descriptors)));
            if !fit {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
            }
            Ok(sendmsg(&self.0, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?)
        };
        self.0.async_io(Interest::WRITABLE, send).await.map(drop)
    }

    /// The next message; `None` once the other end is closed.
    ///
    /// # Errors
    ///
    /// The kernel's error, or [`io::ErrorKind::InvalidData`] for a message or descriptors beyond the bounds.
    pub async fn receive(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        self.0.async_io(Interest::READABLE, || receive(&self.0)).await
    }
}

fn receive(socket: &UnixStream) -> io::Result<Option<Received>> {
    let mut bytes = vec![0; MOST_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    let message = match recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
        // The other end was closed without reading everything.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        received => received?,
    };
    // Taken before anything is refused: what is taken is closed when it is dropped.
    let mut descriptors = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = item {
            descriptors.extend(received);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    bytes.truncate(message.bytes);
    Ok((message.bytes > 0).then_some((bytes, descriptors)))
}

/// A socket with a name.
fn named(name: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&socket, &address(name)?)?;
    Ok(socket)
}

fn address(name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn name(what: &str) -> String {
        format!("weir-test-{}-{what}", std::process::id())
    }

    fn connected(own: &str, to: &str) -> Channel {
        let socket = Unconnected::named(&name(own)).unwrap();
        socket.connect(&name(to)).unwrap();
        socket.into_channel().unwrap()
    }

    #[tokio::test]
    async fn a_message_arrives_with_its_descriptors_and_names_its_sender() {
        let listener = ChannelListener::bind(&name("listener")).unwrap();
        let next = connected("next", "listener");
        let old = listener.accept().await.unwrap();
        assert_eq!(old.peer_name(), Some(name("next")));
        assert_eq!(next.peer_name(), Some(name("listener")));
        let file = File::open("/dev/null").unwrap();
        old.send(b"one", &[file.as_fd(), file.as_fd()]).await.unwrap();
        old.send(b"two", &[]).await.unwrap();
        let (bytes, descriptors) = next.receive().await.unwrap().unwrap();
        assert_eq!((bytes.as_slice(), descriptors.len()), (&b"one"[..], 2));
        let device = |it: &File| it.metadata().unwrap().rdev();
        for descriptor in descriptors {
            assert_eq!(device(&File::from(descriptor)), device(&file));
        }
        assert_eq!(next.receive().await.unwrap().unwrap().0, b"two");
        drop(old);
        assert!(next.receive().await.is_ok_and(|it| it.is_none()));
    }

    #[tokio::test]
    async fn a_message_beyond_the_bounds_is_an_error_and_leaves_no_descriptor() {
        let listener = ChannelListener::bind(&name("bounds")).unwrap();
        let next = connected("bounds-next", "bounds");
        let old = listener.accept().await.unwrap();
        let file = File::open("/dev/null").unwrap();
        next.send(&[b'x'; MOST_BYTES + 1], &[file.as_fd()]).await.unwrap();
        assert_eq!(old.receive().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let many = vec![file.as_fd(); MOST_DESCRIPTORS + 1];
        assert_eq!(next.send(b"x", &many).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn a_name_is_had_once() {
        let _listener = ChannelListener::bind(&name("once")).unwrap();
        let second = ChannelListener::bind(&name("once")).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    }
}
