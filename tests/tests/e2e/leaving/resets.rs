//! A client that resets its connection cancels its exchange at once, also where weir reads nothing from it.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::Between;
use e2e::raw::abort;
use e2e::witness::Manner;

const GET: &str = "GET / HTTP/1.1\r\nHost: hello\r\n\r\n";

/// Writes until nothing more is taken for a moment.
fn fill(stream: &mut TcpStream, piece: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while stream.write_all(piece).is_ok() {}
}

#[test]
fn a_reset_behind_bytes_that_nobody_reads_cancels_the_exchange() {
    Between::both("{ halfClosed: 1h, response: 1h }", |between| {
        // An upload that its endpoint does not take.
        let witness = between.witness(Manner::Deaf);
        let mut client = between.connect();
        client.write_all(b"POST / HTTP/1.1\r\nHost: hello\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let chunk = [&b"4000\r\n"[..], &[b'x'; 0x4000], b"\r\n"].concat();
        fill(&mut client, &chunk);
        witness.wait_for(1);
        abort(&client);
        witness.wait_for_end(1);
        between.expect_nothing_in_flight();
        drop(witness);

        // A request behind the one whose answer is awaited.
        let witness = between.witness(Manner::Silent);
        let mut client = between.connect();
        client.write_all(GET.as_bytes()).unwrap();
        witness.wait_for(1);
        client.write_all(GET.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        abort(&client);
        witness.wait_for_end(1);
        between.expect_nothing_in_flight();
    });
}

#[test]
fn a_reset_behind_bytes_that_nobody_reads_ends_a_tunnel() {
    Between::both("{ tunnelIdle: 1h }", |between| {
        let witness = between.witness(Manner::Deaf);
        let mut client = between.connect();
        if between.is_explicit() {
            client.write_all(b"CONNECT hello:80 HTTP/1.1\r\nHost: hello:80\r\n\r\n").unwrap();
        }
        fill(&mut client, &[0; 0x4000]);
        witness.wait_for(1);
        abort(&client);
        witness.wait_for_end(1);
        between.expect_nothing_in_flight();
    });
}

#[test]
fn abandoned_requests_do_not_fill_the_listener() {
    Between::both("{ connections: 60, halfClosed: 1h, response: 1h }", |between| {
        let witness = between.witness(Manner::Silent);
        let clients: Vec<_> = (0..60).map(|_| between.connect()).collect();
        for (at, mut client) in clients.iter().enumerate() {
            client.write_all(GET.as_bytes()).unwrap();
            witness.wait_for(at + 1);
        }
        clients.iter().for_each(abort);
        // The next client is served while the endpoint still hangs.
        let mut next = between.connect();
        next.write_all(GET.as_bytes()).unwrap();
        witness.wait_for(61);
    });
}
