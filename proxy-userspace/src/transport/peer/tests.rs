use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::watch::ASK_EVERY;
use super::*;
use crate::transport::Io;

const INTERIM: Bounds = Bounds { answers: 1, bytes: 100 };

/// An idle connection to a healthy endpoint, its watch, and a function that returns the time after which TCP
/// probes.
async fn connected() -> (Io, Peer, Watch, impl Fn() -> Duration, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let unused = (Duration::from_secs(30), Duration::from_secs(5));
    SockRef::from(&stream).set_keepalive(true).unwrap();
    let copy = socket2::Socket::from(std::os::fd::AsFd::as_fd(&stream).try_clone_to_owned().unwrap());
    let patience = Patience { silence: Duration::from_secs(3), unused, probes: 3, interim: INTERIM };
    let peer = Peer::new(patience, Doubts::default());
    let watch = Watch::default();
    watch.add(peer.clone());
    let there = listener.accept().await.unwrap().0;
    (Io::to(stream, peer.clone()), peer, watch, move || copy.tcp_keepalive_time().unwrap(), there)
}

fn read(io: &mut Io) -> Poll<io::Result<()>> {
    let mut buffer = [0; 16];
    Pin::new(io).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut buffer))
}

#[tokio::test]
async fn tcp_probes_often_only_while_an_answer_has_been_due_for_a_second() {
    let (mut io, peer, watch, time, _there) = connected().await;
    let began = Instant::now();
    let after = |millis| began + Duration::from_millis(millis);
    peer.owes(began);
    // What it has owed since then is kept when it owes more.
    peer.owes(after(900));
    for (at, often) in [(100, false), (1000, true), (1250, true)] {
        watch.sweep(after(at));
        assert!(read(&mut io).is_pending());
        assert_eq!(time() == Duration::from_secs(1), often, "{at} ms");
    }
    peer.owes_nothing();
    watch.sweep(after(1500));
    assert!(read(&mut io).is_pending() && !peer.is_asked() && !peer.is_silent());
    assert_eq!(time(), Duration::from_secs(30));
}

#[tokio::test]
async fn a_connection_on_which_too_much_came_before_an_answer_fails_and_is_cut() {
    let (mut io, peer, _watch, time, mut there) = connected().await;
    peer.owes_response(Instant::now());
    there.write_all(&b"HTTP/1.1 103\r\n\r\n".repeat(2)).await.unwrap();
    io.readable().await.unwrap();
    // At every attempt.
    for _ in 0..2 {
        let mut buffer = [0; 16];
        let read = io.read(&mut buffer).await;
        assert!(read.is_err() == peer.is_flooding(), "{read:?}");
    }
    assert!(peer.is_flooding());
    drop((io, time));
    let cut = there.read(&mut [0; 16]).await.map_err(|error| error.kind());
    assert_eq!(cut, Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn bytes_of_a_tunnel_are_not_taken_for_interim_answers() {
    for bytes in [b"HTTP/1.1 103\r\n\r\n".repeat(9), vec![b'1'; 200]] {
        let (mut io, peer, _watch, _time, mut there) = connected().await;
        peer.owes(Instant::now());
        there.write_all(&bytes).await.unwrap();
        drop(there);
        let mut came = Vec::new();
        io.read_to_end(&mut came).await.unwrap();
        assert_eq!((came, peer.is_flooding()), (bytes, false));
    }
}

#[tokio::test]
async fn a_connection_that_is_gone_is_watched_no_longer() {
    let (io, peer, watch, ..) = connected().await;
    peer.owes(Instant::now());
    drop((io, peer));
    watch.sweep(Instant::now());
    assert!(watch.is_empty());
}

#[test]
fn doubts_end_with_the_connection_or_what_it_owes() {
    let unused = (ASK_EVERY, ASK_EVERY);
    let patience = Patience { silence: ASK_EVERY, unused, probes: 3, interim: INTERIM };
    let doubts = Doubts::default();
    let peers = [(); 2].map(|()| Peer::new(patience, doubts.clone()));
    for peer in &peers {
        peer.0.set_doubted(true);
        peer.0.set_doubted(true);
    }
    let [first, second] = peers;
    first.owes_nothing();
    assert!(doubts.any());
    drop(second);
    assert!(!doubts.any());
}
