//! The smallest weir there can be: it accepts on the transparent ports and says what was dialled.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use weir::intercept::{
    Destination, Enrol, Fail, InterceptOptions, Interception, OriginalDsts, TOO_OLD, Unknown,
};

use crate::world::{NODE, SERVICE, STEP, World};

/// The first transparent port. Fixed, because every test has a node of its own.
pub const FIRST: u16 = 4142;
/// How many there are.
pub const PORTS: u16 = 8;

/// How the tests intercept, unless they say otherwise.
pub fn options(world: &World) -> InterceptOptions {
    InterceptOptions {
        addresses: NODE.map(ip).to_vec(),
        first_port: FIRST,
        ports: PORTS,
        cgroup: world.pods.path.clone(),
        enrol: Enrol::All,
        host: false,
        fail: Fail::Open,
        tuples: 4096,
        destinations: 1024,
        pods: None,
    }
}

/// The listeners of the transparent ports, in the calling thread's namespace.
pub fn listeners() -> Vec<TcpListener> {
    listeners_from(FIRST)
}

/// As many, from another port on.
pub fn listeners_from(first: u16) -> Vec<TcpListener> {
    (first..first + PORTS).map(|port| listen(port, 4096)).collect()
}

pub fn listen(port: u16, backlog: i32) -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).expect("socket");
    socket.set_only_v6(false).expect("IPV6_V6ONLY");
    // Connections to an earlier weir of the same test may linger.
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    // A process that another test has just forked may hold the same port's last listener for a moment longer, until it
    // has closed what it inherited.
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into();
    let end = Instant::now() + STEP;
    while let Err(error) = socket.bind(&address) {
        let taken = error.kind() == std::io::ErrorKind::AddrInUse;
        assert!(taken && Instant::now() < end, "bind: {error}");
        std::thread::yield_now();
    }
    socket.listen(backlog).expect("listen");
    weir::intercept::save_syns(socket.as_fd()).expect("TCP_SAVE_SYN");
    socket.into()
}

/// The services' addresses on any port.
pub fn services() -> impl Iterator<Item = Destination> {
    SERVICE.map(|address| Destination { net: IpNet::from(ip(address)), ports: 1..=65535 }).into_iter()
}

/// An interception that diverts the services and whose heart beats, and the listeners it diverts to.
pub fn intercept(options: &InterceptOptions) -> (Beating, Vec<TcpListener>) {
    let listeners = listeners();
    (intercept_to(options, &listeners), listeners)
}

/// An interception that diverts the services to these listeners.
pub fn intercept_to(options: &InterceptOptions, listeners: &[TcpListener]) -> Beating {
    let mut interception = Beating::attach(options, &listeners[0]);
    interception.divert(&services().collect()).expect("divert");
    interception
}

/// An interception with a thread that beats.
pub struct Beating {
    interception: Interception,
    heart: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Beating {
    pub fn attach(options: &InterceptOptions, listener: &TcpListener) -> Self {
        Self::of(Interception::attach(options, listener.as_fd()).expect("attach"))
    }

    pub fn of(interception: Interception) -> Self {
        let (heart, stop) = (interception.heart(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                heart.beat().expect("beat");
                std::thread::park_timeout(Duration::from_millis(100));
            }
        });
        Self { interception, heart: Some((stop, thread)) }
    }

    /// Stops the heart.
    pub fn stop_heart(&mut self) {
        if let Some((stop, thread)) = self.heart.take() {
            stop.store(true, Ordering::Relaxed);
            thread.thread().unpark();
            thread.join().expect("the heart");
        }
    }
}

impl std::ops::Deref for Beating {
    type Target = Interception;

    fn deref(&self) -> &Interception {
        &self.interception
    }
}

impl std::ops::DerefMut for Beating {
    fn deref_mut(&mut self) -> &mut Interception {
        &mut self.interception
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.stop_heart();
    }
}

/// How many entries there are that nobody has taken.
pub fn waiting(interception: &Interception) -> usize {
    sweep(interception, TOO_OLD)
}

/// Forgets entries of this age, and says how many there are then.
pub fn sweep(interception: &Interception, age: Duration) -> usize {
    let mut walk = interception.original_dsts().sweep(age);
    while walk.step().expect("a batch of entries") {}
    interception.status().waiting
}

/// Accepts on every port and answers with one line: `weir` and the address that was dialled.
pub struct Answering {
    ports: Vec<u16>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Answering {
    pub fn start(listeners: &[TcpListener], original_dsts: &OriginalDsts) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answer = |listener: &TcpListener| {
            let listener = listener.try_clone().expect("dup");
            let (original_dsts, stop) = (original_dsts.clone(), stop.clone());
            std::thread::spawn(move || {
                while let Ok((stream, client)) = listener.accept() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    answer(stream, client, &original_dsts);
                }
            })
        };
        let threads = listeners.iter().map(answer).collect();
        let ports = listeners.iter().map(|it| it.local_addr().expect("getsockname").port()).collect();
        Self { ports, stop, threads }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for port in &self.ports {
            let _ = TcpStream::connect((NODE[0], *port));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, client: SocketAddr, original_dsts: &OriginalDsts) {
    let local = stream.local_addr().expect("getsockname");
    let line = match original_dsts.take(&stream, client, local) {
        Ok(original) if original.opaque => format!("weir opaque {}", original.dialled),
        Ok(original) => format!("weir {}", original.dialled),
        Err(Unknown::Foreign(_)) => "foreign".to_owned(),
        Err(Unknown::NoNumber) => "no number".to_owned(),
        Err(Unknown::NotFiled) => "lost".to_owned(),
    };
    let _ = stream.write_all(line.as_bytes());
}

/// What a direct connection reaches: a server in the pod, on the services' addresses and its own.
pub struct Direct {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Direct {
    /// On port 80, saying `direct`.
    pub fn start(world: &World) -> Self {
        Self::saying(world, 80, "direct")
    }

    /// On any port, saying anything.
    pub fn saying(world: &World, port: u16, words: &'static str) -> Self {
        let listener = world.in_pod(|| listen(port, 128));
        let accepting = listener.try_clone().expect("dup");
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                let _ = stream.write_all(words.as_bytes());
            }
        });
        Self { listener, thread: Some(thread) }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // SAFETY: an open socket. Ends the accept() in the thread.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RD) };
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// As an application: dials and gives the answer and what getpeername says, or the error's kind.
pub fn dial(address: SocketAddr) -> String {
    match TcpStream::connect_timeout(&address, STEP) {
        Ok(stream) => read(stream),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// The answer on a connection, and its peer as the application sees it.
pub fn read(mut stream: TcpStream) -> String {
    let peer = stream.peer_addr().map_or_else(|error| error.to_string(), |peer| peer.to_string());
    // A lost connection says so, and does not wait for ever.
    stream.set_read_timeout(Some(STEP)).expect("a time limit");
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) => format!("{answer}, peer {peer}"),
        Err(error) => format!("{answer}{:?}, peer {peer}", error.kind()),
    }
}

/// As [`read`], for a Multipath TCP socket: what comes first is the whole answer, and its end is not waited for. Linux 7.3.4
/// loses the end of about every tenth such connection to a server without Multipath TCP, with no weir between them.
pub fn read_multipath(mut stream: TcpStream) -> String {
    let peer = stream.peer_addr().map_or_else(|error| error.to_string(), |peer| peer.to_string());
    stream.set_read_timeout(Some(STEP)).expect("a time limit");
    let mut answer = [0; 256];
    match stream.read(&mut answer) {
        Ok(length) => format!("{}, peer {peer}", String::from_utf8_lossy(&answer[..length])),
        Err(error) => format!("{:?}, peer {peer}", error.kind()),
    }
}

/// Repeats a dial until it says what is expected, and fails when that takes too long.
pub fn eventually(what: &str, mut dial: impl FnMut() -> String) -> Duration {
    let start = Instant::now();
    loop {
        let said = dial();
        if said.starts_with(what) {
            return start.elapsed();
        }
        assert!(start.elapsed() < STEP, "expected {what}, got {said}");
    }
}

pub fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

/// The service's address of a family, with a port.
pub fn service(family: usize, port: u16) -> SocketAddr {
    SocketAddr::new(ip(SERVICE[family]), port)
}
