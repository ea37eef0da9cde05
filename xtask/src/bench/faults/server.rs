//! Servers with a thread for each connection. They end with their peers, or with this process.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use test_support::server;

use crate::bench::backend::ANSWER;

/// How long a request takes: so that some are in flight whenever a node goes.
const TAKES: Duration = Duration::from_millis(1);

/// Serves each connection in a thread of its own.
pub(super) fn run(listener: TcpListener, serve: fn(TcpStream) -> Result<()>) {
    std::thread::spawn(move || {
        server::accept(&listener, move |stream| {
            // It ends with its peer.
            let _ = stream.set_nodelay(true).and_then(|()| serve(stream));
        });
    });
}

/// Answers requests.
pub(super) fn answer(stream: TcpStream) -> Result<()> {
    server::answer_each(stream, TAKES, ANSWER)
}

/// Answers with interim answers.
pub(super) fn flood(mut stream: TcpStream) -> Result<()> {
    let much = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
    let _ = stream.read(&mut [0; 4096])?;
    loop {
        stream.write_all(&much)?;
    }
}

/// Sends everything back.
pub(super) fn echo(stream: TcpStream) -> Result<()> {
    server::echo(&stream)
}
