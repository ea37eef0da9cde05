//! The agent: a process that lives in a pod and makes sockets there for the test, which gets their descriptors.
//!
//! The connect hooks look at the process that calls `connect` and at the cgroup the socket was made in, so a socket
//! made anywhere else would prove nothing; while a test that holds the connected descriptor still controls each byte.
//! Each request comes on its own connection to the agent's Unix socket, so that one may hang without the others.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::raw;
use crate::time::PATIENCE;

/// Enters a network namespace of its own.
pub fn leave_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
}

/// Enters a network namespace of its own, which belongs to a user namespace of its own.
pub fn leave_namespaces() {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).expect("new namespaces");
}

/// Serves requests at `socket` in the background.
pub fn serve(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
}

/// A connection made by the agent at `socket`.
pub fn connect(socket: &Path, address: SocketAddr) -> io::Result<TcpStream> {
    ask(socket, &format!("connect {address}")).map(TcpStream::from)
}

/// A connection from this port of the pod's, made by the agent at `socket`.
pub fn connect_from(socket: &Path, port: u16, address: SocketAddr) -> io::Result<TcpStream> {
    ask(socket, &format!("from {port} {address}")).map(TcpStream::from)
}

/// A connection from this address and port of the pod's, made by the agent at `socket`.
pub fn connect_as(socket: &Path, own: SocketAddr, address: SocketAddr) -> io::Result<TcpStream> {
    ask(socket, &format!("as {own} {address}")).map(TcpStream::from)
}

/// A listener made by the agent at `socket`.
pub fn listen(socket: &Path, address: SocketAddr) -> io::Result<TcpListener> {
    ask(socket, &format!("listen {address}")).map(TcpListener::from)
}

/// A socket for datagrams made by the agent at `socket`.
pub fn datagrams(socket: &Path, address: SocketAddr) -> io::Result<UdpSocket> {
    ask(socket, &format!("datagrams {address}")).map(UdpSocket::from)
}

fn answer(mut stream: UnixStream) {
    let mut request = String::new();
    stream.read_to_string(&mut request).unwrap();
    let made: io::Result<OwnedFd> = match request.split_once(' ') {
        Some(("connect", to)) => TcpStream::connect_timeout(&to.parse().unwrap(), PATIENCE).map(Into::into),
        Some(("from", way)) => {
            let (port, to) = way.split_once(' ').expect("a port and an address");
            raw::connect_from(port.parse().unwrap(), to.parse().unwrap()).map(Into::into)
        }
        Some(("as", way)) => {
            let (own, to) = way.split_once(' ').expect("two addresses");
            raw::connect_at(own.parse().unwrap(), to.parse().unwrap()).map(Into::into)
        }
        Some(("listen", on)) => raw::listen(on.parse().unwrap()).map(Into::into),
        Some(("datagrams", on)) => UdpSocket::bind(on.parse::<SocketAddr>().unwrap()).map(Into::into),
        _ => panic!("request to the agent: {request:?}"),
    };
    // A test that ended meanwhile does not want the answer any more.
    let _ = match made {
        Ok(fd) => {
            let fds = [fd.as_raw_fd()];
            let rights = [ControlMessage::ScmRights(&fds)];
            sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"0")], &rights, MsgFlags::empty(), None)
                .map(drop)
        }
        Err(e) => {
            // A timeout of `connect_timeout` carries no number.
            let number = e.raw_os_error().unwrap_or(libc::ETIMEDOUT);
            stream.write_all(number.to_string().as_bytes()).map_err(|_| nix::errno::Errno::EPIPE)
        }
    };
}

#[expect(unsafe_code, reason = "a received descriptor arrives as a number")]
fn ask(socket: &Path, request: &str) -> io::Result<OwnedFd> {
    let mut stream = UnixStream::connect(socket).expect("the pod's agent");
    stream.write_all(request.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = [0; 16];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut text)];
    let message =
        recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let length = message.bytes;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fds[0]) });
        }
    }
    let number = std::str::from_utf8(&text[..length]).unwrap_or_default().parse();
    Err(io::Error::from_raw_os_error(number.expect("an error number from the agent")))
}
