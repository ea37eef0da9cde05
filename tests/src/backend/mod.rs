//! `Backend`: an HTTP/1 server that answers as told, however badly, and remembers what it was sent.

mod answer;
pub mod http2;
pub mod process;
mod serve;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use answer::{Answer, Then};

use crate::message::{Fields, Head};
use crate::net::place::Place;
use crate::raw;
use crate::time::eventually;
use crate::wire::Log;

/// One request as the backend received it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The connection it came on, counted from 0.
    pub connection: usize,
    /// Its head.
    pub head: Head,
    /// The first 16 MiB of its body, decoded.
    pub body: Vec<u8>,
    /// Bytes of its body so far.
    pub length: u64,
    /// Its trailers.
    pub trailers: Fields,
    /// Whether its body was read to the end.
    pub complete: bool,
}

type Script = dyn Fn(&Received) -> Answer + Send + Sync;

/// What is to be served, before it starts.
pub struct Builder {
    script: Box<Script>,
    closes_after: usize,
    place: Place,
    address: SocketAddr,
}

/// What the threads of one backend share.
pub(crate) struct Shared {
    script: Box<Script>,
    closes_after: usize,
    connections: AtomicUsize,
    requests: Mutex<Vec<Received>>,
    logs: Mutex<Vec<Log>>,
    open: Mutex<Vec<(usize, TcpStream)>>,
}

/// A running backend; stops and resets its connections when dropped.
pub struct Backend {
    shared: Arc<Shared>,
    /// The last one; after a kill it listens no more, and keeps the port from everyone else.
    listener: Option<TcpListener>,
    place: Place,
    address: SocketAddr,
}

impl Builder {
    /// Answers every request 200 with this body.
    pub fn answers(self, body: &str) -> Self {
        let answer = Answer::ok(body);
        self.script(move |_| answer.clone())
    }

    /// Gives every request this answer.
    pub fn answer(self, answer: Answer) -> Self {
        self.script(move |_| answer.clone())
    }

    /// Chooses the answer by the request's head; its body has not been read yet.
    pub fn script(mut self, script: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        self.script = Box::new(script);
        self
    }

    /// Closes each connection after `n` answers, without announcing it.
    pub fn closes_after(mut self, n: usize) -> Self {
        self.closes_after = n;
        self
    }

    /// Listens on this address instead of a free loopback port.
    pub fn on(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Listens inside this namespace.
    pub fn inside(mut self, place: impl Into<Place>) -> Self {
        self.place = place.into();
        self
    }

    /// Starts it.
    #[track_caller]
    pub fn start(self) -> Backend {
        let shared = Shared {
            script: self.script,
            closes_after: self.closes_after,
            connections: AtomicUsize::new(0),
            requests: Mutex::default(),
            logs: Mutex::default(),
            open: Mutex::default(),
        };
        let mut backend =
            Backend { shared: Arc::new(shared), listener: None, place: self.place, address: self.address };
        backend.restart();
        backend
    }
}

impl Backend {
    /// An HTTP/1.1 server that answers 200 `ok` unless told otherwise.
    pub fn http() -> Builder {
        let builder = Builder {
            script: Box::new(|_| Answer::ok("ok")),
            closes_after: 0,
            place: Place::Here,
            address: raw::loopback(),
        };
        builder.answers("ok")
    }

    /// A started server that answers 200 `ok` after 5 ms: beside a quicker endpoint, the balancer prefers the other.
    /// A test of what a failing endpoint costs needs one, for a failing endpoint that is never asked costs nothing.
    #[track_caller]
    pub fn patient() -> Self {
        Self::http().answer(Answer::ok("ok").after(Duration::from_millis(5))).start()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, in order of arrival. One whose body is still coming is among them.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// The only request; fails the test when there are none or more.
    #[track_caller]
    pub fn only_request(&self) -> Received {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "the backend got {requests:?}");
        requests.remove(0)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.lock().unwrap().len()
    }

    /// The first MiB of each connection, exactly as received.
    pub fn raw(&self) -> Vec<Vec<u8>> {
        self.shared.logs.lock().unwrap().iter().map(|log| log.lock().unwrap().clone()).collect()
    }

    /// Forgets every connection and request so far; resets the connections that are open.
    pub fn forget(&self) {
        self.drop_connections();
        eventually("the connections' end", || self.open() == 0);
        self.shared.connections.store(0, Ordering::SeqCst);
        self.shared.requests.lock().unwrap().clear();
        self.shared.logs.lock().unwrap().clear();
    }

    /// Waits until `n` requests have arrived.
    #[track_caller]
    pub fn wait_for(&self, n: usize) {
        eventually(&format!("{n} requests at the backend"), || self.count() >= n);
    }

    /// Stops listening and resets every connection: what a killed process looks like from outside.
    pub fn kill(&mut self) {
        if let Some(listener) = &self.listener {
            raw::stop_listening(listener);
        }
        for (_, stream) in self.shared.open.lock().unwrap().drain(..) {
            raw::abort(&stream);
        }
    }

    /// Stops listening but keeps serving the connections that are open.
    pub fn stop_accepting(&mut self) {
        if let Some(listener) = &self.listener {
            raw::stop_listening(listener);
        }
    }

    /// Stops listening, answers what was asked already, and closes: what a server does that was told to end.
    pub fn finish(&mut self) {
        self.stop_accepting();
        for (_, stream) in &*self.shared.open.lock().unwrap() {
            let _ = stream.shutdown(Shutdown::Read); // What has arrived is still read.
        }
    }

    /// Resets the connections that are open and keeps listening.
    pub fn drop_connections(&self) {
        for (_, stream) in self.shared.open.lock().unwrap().drain(..) {
            raw::abort(&stream);
        }
    }

    /// Listens again, on the same port, after a [`Self::kill`].
    #[track_caller]
    pub fn restart(&mut self) {
        let mut bound = self.place.listen(self.address);
        // A port just left may need a moment; a fresh one never does.
        for _ in 0..100 {
            if bound.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            bound = self.place.listen(self.address);
        }
        let listener = bound.unwrap_or_else(|e| panic!("backend cannot listen on {}: {e}", self.address));
        self.address = listener.local_addr().unwrap();
        self.listener = Some(listener.try_clone().unwrap());
        let shared = self.shared.clone();
        std::thread::spawn(move || serve::accept(&shared, &listener));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}
