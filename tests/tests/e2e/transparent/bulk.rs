//! Very much on one connection, both ways at once, and every byte of it in its place.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::channel;

use super::{Stage, TARGET, V4};
use e2e::raw::TcpServer;

/// How much goes each way.
const TOTAL: usize = 1 << 30;
/// How much is sent and compared at a time. No divisor of what the pattern repeats after.
const PIECE: usize = 256 << 10;

/// What is sent again and again: random, and as long as no buffer on the way is, so that bytes which are lost, doubled or
/// out of their order differ from it.
struct Pattern(Vec<u8>);

impl Pattern {
    const LENGTH: usize = 4_194_301;

    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; Self::LENGTH];
        rng.fill(&mut bytes);
        // Its beginning once more, so that a piece may begin anywhere.
        bytes.extend_from_within(..PIECE);
        Self(bytes)
    }

    /// What comes after so many bytes.
    fn at(&self, offset: usize) -> &[u8] {
        &self.0[offset % Self::LENGTH..][..PIECE.min(TOTAL - offset)]
    }

    fn send(&self, mut stream: &TcpStream) -> io::Result<()> {
        for offset in (0..TOTAL).step_by(PIECE) {
            stream.write_all(self.at(offset))?;
        }
        stream.shutdown(Shutdown::Write)
    }

    /// Reads to the end: how many bytes came, all of them the right ones.
    fn check(&self, mut stream: &TcpStream) -> io::Result<usize> {
        let mut buffer = vec![0; PIECE];
        let mut offset = 0;
        loop {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(offset);
            }
            let right = offset < TOTAL && self.at(offset).get(..read) == Some(&buffer[..read]);
            assert!(right, "other bytes than were sent, from {offset} to {}", offset + read);
            offset += read;
        }
    }
}

/// Sends one pattern and expects the other, at the same time: how much came.
fn exchange(stream: &TcpStream, send: &Pattern, expect: &Pattern) -> io::Result<usize> {
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send.send(stream));
        let received = expect.check(stream);
        sending.join().expect("the sender")?;
        received
    })
}

#[test]
fn a_gibibyte_each_way_at_once_arrives_byte_for_byte() {
    let Some(mut stage) = Stage::with_one_endpoint() else { return };
    let (tell, told) = channel();
    let tell = std::sync::Mutex::new(tell);
    let server = stage.a.listen(stage.a.at(TARGET)).unwrap();
    let _server = TcpServer::on(server, move |stream| {
        let received = exchange(&stream, &Pattern::new(2), &Pattern::new(1));
        let _ = tell.lock().unwrap().send(received.map_err(|error| error.to_string()));
    });
    let client = stage.dial(V4);
    let received = exchange(client.stream(), &Pattern::new(1), &Pattern::new(2));
    assert_eq!(received.map_err(|error| error.to_string()), Ok(TOTAL), "at the client");
    assert_eq!(told.recv_timeout(e2e::time::PATIENCE).unwrap(), Ok(TOTAL), "at the server");
    assert_eq!(stage.diverted(), 1.0);
}
