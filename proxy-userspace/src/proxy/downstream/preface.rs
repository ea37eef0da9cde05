//! What an explicit client speaks: HTTP/2 begins with a preface that no request of HTTP/1 has (RFC 9113 §3.4), TLS with a
//! record that is no HTTP.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time;

use crate::domain::sniff::{Sniffed, sniff};
use crate::transport::Io;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1, or none of the others: hyper says what is wrong with it.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS.
    Tls,
    /// Too few to tell.
    Undecided,
}

/// What the client of `stream` speaks, and the connection with nothing read. Nearly always one look decides, at bytes that
/// stay where they are; a preface in pieces is read and unread.
///
/// # Errors
///
/// When the client has left, or has sent too little within `limit`.
pub(super) async fn spoken(stream: TcpStream, limit: Duration) -> io::Result<(Spoken, Io)> {
    let deadline = time::Instant::now() + limit;
    let mut first = [0; PREFACE.len()];
    let n = time::timeout_at(deadline, stream.peek(&mut first)).await??;
    let mut spoken = read(&first[..n]);
    let mut io = Io::new(stream);
    if n > 0 && spoken == Spoken::Undecided {
        let mut seen = BytesMut::with_capacity(PREFACE.len());
        while spoken == Spoken::Undecided {
            if time::timeout_at(deadline, io.read_buf(&mut seen)).await?? == 0 {
                break;
            }
            spoken = read(&seen);
        }
        io.unread(seen.freeze());
    }
    Ok((spoken, io))
}

/// Whether `bytes`, which are not the whole preface, begin nothing else: its first line has been read.
pub(super) fn is_surely_http2(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PRI * HTTP/2.0") && PREFACE.starts_with(bytes)
}

fn read(bytes: &[u8]) -> Spoken {
    let n = bytes.len().min(PREFACE.len());
    match bytes[..n] == PREFACE[..n] {
        true if n == PREFACE.len() => Spoken::Http2,
        true => Spoken::Undecided,
        // No method begins with the byte of a TLS handshake.
        false if bytes[0] == 0x16 => match sniff(bytes) {
            Sniffed::Tls => Spoken::Tls,
            Sniffed::Undecided => Spoken::Undecided,
            Sniffed::Http1 | Sniffed::Http2 | Sniffed::Opaque => Spoken::Http1,
        },
        false => Spoken::Http1,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// What is found of a client that says this in pieces, and the bytes that can still be read.
    async fn found(pieces: &[&[u8]], closes: bool) -> io::Result<(Spoken, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        client.set_nodelay(true)?;
        let server = listener.accept().await?.0;
        let found = tokio::spawn(spoken(server, Duration::from_secs(if closes { 30 } else { 1 })));
        for piece in pieces {
            client.write_all(piece).await?;
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        if closes {
            drop(client);
            let (spoken, mut io) = found.await??;
            let mut rest = Vec::new();
            io.read_to_end(&mut rest).await?;
            return Ok((spoken, rest));
        }
        Ok((found.await??.0, Vec::new()))
    }

    #[tokio::test]
    async fn a_preface_is_found_however_it_is_cut_and_nothing_is_lost() {
        let bytes: Vec<&[u8]> = PREFACE.chunks(1).collect();
        use Spoken::{Http1, Http2, Tls, Undecided};
        let cases: [(&[&[u8]], Spoken); 14] = [
            (&[PREFACE], Http2),
            (&[PREFACE, b"\0\0\0\x04\0\0\0\0\0"], Http2),
            (&[b"PRI * HTTP/2.0\r\n\r\n", b"SM\r\n\r\n\0\0"], Http2),
            (&bytes, Http2),
            (&[b"GET / HTTP/1.1\r\n\r\n"], Http1),
            (&[b"P", b"OST / HTTP/1.1\r\n"], Http1),
            (&[b"PRI * HTTP/2.0\r\n\r\nXX"], Http1),
            (&[b"PRI * HTTP/2.0\r\n"], Undecided),
            (&[], Undecided),
            (&[b"\x16\x03\x01\x02\0\x01\0"], Tls),
            (&[b"\x16", b"\x03", b"\x01\x02", b"\0\x01\0"], Tls),
            (&[b"\x16\x03\x01"], Undecided),
            (&[b"\x16\x05\x01\x02\0\x01"], Http1),
            (&[b"\x15\x03\x01\0\x02\x02\0"], Http1),
        ];
        for (pieces, expected) in cases {
            assert_eq!(found(pieces, true).await.unwrap(), (expected, pieces.concat()), "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn who_says_nothing_in_time_is_not_waited_for() {
        for pieces in [&[][..], &[&b"PRI * HT"[..]]] {
            let error = found(pieces, false).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
