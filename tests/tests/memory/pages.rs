//! Pages of the admin are written as they are read: slow readers cost little, and keep nobody waiting for long.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use e2e::time::within;
use e2e::{Backend, Weir, raw};
use socket2::SockRef;

use super::{MIB, ask};

/// Endpoints of the one service: the metrics have thirteen rows for each.
const ENDPOINTS: u16 = 8_000;

/// How often they are asked: each time some are tried, and as many compared with these.
const ASKED: usize = 60;

/// A weir whose metrics are a large page.
fn large() -> (Weir, Backend) {
    let backend = Backend::http().start();
    let endpoints: Vec<SocketAddr> = (1..=ENDPOINTS).map(|port| ([127, 0, 0, 9], port).into()).collect();
    let weir = Weir::new().service("hello", &[backend.addr()]).service("many", &endpoints).start();
    // An endpoint has no rows before it is asked.
    ask(&weir, ASKED);
    (weir, backend)
}

#[test]
fn who_does_not_read_a_large_page_costs_little_and_does_not_keep_it_from_others() {
    let (weir, _backend) = large();
    let page = weir.admin_get("/metrics");
    page.expect_status(200);
    let rows = page.text().lines().filter(|line| line.starts_with("weir_endpoint_requests_total{")).count();
    assert!(rows >= 1_000 && page.text().ends_with("# EOF\n"), "{rows} rows");
    assert!(page.body.len() as u64 > MIB, "{}", page.body.len());
    let before = weir.anonymous();
    let slow: Vec<TcpStream> = (0..20)
        .map(|number| {
            // More addresses than there are places, and one is that of who asks below: each has one page at a time.
            let own = IpAddr::from([127, 0, 0, 1 + number % 5]);
            let mut stream = raw::connect_as(own, weir.admin()).unwrap();
            let _ = SockRef::from(&stream).set_recv_buffer_size(4096);
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    within(Duration::from_secs(20), "the first to be answered", || {
        slow.iter().filter(|it| matches!((*it).peek(&mut [0; 1]), Ok(1))).count() > 0
    });
    let grown = weir.anonymous().saturating_sub(before);
    assert!(grown < 8 * MIB, "{grown} bytes");
    // Those that stand still are cut one after the other.
    let page = weir.admin_get("/metrics");
    assert!(page.text().ends_with("# EOF\n"), "{} bytes", page.body.len());
    drop(slow);
}

#[test]
fn the_state_of_a_large_service_is_whole_and_costs_no_copy_of_it() {
    let (weir, _backend) = large();
    let before = weir.anonymous();
    let mut stream = TcpStream::connect(weir.admin()).unwrap();
    stream.write_all(b"GET /api/state.json HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut length, mut most, mut piece) = (0, 0, vec![0; 1 << 20]);
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        length += read;
        most = most.max(weir.anonymous());
    }
    assert!(length as u64 > MIB, "{length}");
    let grown = most.saturating_sub(before);
    assert!(grown < 4 * MIB, "{grown} bytes for a page of {length}");
    let endpoints = weir.state()["services"].to_string().matches("127.0.0.9:").count();
    assert_eq!(endpoints, usize::from(ENDPOINTS));
}
