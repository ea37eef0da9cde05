//! TLS on real connections.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::ServerConnection;

use super::*;
use crate::config::{Allow, Peer, Wire, WireMode};
use crate::domain::identity::ServiceAccount;
use crate::identity::testing::{Authority, Files, ID, NOW, own};
use crate::identity::{Identities, Links};

/// More than the kernel takes at once.
const MUCH: usize = 8 << 20;

fn account(name: &str) -> ServiceAccount {
    name.parse().unwrap()
}

/// What is in force where `web` and `db` have certificates, and 127.0.0.1 is `peer`.
fn links(peer: &str) -> Arc<Links> {
    let root = Authority::new("root", NOW);
    let files = Files::new(&root.pem(), &root.signs(&[ID], NOW));
    let (certificate, key) = root.signs(&["spiffe://cluster.local/ns/shop/sa/db"], NOW);
    files.write("db.crt", &certificate);
    files.write("db.key", &key);
    let mut wanted = files.wanted();
    wanted.certificates.push(own("shop/db", &files.path("db.crt"), &files.path("db.key")));
    let peer = Peer { account: account(peer), addresses: vec![[127, 0, 0, 1].into()] };
    wanted.wire = Some(Wire {
        allow: Allow::default(),
        handshakes: 100,
        mode: WireMode::Permissive,
        plain: Vec::new(),
        pods: Vec::new(),
        peers: vec![peer],
    });
    let identities = Identities::default();
    assert!(identities.look(Some(&wanted), SystemTime::now()));
    assert!(!identities.look(Some(&wanted), SystemTime::now()), "nothing has changed");
    identities.links().unwrap()
}

/// Both ends of a new connection.
async fn connected() -> (Io, Io) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Io::new(client), Io::new(listener.accept().await.unwrap().0))
}

/// Both ends shake hands: `web` with whom it takes for its peer.
async fn shaken(links: &Links) -> (io::Result<Io>, io::Result<Io>) {
    let (client, server) = connected().await;
    let peer = links.peer([127, 0, 0, 1].into()).unwrap();
    let name = ServerName::IpAddress(IpAddr::from([127, 0, 0, 1]).into());
    let said = ClientConnection::new(links.client(&account("shop/web"), peer).unwrap(), name).unwrap();
    let answered = ServerConnection::new(links.server(&account("shop/db")).unwrap()).unwrap();
    tokio::join!(client.secured(said), server.secured(answered))
}

/// Writes [`MUCH`] of this byte and an end, and reads to the other side's.
async fn exchange(io: Io, byte: u8) -> Vec<u8> {
    let (mut read, mut write) = split(io);
    let sends = async {
        write.write_all(&vec![byte; MUCH]).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut came = Vec::new();
    let (_, read) = tokio::join!(sends, read.read_to_end(&mut came));
    read.unwrap();
    came
}

#[tokio::test]
async fn much_passes_both_ways_at_once_and_each_end_is_told() {
    let (client, server) = shaken(&links("shop/db")).await;
    let (at_client, at_server) = tokio::join!(exchange(client.unwrap(), 1), exchange(server.unwrap(), 2));
    assert!(at_client.len() == MUCH && at_client.iter().all(|byte| *byte == 2));
    assert!(at_server.len() == MUCH && at_server.iter().all(|byte| *byte == 1));
}

#[tokio::test]
async fn what_is_written_has_left_when_the_write_is_done() {
    let (client, server) = shaken(&links("shop/db")).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    for size in [1, 100, 16 << 10, 100_000] {
        // As bytes are copied: nothing is flushed.
        let sent = vec![7; size];
        let sends = async {
            let mut rest = sent.as_slice();
            while !rest.is_empty() {
                rest = &rest[client.write(rest).await.unwrap()..];
            }
        };
        let mut came = vec![0; size];
        tokio::join!(sends, async { server.read_exact(&mut came).await.unwrap() });
        assert_eq!(came, sent);
    }
}

#[tokio::test]
async fn an_end_that_nobody_said_is_no_end() {
    let (client, server) = shaken(&links("shop/db")).await;
    // A FIN alone, as whoever is in between can make one.
    drop(server.unwrap());
    let read = client.unwrap().read(&mut [0]).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn each_side_knows_why_there_is_no_connection() {
    let (client, server) = shaken(&links("shop/other")).await;
    assert_eq!(Failure::of(&client.unwrap_err()), Failure::WrongName);
    assert_eq!(Failure::of(&server.unwrap_err()), Failure::Rejected);
    let links = links("shop/db");
    for (said, expected) in
        [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Failure::Protocol), (b"", Failure::Closed)]
    {
        let (client, mut server) = connected().await;
        let peer = links.peer([127, 0, 0, 1].into()).unwrap();
        let name = ServerName::IpAddress(IpAddr::from([127, 0, 0, 1]).into());
        let session = ClientConnection::new(links.client(&account("shop/web"), peer).unwrap(), name).unwrap();
        server.write_all(said).await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(Failure::of(&client.secured(session).await.unwrap_err()), expected);
    }
    assert_eq!(Failure::of(&io::ErrorKind::TimedOut.into()), Failure::Timeout);
    assert_eq!(Failure::LABELS[Failure::NoIdentity as usize], "no_identity");
}
