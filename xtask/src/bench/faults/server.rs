//! Servers with a thread for each connection. They end with their peers, or with this process.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::bench::backend::{ANSWER, head_end};

/// How long a request takes: so that some are in flight whenever a node goes.
const TAKES: Duration = Duration::from_millis(1);

/// Serves each connection in a thread of its own.
pub(super) fn run(listener: TcpListener, serve: fn(TcpStream) -> Result<()>) {
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                // It ends with its peer.
                let _ = stream.set_nodelay(true).and_then(|()| serve(stream));
            });
        }
    });
}

/// Answers requests without a body, or with one of a byte that comes with its head.
pub(super) fn answer(mut stream: TcpStream) -> Result<()> {
    let (mut input, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        input.extend_from_slice(&chunk[..count]);
        if let Some(end) = head_end(&input) {
            let has_body = input.starts_with(b"POST");
            if input.len() < end + usize::from(has_body) {
                continue;
            }
            std::thread::sleep(TAKES);
            stream.write_all(ANSWER)?;
            input.clear();
        }
    }
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
pub(super) fn echo(mut stream: TcpStream) -> Result<()> {
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&chunk[..count])?;
    }
}
