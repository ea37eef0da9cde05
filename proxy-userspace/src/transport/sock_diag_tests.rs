use super::*;
use std::io::{Read, Write};
use std::mem::offset_of;

/// The connection of this thread's namespace that leads there.
fn find(diag: &mut SockDiag, remote: SocketAddr) -> Option<Connection> {
    let mut found = None;
    let all = diag.connections(true, usize::MAX, |it| {
        if it.remote == remote {
            found = Some(*it);
        }
    });
    assert!(all.unwrap());
    found
}

#[test]
fn a_connection_is_found_by_where_it_leads_with_its_cgroup() {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(at) else { continue };
        let to = listener.local_addr().unwrap();
        let mut diag = SockDiag::open().unwrap();
        assert_eq!(find(&mut diag, to), None);
        let mut client = TcpStream::connect(to).unwrap();
        let found = find(&mut diag, to).unwrap();
        assert_eq!(found.idle, None, "the server has said nothing yet");
        assert!(diag.listening().unwrap().contains(&to.port()));
        assert!(found.cgroup.is_some() || !own.contains("0::"), "{found:?}");
        assert_eq!(diag.again(&found).unwrap().remote, to);
        // What nobody has read yet is on its way.
        client.write_all(b"x").unwrap();
        let mut server = listener.accept().unwrap().0;
        let back = find(&mut diag, client.local_addr().unwrap()).unwrap();
        assert_eq!(back.idle, None, "unread bytes: {server:?}");
        // An answer some clock ticks later: nothing is outstanding once both are read.
        std::thread::sleep(Duration::from_millis(50));
        server.write_all(b"y").unwrap();
        let _ = (server.read(&mut [0; 1]).unwrap(), client.read(&mut [0; 1]).unwrap());
        let idle = diag.again(&found).unwrap().idle;
        assert!(idle.is_some_and(|idle| idle < Duration::from_secs(60)), "{idle:?}");
        drop(client);
        assert!(diag.again(&found).is_err(), "closed");
    }
}

#[test]
fn a_socket_of_ipv6_that_leads_to_ipv4_is_shown_as_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let IpAddr::V4(v4) = to.ip() else { panic!("{to}") };
    let Ok(_client) = TcpStream::connect((v4.to_ipv6_mapped(), to.port())) else { return };
    assert!(find(&mut SockDiag::open().unwrap(), to).is_some());
}

#[test]
fn the_cgroup_of_a_connections_socket_is_found_by_both_its_ends_and_by_nothing_else() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(at) else { continue };
        let to = listener.local_addr().unwrap();
        let mut diag = SockDiag::open().unwrap();
        let client = TcpStream::connect(to).unwrap();
        let from = client.local_addr().unwrap();
        let server = listener.accept().unwrap().0;
        let cgroup = find(&mut diag, to).unwrap().cgroup;
        assert_eq!(diag.cgroup_of(from, to).unwrap(), cgroup);
        assert_eq!(diag.cgroup_of(to, from).unwrap(), cgroup, "the other end, in this namespace too");
        // It has said all, and still reads.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(diag.cgroup_of(from, to).unwrap(), cgroup);
        assert!(
            diag.cgroup_of(to, from).is_err(),
            "the other end has closed its side: whose it is now, it cannot tell"
        );
        // Nobody is connected there, and somebody listens: that is no connection.
        let other = SocketAddr::new(from.ip(), from.port() ^ 1);
        for (own, other) in [(to, other), (other, to), (from, from), (from, SocketAddr::new(to.ip(), 1))] {
            let error = diag.cgroup_of(own, other).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{own} {other}");
        }
        drop((client, server));
        assert!(diag.cgroup_of(from, to).is_err());
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let IpAddr::V4(v4) = to.ip() else { panic!("{to}") };
    let Ok(mapped) = TcpStream::connect((v4.to_ipv6_mapped(), to.port())) else { return };
    assert!(SockDiag::open().unwrap().cgroup_of(mapped.local_addr().unwrap(), to).is_ok());
}

/// A program that does not close such a socket keeps it for ever, while the ports of its other end are free again.
#[test]
fn a_socket_whose_other_end_has_closed_vouches_for_nobody() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(at) else { continue };
        let to = listener.local_addr().unwrap();
        let mut diag = SockDiag::open().unwrap();
        let mut client = TcpStream::connect(to).unwrap();
        let from = client.local_addr().unwrap();
        assert!(diag.cgroup_of(from, to).is_ok());
        drop(listener.accept().unwrap().0);
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "TCP_CLOSE_WAIT from here on");
        assert_eq!(diag.cgroup_of(from, to).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn this_kernel_tells_whose_a_connection_is() {
    SockDiag::probe().unwrap();
}

#[test]
fn no_more_connections_are_read_than_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let _clients = [to; 3].map(|to| TcpStream::connect(to).unwrap());
    let mut seen = 0;
    let all = SockDiag::open().unwrap().connections(false, 2, |_| seen += 1).unwrap();
    assert_eq!((all, seen), (false, 2));
}

#[test]
fn whatever_the_kernel_says_is_read_without_a_panic() {
    let mut whole = vec![0; HEADER + BODY];
    whole[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    whole[HEADER] = libc::AF_INET as u8;
    whole[HEADER + 1] = 1;
    whole[HEADER + 4 + 2..HEADER + 4 + 4].copy_from_slice(&80_u16.to_be_bytes());
    whole[HEADER + 4 + 20..HEADER + 4 + 24].copy_from_slice(&[10, 96, 0, 10]);
    whole.extend(12_u16.to_ne_bytes());
    whole.extend(INET_DIAG_CGROUP_ID.to_ne_bytes());
    whole.extend(7_u64.to_ne_bytes());
    let length = whole.len() as u32;
    whole[..4].copy_from_slice(&length.to_ne_bytes());
    let read = |bytes: &[u8]| messages(bytes, 0).collect::<Vec<_>>();
    let Some(Message::Connection(it)) = read(&whole).pop() else { panic!("a connection") };
    assert_eq!((it.remote, it.cgroup, it.idle), ("10.96.0.10:80".parse().unwrap(), Some(7), None));
    assert!(messages(&whole, 1).next().is_none(), "an answer to another request");
    for length in 0..whole.len() {
        read(&whole[..length]);
        let mut shorter = whole[..length].to_vec();
        if length >= 4 {
            shorter[..4].copy_from_slice(&(length as u32).to_ne_bytes());
        }
        read(&shorter);
        // Lengths that lie.
        for lie in [0, 1, 3, 4, 15, 16, 255] {
            for at in [0, HEADER + BODY] {
                let mut lies = whole.clone();
                lies[at] = lie;
                read(&lies[..length]);
            }
        }
    }
}

#[test]
fn a_connection_is_idle_only_if_the_server_spoke_last() {
    for (name, unacknowledged, sent, received, idle) in [
        ("answered", 0, 9_000, 8_000, Some(8_000)),
        ("answered just now", 0, 9_000, 0, Some(0)),
        ("a slow query, BLPOP or long poll", 0, 8_000, 9_000, None),
        ("both in one clock tick", 0, 8_000, 8_000, None),
        ("not acknowledged", 1, 9_000, 8_000, None),
    ] {
        let mut info = [0; 104];
        for (at, value) in [(24, unacknowledged), (44, sent), (52, received)] {
            info[at..at + 4].copy_from_slice(&u32::to_ne_bytes(value));
        }
        assert_eq!(super::idle(&info), idle.map(Duration::from_millis), "{name}");
    }
}

#[test]
fn the_times_are_where_the_kernel_writes_them() {
    assert_eq!(offset_of!(libc::tcp_info, tcpi_unacked), 24);
    assert_eq!(offset_of!(libc::tcp_info, tcpi_last_data_sent), 44);
    assert_eq!(offset_of!(libc::tcp_info, tcpi_last_data_recv), 52);
}
