//! Messages with descriptors between two processes: sequenced packets over a Unix socket at a path (unix(7)).
//!
//! Who may reach the path is decided by the folder it is in. The kernel says besides which user the other end is
//! (`SO_PEERCRED`).
//!
//! The runtime's types are those of byte streams. They only watch the descriptor here: every packet is sent and received
//! by the calls below.

use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::net::{bind, connect, listen, recvmsg, sendmsg, socket_with};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// Maximum size of a message: [`MOST_DESCRIPTORS`] addresses fit.
const MOST_BYTES: usize = 16 * 1024;

/// Maximum number of descriptors in a message; the kernel's own limit (`SCM_MAX_FD`) is 253.
pub const MOST_DESCRIPTORS: usize = 250;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A listening socket at a path.
#[derive(Debug)]
pub struct ChannelListener {
    socket: UnixListener,
    path: PathBuf,
    /// The file at the path, by its device and number.
    file: (u64, u64),
}

/// One end of a connection.
#[derive(Debug)]
pub struct Channel(UnixStream);

/// A message with its descriptors.
type Received = (Vec<u8>, Vec<OwnedFd>);

impl ChannelListener {
    /// Listens at `path`, in place of whoever listened there before; only this user may connect.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn bind(path: &Path) -> io::Result<Self> {
        // Under another name first: at `path` there is always one of the two that listens. Not one of this process's number,
        // which is the same in every container.
        let mut made = path.as_os_str().to_owned();
        made.push(format!(".{:08x}", fastrand::u32(..)));
        let made = Path::new(&made);
        let socket = socket()?;
        bind(&socket, &SocketAddrUnix::new(made)?)?;
        let place = || -> io::Result<(u64, u64)> {
            fs::set_permissions(made, Permissions::from_mode(0o600))?;
            listen(&socket, BACKLOG)?;
            let file = file(made)?;
            fs::rename(made, path)?;
            Ok(file)
        };
        let file = place().inspect_err(|_| drop(fs::remove_file(made)))?;
        Ok(Self { socket: UnixListener::from_std(socket.into())?, path: path.to_owned(), file })
    }

    /// Whether it is still at its path, where others find it.
    pub fn is_at_its_path(&self) -> bool {
        file(&self.path).is_ok_and(|file| file == self.file)
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub async fn accept(&self) -> io::Result<Channel> {
        self.socket.accept().await.map(|(socket, _)| Channel(socket))
    }
}

impl Channel {
    /// A connection to who listens at `path`.
    ///
    /// # Errors
    ///
    /// The kernel's error: nobody listens there, or its queue is full.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket()?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        UnixStream::from_std(socket.into()).map(Self)
    }

    /// The user of the other end, as it was when that connected or began to listen.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn peer_user(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.0.as_fd(), PeerCredentials)?.uid())
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

/// The file at `path`, by its device and number.
fn file(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()))
}

fn receive(socket: &UnixStream) -> io::Result<Option<Received>> {
    let mut bytes = vec![0; MOST_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    let message = match recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
        // The other end was closed without reading everything. The kernel says so once, and before what that end has sent.
        Err(rustix::io::Errno::CONNRESET) => recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC)?,
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

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    /// A folder, who listens in it, and the two ends of a connection.
    async fn connected() -> (tempfile::TempDir, ChannelListener, Channel, Channel) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = ChannelListener::bind(&path).unwrap();
        let next = Channel::connect(&path).unwrap();
        let old = listener.accept().await.unwrap();
        (folder, listener, old, next)
    }

    #[tokio::test]
    async fn a_message_arrives_with_its_descriptors_and_each_end_knows_the_others_user() {
        let (_folder, _listener, old, next) = connected().await;
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!((old.peer_user().unwrap(), next.peer_user().unwrap()), (own, own));
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
    async fn what_was_sent_last_arrives_also_from_an_end_that_has_not_read_everything() {
        let (_folder, _listener, old, next) = connected().await;
        next.send(b"unread", &[]).await.unwrap();
        old.send(b"last", &[]).await.unwrap();
        drop(old);
        assert_eq!(next.receive().await.unwrap().unwrap().0, b"last");
        assert!(next.receive().await.is_ok_and(|it| it.is_none()));
    }

    #[tokio::test]
    async fn a_message_beyond_the_bounds_is_an_error_and_leaves_no_descriptor() {
        let (_folder, _listener, old, next) = connected().await;
        let file = File::open("/dev/null").unwrap();
        next.send(&[b'x'; MOST_BYTES + 1], &[file.as_fd()]).await.unwrap();
        assert_eq!(old.receive().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let many = vec![file.as_fd(); MOST_DESCRIPTORS + 1];
        assert_eq!(next.send(b"x", &many).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn at_a_path_the_last_one_listens_and_only_its_user_may_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let kind = |path: &Path| Channel::connect(path).unwrap_err().kind();
        assert_eq!(kind(&path), io::ErrorKind::NotFound);
        let first = ChannelListener::bind(&path).unwrap();
        let waits = Channel::connect(&path).unwrap();
        let second = ChannelListener::bind(&path).unwrap();
        let _new = Channel::connect(&path).unwrap();
        second.accept().await.unwrap();
        first.accept().await.expect("who connected before is the first one's");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!((first.is_at_its_path(), second.is_at_its_path()), (false, true));
        drop((waits, first, second));
        assert_eq!(kind(&path), io::ErrorKind::ConnectionRefused);
        // What is left of one that died hinders nobody, and nothing else is left.
        let last = ChannelListener::bind(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::remove_file(&path).unwrap();
        assert!(!last.is_at_its_path());
    }

    #[tokio::test]
    async fn what_another_one_of_the_same_process_id_is_about_to_put_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let others = folder.path().join(format!("socket.{}", std::process::id()));
        let _other = std::os::unix::net::UnixListener::bind(&others).unwrap();
        ChannelListener::bind(&path).unwrap();
        assert!(others.exists());
        // Where it cannot take its place, nothing is left.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        ChannelListener::bind(&path).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
