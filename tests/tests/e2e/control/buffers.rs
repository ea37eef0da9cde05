//! What the kernel buffers of what a peer has sent fits the memory budget.

use std::io::{Read, Write};
use std::net::TcpStream;

use e2e::sockets::receive_buffers;
use e2e::{Answer, Backend, Place, Weir, eventually};
use socket2::SockRef;

use super::apply::change;

#[test]
fn a_connection_has_a_buffer_that_fits_the_budget_or_the_one_that_is_set() {
    let big = Backend::http().answer(Answer::stream(1 << 30)).start();
    let weir = Weir::new().service("big", &[big.addr()]).set("limits", "{ memory: 64MiB }").start();
    weir.expect_log("64 MiB (limits.memory) in use");
    // The budget, the setting, and what the kernel makes of it: twice as much.
    for (memory, setting, expected) in [
        ("64MiB", "auto", 128 << 10),
        ("512MiB", "auto", 1 << 20),
        ("64MiB", "96KiB", 192 << 10),
        ("16GiB", "auto", 2 << 20),
    ] {
        change(&weir, "limits", Some(&format!("{{ memory: {memory}, receiveBuffer: {setting} }}")));
        eventually("the client's and the endpoint's connection with such buffers", || {
            let mut client = TcpStream::connect(weir.outgoing()).unwrap();
            SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
            client.write_all(b"GET http://big/ HTTP/1.1\r\nHost: big\r\n\r\n").unwrap();
            client.read_exact(&mut [0]).unwrap();
            let (own, _) = receive_buffers(Place::Here, weir.pid());
            own.iter().filter(|it| **it == expected).count() >= 2
        });
    }
}
