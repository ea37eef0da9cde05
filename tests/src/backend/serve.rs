//! The threads of a backend: one accepts, one per connection reads and answers.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::answer::{Answer, Body, Reads, Then};
use super::{Received, Shared};
use crate::message::Framing;
use crate::raw;
use crate::wire::{Content, Wire};

/// Accepts until the listener is shut down.
pub(super) fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let mut open = shared.open.lock().unwrap();
        open.extend(stream.try_clone().map(|clone| (number, clone)));
        let shared = shared.clone();
        std::thread::spawn(move || {
            let _ = connection(&shared, stream, number);
            // The clone kept for `kill` would hold the socket open.
            shared.open.lock().unwrap().retain(|(other, _)| *other != number);
        });
    }
}

fn connection(shared: &Shared, stream: TcpStream, number: usize) -> io::Result<()> {
    let log = crate::wire::Log::default();
    shared.logs.lock().unwrap().push(log.clone());
    let mut wire = Wire::logged(stream, log);
    let mut answered = 0;
    while let Some(head) = wire.head()? {
        let framing = Framing::of_request(&head);
        let request = Received {
            connection: number,
            head,
            body: Vec::new(),
            length: 0,
            trailers: Vec::new(),
            complete: framing == Framing::None,
        };
        let index = {
            let mut requests = shared.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        let answer = (shared.script)(&request);
        let then = exchange(shared, &mut wire, index, &request, &answer)?;
        answered += 1;
        if then == Then::Close || (shared.closes_after != 0 && answered >= shared.closes_after) {
            // As real servers do: a close with bytes unread would be a reset, and could overtake the answer.
            wire.stream().shutdown(Shutdown::Write)?;
            while !wire.some()?.is_empty() {}
            return Ok(());
        }
        if then == Then::Reset {
            raw::abort(wire.stream());
            return Ok(());
        }
    }
    Ok(())
}

/// Answers one request; what is left to do is the close, if any.
fn exchange(
    shared: &Shared,
    wire: &mut Wire,
    index: usize,
    request: &Received,
    answer: &Answer,
) -> io::Result<Then> {
    let framing = Framing::of_request(&request.head);
    if answer.reads == Reads::First && request.head.lists("expect", "100-continue") {
        wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if matches!(answer.reads, Reads::First | Reads::Unasked) {
        read_body(shared, wire, index, framing)?;
    }
    std::thread::sleep(answer.delay);
    let mut pieces = answer.pieces();
    if request.head.method() == "HEAD" {
        pieces.clear();
    }
    // Head and first piece go out together, so that a process that is killed has answered, or has not.
    let first = [answer.head(), if pieces.is_empty() { Vec::new() } else { pieces.remove(0) }].concat();
    wire.write(&first)?;
    if request.head.method() != "HEAD" {
        write_body(wire, &answer.body, pieces)?;
    }
    if answer.reads == Reads::After {
        read_body(shared, wire, index, framing)?;
    }
    match answer.then {
        Then::Hang => while !wire.some()?.is_empty() {},
        Then::Echo => loop {
            let bytes = wire.some()?;
            if bytes.is_empty() {
                break;
            }
            wire.write(&bytes)?;
        },
        Then::Keep | Then::Close | Then::Reset => return Ok(answer.then),
    }
    Ok(Then::Close)
}

fn write_body(wire: &mut Wire, body: &Body, pieces: Vec<Vec<u8>>) -> io::Result<()> {
    let pause = if let Body::Chunks(_, pause, _) = body { *pause } else { Duration::ZERO };
    for piece in pieces {
        std::thread::sleep(pause);
        wire.write(&piece)?;
    }
    if let Body::Stream(length) = body {
        let piece = [b'x'; 65536];
        let mut left = *length;
        while left > 0 {
            let n = left.min(piece.len() as u64);
            wire.write(&piece[..usize::try_from(n).unwrap()])?;
            left -= n;
        }
    }
    Ok(())
}

fn read_body(shared: &Shared, wire: &mut Wire, index: usize, framing: Framing) -> io::Result<()> {
    if framing == Framing::None {
        return Ok(());
    }
    let mut content = Content::default();
    let result = wire.body(framing, &mut content);
    // The test may have forgotten the request meanwhile.
    if let Some(request) = shared.requests.lock().unwrap().get_mut(index) {
        request.body = content.bytes;
        request.length = content.length;
        request.trailers = content.trailers;
        request.complete = result.is_ok();
    }
    result
}
