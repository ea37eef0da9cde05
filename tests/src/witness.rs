//! An endpoint that notes when its clients leave, as the kernel tells it: also while it reads nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::client::Closed;
use crate::database::{POSTGRES_OK, POSTGRES_READY};
use crate::raw::TcpServer;
use crate::time::eventually;

/// What the endpoint does once it has something of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It says nothing.
    Silent,
    /// It says nothing, and reads no more.
    Deaf,
    /// It sends the head of an event stream and one event, and then nothing.
    Streams,
    /// It sends a long answer, for as long as it is taken.
    Floods,
    /// It answers in any protocol, `+OK`, and then is silent.
    Greets,
    /// It is a PostgreSQL that lets everybody in, and never answers a query.
    Postgres,
    /// It reads to its client's end, and then answers 200.
    AnswersAtTheEnd,
    /// It reads to its client's end, and then closes without an answer.
    ClosesAtTheEnd,
}

/// The end of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// When the endpoint could know of it.
    pub at: Instant,
    /// FIN or RST.
    pub how: Closed,
}

/// A running endpoint.
pub struct Witness {
    server: TcpServer,
    asked: Arc<AtomicUsize>,
    left: Arc<Mutex<Vec<Left>>>,
}

/// What [`Manner::Streams`] sends.
pub const EVENT: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";

impl Witness {
    /// Serves connections to `listener` in this manner.
    pub fn on(listener: TcpListener, manner: Manner) -> Self {
        let (asked, left) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<Left>>>::default());
        let (count, notes) = (asked.clone(), left.clone());
        let server = TcpServer::on(listener, move |stream| {
            // What a client does while it is answered is no concern of the test.
            let _ = serve(stream, manner, &count, &notes);
        });
        Self { server, asked, left }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.server.accepted()
    }

    /// Waits until it has something of `n` requests.
    #[track_caller]
    pub fn wait_for(&self, n: usize) {
        eventually(&format!("{n} requests at the endpoint"), || self.asked.load(Ordering::SeqCst) >= n);
    }

    /// The ends that it has noticed.
    pub fn left(&self) -> Vec<Left> {
        self.left.lock().unwrap().clone()
    }

    /// Waits for the `n`-th end, counted from 1.
    #[track_caller]
    pub fn wait_for_end(&self, n: usize) -> Left {
        eventually(&format!("the endpoint to learn of {n} ends"), || self.left().len() >= n);
        self.left()[n - 1]
    }
}

/// Serves one connection, unless its client leaves before it says anything.
fn serve(
    mut stream: TcpStream,
    manner: Manner,
    asked: &AtomicUsize,
    left: &Mutex<Vec<Left>>,
) -> std::io::Result<()> {
    let mut piece = [0; 16 * 1024];
    if stream.read(&mut piece)? == 0 {
        return Ok(());
    }
    if manner == Manner::Postgres {
        stream.write_all(&[POSTGRES_OK, POSTGRES_READY].concat())?;
        // pgbench's first connection asks for nothing: `X` ends it.
        if stream.read(&mut piece)? == 0 || piece[0] == b'X' {
            return Ok(());
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let note = |how| left.lock().unwrap().push(Left { at: Instant::now(), how });
    match manner {
        Manner::Streams => stream.write_all(EVENT.as_bytes())?,
        Manner::Greets => stream.write_all(b"+OK")?,
        Manner::Floods => {
            let mut writer = stream.try_clone()?;
            std::thread::spawn(move || {
                let _ = writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
                while writer.write_all(&chunk).is_ok() {}
            });
        }
        Manner::Silent
        | Manner::Deaf
        | Manner::Postgres
        | Manner::AnswersAtTheEnd
        | Manner::ClosesAtTheEnd => {}
    }
    if manner == Manner::Deaf {
        // Whatever is unread before it.
        let told = wait(&stream, PollFlags::from_bits_retain(libc::POLLRDHUP));
        let reset = told.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
        note(if reset { Closed::Reset } else { Closed::End });
        return Ok(());
    }
    let how = loop {
        match stream.read(&mut piece) {
            Ok(0) => break Closed::End,
            Ok(_) => {}
            Err(_) => break Closed::Reset,
        }
    };
    note(how);
    match manner {
        Manner::AnswersAtTheEnd => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"),
        Manner::ClosesAtTheEnd => Ok(()),
        // What it does not end itself stays half-open until its client resets it.
        _ => {
            wait(&stream, PollFlags::empty());
            Ok(())
        }
    }
}

/// Waits for the peer's reset, or for `for_what`.
fn wait(stream: &TcpStream, for_what: PollFlags) -> PollFlags {
    let mut fds = [PollFd::new(stream.as_fd(), for_what)];
    while poll(&mut fds, PollTimeout::NONE).is_err() {}
    fds[0].revents().unwrap_or(PollFlags::empty())
}
