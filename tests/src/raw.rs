//! TCP below HTTP: ports that refuse, ports that swallow, resets, and servers of protocols weir does not know.
#![allow(
    unsafe_code,
    reason = "aborting a connection needs connect(AF_UNSPEC), which no safe wrapper offers"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use test_support::server;

/// Makes the later close of this socket a reset.
pub fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Resets the connection now, also while another thread reads or writes it.
pub fn abort(stream: &TcpStream) {
    reset_on_close(stream);
    let unspecified = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    // SAFETY: the descriptor is open for the whole call and the address is a local of the size given.
    unsafe { libc::connect(stream.as_raw_fd(), &raw const unspecified, size_of::<libc::sockaddr>() as u32) };
    let _ = stream.shutdown(Shutdown::Both);
}

/// Binds a listener that may follow another on the same port at once, and that keeps its port when it is shut down.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.port() == 0 {
        // Linux keeps the port of a socket that stops listening only where it was asked for by number (`tcp_set_state`).
        let chosen = bound(address)?;
        bound(chosen.local_addr()?.as_socket().expect("an IP address"))?
    } else {
        bound(address)?
    };
    socket.listen(1024)?;
    Ok(socket.into())
}

/// Connects from this port, also while an earlier socket that is not connected any more still has it.
pub fn connect_from(port: u16, to: SocketAddr) -> std::io::Result<TcpStream> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], port)),
        SocketAddr::V6(_) => SocketAddr::from(([0; 16], port)),
    };
    let socket = bound(any)?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Connects from this address of the machine, with any port.
pub fn connect_as(own: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    connect_at(SocketAddr::new(own, 0), to)
}

/// Connects from this address and port of the machine.
pub fn connect_at(own: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = bound(own)?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Sends a SYN from this port, and gives up at once.
pub fn begin_to_connect(port: u16, to: SocketAddr) -> std::io::Result<()> {
    let socket = bound(SocketAddr::from(([0, 0, 0, 0], port)))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

fn bound(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Stops a listener whose accept loop runs in another thread: `accept` there returns an error.
pub fn stop_listening(listener: &TcpListener) {
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
}

/// Any loopback port.
pub fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A loopback port that refuses every connection and belongs to nobody else meanwhile.
pub struct Refusing(Socket);

impl Refusing {
    /// Binds without listening.
    #[expect(clippy::new_without_default, reason = "binding a port is no default value")]
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&loopback().into()).unwrap();
        Self(socket)
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }
}

/// A loopback port that neither accepts nor refuses: connecting to it times out.
pub struct Swallowing {
    listener: Socket,
    _fill: Vec<Socket>,
}

impl Swallowing {
    /// Listens with a full accept queue, so that the kernel drops every SYN.
    #[expect(clippy::new_without_default, reason = "binding a port is no default value")]
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&loopback().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let fill = (0..3).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        });
        Self { _fill: fill.collect(), listener }
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }
}

/// A server of something that is not HTTP.
pub struct TcpServer {
    address: SocketAddr,
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
}

impl TcpServer {
    /// Runs `serve` in a thread of its own for each connection to `listener`.
    pub fn on(listener: TcpListener, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let accepted = Arc::new(AtomicUsize::new(0));
        let (serve, count, accepting) = (Arc::new(serve), accepted.clone(), listener.try_clone().unwrap());
        std::thread::spawn(move || {
            server::accept(&accepting, move |stream| {
                count.fetch_add(1, Ordering::SeqCst);
                serve(stream);
            });
        });
        Self { address: listener.local_addr().unwrap(), listener, accepted }
    }

    /// Sends everything back, and half-closes when the client does.
    pub fn echo(listener: TcpListener) -> Self {
        Self::on(listener, |stream| drop(server::echo(&stream)))
    }

    /// Passes everything on to a connection of its own and back.
    pub fn forwards(
        listener: TcpListener,
        connect: impl Fn() -> std::io::Result<TcpStream> + Send + Sync + 'static,
    ) -> Self {
        Self::on(listener, move |client| {
            let Ok(server) = connect() else { return };
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let back = std::thread::spawn(move || pass(&server, &client));
            pass(&from, &to);
            let _ = back.join();
        })
    }

    /// Reads to the client's FIN and only then answers with the number of bytes it got.
    pub fn counts_to_the_end(listener: TcpListener) -> Self {
        Self::on(listener, |mut stream| {
            let mut all = Vec::new();
            if stream.read_to_end(&mut all).is_ok() {
                let _ = stream.write_all(format!("got {}", all.len()).as_bytes());
            }
        })
    }

    /// Greets before the client says anything, as SMTP or MySQL do, then echoes.
    pub fn greets(listener: TcpListener, greeting: &'static str) -> Self {
        Self::on(listener, move |mut stream| {
            let _ = stream.write_all(greeting.as_bytes());
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                let _ = stream.write_all(&piece[..n]);
            }
        })
    }

    /// Says `farewell`, half-closes at once, and then counts what the client still sends; tells it on `count`.
    pub fn closes_first(
        listener: TcpListener,
        farewell: &'static str,
        count: std::sync::mpsc::Sender<usize>,
    ) -> Self {
        let count = std::sync::Mutex::new(count);
        Self::on(listener, move |mut stream| {
            let _ = stream.write_all(farewell.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            let _ = count.lock().unwrap().send(all.len());
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Copies one direction to its end.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        stop_listening(&self.listener);
    }
}
