use super::*;
use crate::transport::{Io, Pipes};
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
        let pipes = Pipes::default();
        let lender = Lender { pipes: &pipes, holder: 1, most: 8 };
        let copied = copy(&mut near_client, &mut near_server, 4096, lender, idle, || lived = true).await;
        assert_eq!(pipes.open.value(), 0, "all are given back");
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

/// Bytes that differ at each place of a megabyte.
fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Sends `there` bytes to the server, which sends `back` bytes; each side reads `step` bytes at a time, and sends its end. Returns
/// what was copied, and how many bytes went through pipes where `most` may be lent.
async fn streams(there: usize, back: usize, step: usize, most: usize) -> (Copied, u64) {
    async fn side(stream: TcpStream, sends: usize, expects: usize, step: usize) {
        let (mut from, mut to) = stream.into_split();
        let writes = async {
            to.write_all(&text(sends)).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let reads = async {
            let (mut came, mut piece) = (Vec::with_capacity(expects), vec![0; step]);
            loop {
                match from.read(&mut piece).await.unwrap() {
                    0 => break,
                    n => came.extend_from_slice(&piece[..n]),
                }
                tokio::task::yield_now().await;
            }
            assert!(came == text(expects), "{} of {expects} bytes came, or others", came.len());
        };
        tokio::join!(writes, reads);
    }
    let ((mut near_client, far_client), (mut near_server, far_server)) = (pair().await, pair().await);
    let pipes = Pipes::default();
    let lender = Lender { pipes: &pipes, holder: 1, most };
    let copying = async move {
        let copied = copy(&mut near_client, &mut near_server, 4096, lender, LONG, || ()).await;
        drop((near_client, near_server));
        copied
    };
    let (copied, (), ()) =
        tokio::join!(copying, side(far_client, there, back, step), side(far_server, back, there, step));
    assert_eq!(pipes.open.value(), 0, "all are given back");
    (copied, pipes.bytes.value())
}

#[tokio::test]
async fn what_streams_goes_through_pipes_whole_and_in_order_both_ways() {
    const MANY: usize = 8 << 20;
    for (there, back) in [(MANY, 0), (0, MANY), (MANY, MANY), (MANY + 1, 3)] {
        for step in [1 << 16, 1 << 20] {
            let (copied, piped) = streams(there, back, step, 8).await;
            assert_eq!((copied.up, copied.down, copied.end), (there as u64, back as u64, End::Closed));
            assert!(piped > (there + back) as u64 / 2, "{piped} bytes of {there} and {back}");
        }
    }
}

#[tokio::test]
async fn what_is_short_or_gets_no_pipe_is_copied() {
    for (bytes, most) in [(10_000, 8), (4 << 20, 0), (4 << 20, 1)] {
        let (copied, piped) = streams(bytes, bytes, 1 << 16, most).await;
        assert_eq!((copied.up, copied.down, piped > 0), (bytes as u64, bytes as u64, most == 1));
    }
}

#[tokio::test]
async fn what_a_client_sends_after_the_servers_end_arrives_however_slowly_it_is_read() {
    for most in [0, 8] {
        let streams = async |mut stream: TcpStream| {
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            stream.write_all(&text(8 << 20)).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let ends_first_and_reads = async |mut stream: TcpStream| {
            stream.shutdown().await.unwrap();
            let (mut came, mut piece) = (0, vec![0; 64 << 10]);
            loop {
                match stream.read(&mut piece).await.unwrap() {
                    0 => break,
                    n => came += n,
                }
                sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(came, 8 << 20);
        };
        let ((mut near_client, far_client), (mut near_server, far_server)) = (pair().await, pair().await);
        let pipes = Pipes::default();
        let lender = Lender { pipes: &pipes, holder: 1, most };
        let copying = copy(&mut near_client, &mut near_server, 4096, lender, LONG, || ());
        let (copied, (), ()) = tokio::join!(copying, streams(far_client), ends_first_and_reads(far_server));
        assert_eq!((copied.up, copied.end), (8 << 20, End::Closed), "{most}");
    }
}

#[tokio::test]
async fn a_side_that_breaks_while_a_pipe_is_full_is_told() {
    let streams = async |mut stream: TcpStream| {
        let _ = stream.write_all(&text(32 << 20)).await;
    };
    let reads_some_and_breaks = async |mut stream: TcpStream| {
        hear(&mut stream, 4 << 20).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let (copied, _) = tunnel(LONG, streams, reads_some_and_breaks).await;
    assert_eq!(copied.end, End::Broken(Side::Server));
    let (copied, _) = tunnel(LONG, reads_some_and_breaks, streams).await;
    assert_eq!(copied.end, End::Broken(Side::Client));
}

#[tokio::test]
async fn a_tunnel_that_streamed_copies_small_pieces_again() {
    let talks = async |mut stream: TcpStream| {
        stream.write_all(&text(4 << 20)).await.unwrap();
        for _ in 0..50 {
            hear(&mut stream, 5).await;
            stream.write_all(b"hello").await.unwrap();
        }
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let answers = async |mut stream: TcpStream| {
        hear(&mut stream, 4 << 20).await;
        for _ in 0..50 {
            stream.write_all(b"world").await.unwrap();
            hear(&mut stream, 5).await;
        }
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let (copied, _) = tunnel(LONG, talks, answers).await;
    assert_eq!((copied.up, copied.down, copied.end), ((4 << 20) + 250, 250, End::Closed));
}

/// Waits until so many of `pipes` are open.
async fn are_open(pipes: &Pipes, count: impl Fn(usize) -> bool) {
    let waits = async {
        while !count(pipes.open.value()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waits).await.unwrap_or_else(|_| panic!("{pipes:?}"));
}

#[tokio::test]
async fn a_tunnel_that_falls_silent_right_after_a_large_piece_keeps_no_pipe() {
    for upwards in [true, false] {
        let ((mut near_client, far_client), (mut near_server, far_server)) = (pair().await, pair().await);
        let (mut from, mut to) = if upwards { (far_client, far_server) } else { (far_server, far_client) };
        let pipes = Pipes::default();
        let lender = Lender { pipes: &pipes, holder: 1, most: 8 };
        let copying = copy(&mut near_client, &mut near_server, 4096, lender, LONG, || ());
        let talks = async {
            // The last piece of each burst is large, or nearly always.
            for _ in 0..20 {
                let (sent, ()) = tokio::join!(from.write_all(&[b'x'; 1 << 20]), hear(&mut to, 1 << 20));
                sent.unwrap();
                if pipes.open.value() > 0 {
                    break;
                }
            }
            assert_eq!(pipes.open.value(), 1, "it streams");
            are_open(&pipes, |open| open == 0).await;
            // It goes on where it was, and may stream again.
            for bytes in [5, 4 << 20, 5] {
                let text = text(bytes);
                let mut came = vec![0; bytes];
                let (sent, read) = tokio::join!(from.write_all(&text), to.read_exact(&mut came));
                assert!(sent.is_ok() && read.is_ok() && came == text);
            }
            assert!(pipes.bytes.value() > 1 << 20, "{pipes:?}");
            drop((from, to));
        };
        tokio::join!(copying, talks);
    }
}

#[tokio::test]
async fn a_direction_that_has_ended_keeps_no_pipe() {
    let ((mut near_client, mut client), (mut near_server, mut server)) = (pair().await, pair().await);
    let pipes = Pipes::default();
    let lender = Lender { pipes: &pipes, holder: 1, most: 8 };
    let copying = copy(&mut near_client, &mut near_server, 4096, lender, LONG, || ());
    let talks = async {
        let sends = async {
            client.write_all(&text(8 << 20)).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let reads = async {
            let mut came = Vec::new();
            server.read_to_end(&mut came).await.unwrap();
            assert!(came == text(8 << 20));
        };
        tokio::join!(sends, reads);
        assert_eq!(pipes.open.value(), 0, "at once");
        assert!(pipes.bytes.value() > 0, "it streamed");
        server.write_all(b"done").await.unwrap();
        hear(&mut client, 4).await;
        drop((client, server));
    };
    let (copied, ()) = tokio::join!(copying, talks);
    assert_eq!((copied.up, copied.down, copied.end), (8 << 20, 4, End::Closed));
}

#[tokio::test]
async fn who_gets_no_pipe_asks_once_for_what_it_has_sent() {
    let ((mut near_client, mut client), (mut near_server, mut server)) = (pair().await, pair().await);
    let pipes = Pipes::default();
    let lender = Lender { pipes: &pipes, holder: 1, most: 1 };
    let _the_only_one = lender.lend().unwrap();
    let sent = 4096 * usize::try_from(STREAMS).unwrap();
    client.write_all(&text(sent)).await.unwrap();
    let copying = copy(&mut near_client, &mut near_server, 4096, lender, LONG, || ());
    let talks = async {
        hear(&mut server, sent).await;
        for _ in 0..50 {
            server.write_all(b"x").await.unwrap();
            hear(&mut client, 1).await;
        }
        assert_eq!(pipes.refused.value(), 1);
        drop((client, server));
    };
    tokio::join!(copying, talks);
}
