//! HTTP/2 servers: one on the h2 crate, which answers as told ([`H2Backend`]), and one that sends what frames a test
//! likes ([`frames`]).

mod answer;
pub mod frames;
mod serve;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

pub use answer::{Reply, Then};
use tokio::sync::watch;

use crate::message::Fields;
use crate::raw;
use crate::time::eventually;

/// One request as the backend received it, at its end.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The connection it came on, counted from 0.
    pub connection: usize,
    /// `:method`.
    pub method: String,
    /// `:protocol` of an extended CONNECT.
    pub protocol: Option<String>,
    /// `:scheme`, `:authority` and `:path` as one URL.
    pub target: String,
    /// Its fields.
    pub fields: Fields,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Fields,
}

impl Arrived {
    /// The value of the first field of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        crate::message::find(&self.fields, name)
    }
}

type Script = dyn Fn(&Arrived) -> Reply + Send + Sync;

/// What is to be served, before it starts.
pub struct Builder {
    script: Box<Script>,
    max_streams: Option<u32>,
    window: Option<u32>,
    takes_tunnels: bool,
}

/// What the threads of one backend share.
pub(crate) struct Shared {
    script: Box<Script>,
    max_streams: Option<u32>,
    window: Option<u32>,
    takes_tunnels: bool,
    connections: AtomicUsize,
    requests: Mutex<Vec<Arrived>>,
    /// Heads that came, requests whose bodies are still to come included.
    begun: AtomicUsize,
    /// Streams that the client reset: the code, and when.
    resets: Mutex<Vec<(u32, Instant)>>,
    /// The most streams that ran at the same time on one connection.
    most: AtomicUsize,
}

/// A running backend; stops when dropped.
pub struct H2Backend {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Keeps the port while it is stopped.
    listener: TcpListener,
    running: Option<Running>,
}

struct Running {
    stop: watch::Sender<Stop>,
    thread: JoinHandle<()>,
}

/// How a server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    No,
    /// With a GOAWAY, after what was begun has ended.
    Gracefully,
    Now,
}

impl Builder {
    /// Answers every request 200 with this body.
    pub fn answers(self, body: &str) -> Self {
        let reply = Reply::ok(body);
        self.script(move |_| reply.clone())
    }

    /// Gives every request this answer.
    pub fn reply(self, reply: Reply) -> Self {
        self.script(move |_| reply.clone())
    }

    /// Chooses the answer by the whole request.
    pub fn script(mut self, script: impl Fn(&Arrived) -> Reply + Send + Sync + 'static) -> Self {
        self.script = Box::new(script);
        self
    }

    /// Announces SETTINGS_ENABLE_CONNECT_PROTOCOL. A 2xx that it answers an extended CONNECT is a tunnel that echoes.
    pub fn takes_tunnels(mut self) -> Self {
        self.takes_tunnels = true;
        self
    }

    /// Announces SETTINGS_MAX_CONCURRENT_STREAMS.
    pub fn max_streams(mut self, most: u32) -> Self {
        self.max_streams = Some(most);
        self
    }

    /// Announces SETTINGS_INITIAL_WINDOW_SIZE.
    pub fn window(mut self, bytes: u32) -> Self {
        self.window = Some(bytes);
        self
    }

    /// Starts it on a free loopback port.
    #[track_caller]
    pub fn start(self) -> H2Backend {
        self.start_on(raw::listen(raw::loopback()).unwrap())
    }

    /// Starts it on this listener.
    #[track_caller]
    pub fn start_on(self, listener: TcpListener) -> H2Backend {
        let Self { script, max_streams, window, takes_tunnels } = self;
        let shared = Shared {
            script,
            max_streams,
            window,
            takes_tunnels,
            connections: AtomicUsize::new(0),
            requests: Mutex::default(),
            begun: AtomicUsize::new(0),
            resets: Mutex::default(),
            most: AtomicUsize::new(0),
        };
        let address = listener.local_addr().unwrap();
        let mut backend = H2Backend { shared: Arc::new(shared), address, listener, running: None };
        backend.run();
        backend
    }
}

impl H2Backend {
    /// A server of HTTP/2 alone that answers 200 `ok` unless told otherwise.
    pub fn http2() -> Builder {
        Builder {
            script: Box::new(|_| Reply::ok("ok")),
            max_streams: None,
            window: None,
            takes_tunnels: false,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Every request that came whole so far.
    pub fn requests(&self) -> Vec<Arrived> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The only request so far.
    #[track_caller]
    pub fn only_request(&self) -> Arrived {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }

    /// How many requests have begun.
    pub fn begun(&self) -> usize {
        self.shared.begun.load(Ordering::SeqCst)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The most streams that ran at the same time on one connection.
    pub fn most_streams(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// The codes of streams that the client reset, and when that came.
    pub fn resets(&self) -> Vec<(u32, Instant)> {
        self.shared.resets.lock().unwrap().clone()
    }

    /// Sends GOAWAY on every connection, listens no more, and waits for what was begun.
    pub fn stop_gracefully(&mut self) {
        self.stop(Stop::Gracefully);
    }

    /// Serves again on the same port.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop(Stop::Now);
        self.listener = raw::listen(self.address).unwrap();
        self.run();
    }

    fn run(&mut self) {
        let (stop, stopped) = watch::channel(Stop::No);
        let (shared, listener) = (self.shared.clone(), self.listener.try_clone().unwrap());
        let thread = std::thread::spawn(move || serve::run(shared, &listener, stopped));
        self.running = Some(Running { stop, thread });
    }

    fn stop(&mut self, how: Stop) {
        if let Some(Running { stop, thread }) = self.running.take() {
            let _ = stop.send(how);
            raw::stop_listening(&self.listener);
            let _ = thread.join();
        }
    }

    /// Waits until this many requests have begun.
    #[track_caller]
    pub fn has_begun(&self, requests: usize) -> &Self {
        eventually(&format!("{requests} requests"), || self.begun() >= requests);
        self
    }
}

impl Drop for H2Backend {
    fn drop(&mut self) {
        self.stop(Stop::Now);
    }
}
