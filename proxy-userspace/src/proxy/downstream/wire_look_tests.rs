//! What the look takes a connection for.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::identity::tls;

const HOUR: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(20);

/// The first message of a client that speaks these application protocols.
fn hello(protocols: &[&[u8]]) -> Vec<u8> {
    let config =
        ClientConfig::builder_with_provider(tls::provider()).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
    let name = ServerName::try_from("shop.example").unwrap();
    let mut said = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut said).unwrap();
    said
}

/// The same message in records of so many bytes (RFC 8446, section 5.1).
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let of = |part: &[u8]| {
        [&[HANDSHAKE, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat()
    };
    hello[5..].chunks(size).flat_map(of).collect()
}

/// What `pieces` are taken for, which come one after the other.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Look, Option<Heard>) {
    let (mut look, mut heard) = (Look::new(), None);
    for piece in pieces {
        assert!(heard.is_none(), "it is known already, before {piece:?}");
        let before = look.seen.len();
        look.seen.extend_from_slice(piece);
        heard = look.read(before);
    }
    (look, heard)
}

fn name(heard: &Option<Heard>) -> String {
    match heard {
        None => "more".to_owned(),
        Some(Heard::Weir(_)) => "weir".to_owned(),
        Some(Heard::Other(why)) => format!("{why:?}"),
        Some(Heard::Silence) => "silence".to_owned(),
        Some(Heard::Gone) => "gone".to_owned(),
    }
}

#[test]
fn a_weirs_first_message_is_known_wherever_it_is_cut_and_not_before_its_end() {
    let hello = hello(&[PROTOCOL]);
    for (hello, step) in [(&hello, 1), (&in_records(&hello, 64), 11), (&in_records(&hello, 400), 7)] {
        for cut in (1..hello.len()).step_by(step) {
            let (first, rest) = hello.split_at(cut);
            assert_eq!(name(&read([first]).1), "more", "{cut} of {}", hello.len());
            assert_eq!(name(&read([first, rest]).1), "weir", "{cut} of {}", hello.len());
        }
        assert_eq!(name(&read(hello.chunks(1)).1), "weir");
    }
}

#[test]
fn what_is_not_a_weirs_goes_on_as_the_bytes_that_it_was() {
    let weir = hello(&[PROTOCOL]);
    // Much behind it, for which nobody would wait so long as to say it.
    let long = [&weir[..], &[0; 8192]].concat();
    let more = [&weir[..], &[0]].concat();
    for (bytes, expected) in [
        (&hello(&[b"h2", b"http/1.1"])[..], "OtherTls"),
        (&hello(&[]), "OtherTls"),
        (&hello(&[b"weir/2", b"weir"]), "OtherTls"),
        (&hello(&[b"h2", PROTOCOL]), "weir"),
        (&long, "OtherTls"),
        (&more, "weir"),
        // No ClientHello; one of a length that it does not have; a record of no version.
        (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", "NotTls"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "NotTls"),
        (b"\x16\x09\x01\x00\x05\x01", "NotTls"),
    ] {
        let (look, heard) = read([bytes]);
        assert_eq!(name(&heard), expected, "{} bytes: {:?}", bytes.len(), &bytes[..bytes.len().min(20)]);
        assert_eq!(look.into_seen(), bytes);
    }
}

/// What is taken for what, by a client that says `bytes` and then ends or resets the connection, or neither.
async fn heard(bytes: &[u8], then: &str) -> (String, Bytes) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut io = Io::new(listener.accept().await.unwrap().0);
    client.write_all(bytes).await.unwrap();
    match then {
        "ends" => client.shutdown().await.unwrap(),
        "resets" => {
            client.set_zero_linger().unwrap();
            drop(client);
            // A reset comes at once, and what was not read is gone.
            io.reset().await;
            let (mut look, limit) = (Look::new(), HOUR);
            return (name(&Some(look.hear(&mut io, limit, limit).await)), look.into_seen());
        }
        _ => {}
    }
    let limit = if then == "waits" { SHORT } else { HOUR };
    let mut look = Look::new();
    let heard = look.hear(&mut io, limit, limit).await;
    (name(&Some(heard)), look.into_seen())
}

#[tokio::test]
async fn no_client_is_waited_for_longer_than_the_limits_and_none_loses_a_byte() {
    let weir = hello(&[PROTOCOL]);
    for (bytes, then, expected) in [
        (&weir[..], "stays", "weir"),
        (&weir[..100], "waits", "NotTls"),
        (&weir[..100], "ends", "NotTls"),
        (&weir[..1], "ends", "NotTls"),
        (b"", "waits", "silence"),
        (b"", "ends", "Silent"),
        (b"GET / HTTP/1.1\r\n", "stays", "NotTls"),
        (b"", "resets", "gone"),
        // A first message without an end.
        (&[&weir[..100], &[0; MOST]].concat(), "stays", "NotTls"),
    ] {
        let (name, seen) = heard(bytes, then).await;
        assert_eq!(name, expected, "{then} after {} bytes", bytes.len());
        assert_eq!(seen, bytes[..seen.len()]);
        assert!(seen.len() == bytes.len() || bytes.len() > MOST, "{} of {}", seen.len(), bytes.len());
    }
}
