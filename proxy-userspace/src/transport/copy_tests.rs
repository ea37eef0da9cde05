use super::*;
use crate::transport::Io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// weir's end of a connection, and the peer's end.
async fn pair() -> (Io, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (Io::new(near.unwrap().0), far.unwrap())
}

/// The result of a tunnel between a client and a server that behave like this; and whether `lived` was called.
async fn tunnel(
    idle: Duration,
    client: impl AsyncFnOnce(TcpStream),
    server: impl AsyncFnOnce(TcpStream),
) -> (Copied, bool) {
    let ((mut near_client, far_client), (mut near_server, far_server)) = (pair().await, pair().await);
    let copying = async move {
        let mut lived = false;
        let copied = copy(&mut near_client, &mut near_server, 4096, idle, || lived = true).await;
        (copied, lived)
    };
    let (copied, (), ()) = tokio::join!(copying, client(far_client), server(far_server));
    copied
}

async fn hear(stream: &mut TcpStream, bytes: usize) {
    stream.read_exact(&mut vec![0; bytes]).await.unwrap();
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn who_closed_first_and_who_had_the_last_word_are_told() {
    let refuses = async |mut server: TcpStream| {
        hear(&mut server, 5).await;
        server.write_all(b"FATAL: full").await.unwrap();
    };
    let asks = async |mut client: TcpStream| {
        client.write_all(b"hello").await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let (copied, lived) = tunnel(LONG, asks, refuses).await;
    assert_eq!((copied.up, copied.down, lived), (5, 11, false));
    assert_eq!(copied.end, End::Closed);
    assert_eq!((copied.first, copied.last_word), (Some(Side::Server), Some(Side::Server)));

    let serves = async |mut server: TcpStream| {
        hear(&mut server, 5).await;
        server.write_all(b"world").await.unwrap();
        server.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let says_that_it_is_done = async |mut client: TcpStream| {
        client.write_all(b"hello").await.unwrap();
        hear(&mut client, 5).await;
        client.write_all(b"QUIT").await.unwrap();
        client.shutdown().await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let (copied, _) = tunnel(LONG, says_that_it_is_done, serves).await;
    assert_eq!((copied.first, copied.last_word), (Some(Side::Client), Some(Side::Client)));

    // What a server sends after its client has closed does not count: TLS ends like this.
    let answers_the_end = async |mut server: TcpStream| {
        server.read_to_end(&mut Vec::new()).await.unwrap();
        server.write_all(b"close_notify").await.unwrap();
    };
    let done = async |mut client: TcpStream| {
        client.write_all(b"QUIT").await.unwrap();
        client.shutdown().await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let (copied, _) = tunnel(LONG, done, answers_the_end).await;
    assert_eq!((copied.first, copied.last_word, copied.down), (Some(Side::Client), Some(Side::Client), 12));

    let goes = async |mut client: TcpStream| client.shutdown().await.unwrap();
    let (copied, _) = tunnel(LONG, goes, async |mut server| drop(server.read(&mut [0]).await)).await;
    assert_eq!((copied.first, copied.last_word), (Some(Side::Client), None));
}

#[tokio::test]
async fn a_side_that_breaks_is_told() {
    let breaks = async |stream: TcpStream| {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let waits = async |mut stream: TcpStream| drop(stream.read(&mut [0]).await);
    let (copied, _) = tunnel(LONG, waits, breaks).await;
    assert_eq!((copied.end, copied.first), (End::Broken(Side::Server), None));
    let (copied, _) = tunnel(LONG, breaks, waits).await;
    assert_eq!((copied.end, copied.first), (End::Broken(Side::Client), None));
}

#[tokio::test]
async fn a_tunnel_that_lives_for_a_moment_says_so_and_goes_on_to_its_idle_time() {
    let waits = async |mut stream: TcpStream| drop(stream.read(&mut [0]).await);
    for (idle, lives) in [(MOMENT + MOMENT / 4, true), (MOMENT / 4, false)] {
        let begun = Instant::now();
        let (copied, lived) = tunnel(idle, waits, waits).await;
        assert_eq!((copied.end, lived), (End::Idle, lives));
        assert!(begun.elapsed() >= idle, "{:?}", begun.elapsed());
    }
}
