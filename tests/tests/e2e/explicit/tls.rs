//! TLS through the explicit proxy: behind a CONNECT, or without one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use e2e::folder::{Folder, service};
use e2e::https::Https;
use e2e::kube::Authority;
use e2e::raw::{TcpServer, listen, loopback};
use e2e::{Backend, Request, Weir, eventually};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server of TLS that answers one request of each connection with `says`, in a record of its own.
fn server(authority: &Authority, name: &str, says: &'static str) -> TcpServer {
    let (certificate, key) = authority.certificate(name);
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    TcpServer::on(listen(loopback()).unwrap(), move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        let mut head = [0; 2048];
        if stream.read(&mut head).is_ok_and(|n| n > 0) {
            let length = says.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{says}"
            );
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    })
}

/// The Service `name`, whose port called `https` has this number.
fn weir(name: &str, number: u16, server: SocketAddr, outgoing: &str) -> Weir {
    let of = service(name, &["10.96.1.2"]).port("http", 80, 1).port("https", number, server.port());
    Weir::new().set("outgoing", outgoing).kubernetes(&of.endpoints(&[server.ip()])).start()
}

const CLOSES: &str = "{ listen: 127.0.0.1:0 }";
const CARRIES: &str = "{ listen: 127.0.0.1:0, tls: sni }";

/// What a client of TLS is answered, or its error.
fn ask(weir: &Weir, authority: &Authority, name: &str) -> Result<String, String> {
    let stream = TcpStream::connect(weir.outgoing()).unwrap();
    let answer = Https::trusting(&authority.pem()).ask(stream, name, &Request::get("/"));
    answer.map(|it| String::from_utf8(it.body).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn curl_reaches_a_service_by_https_proxy_at_its_port_443_or_the_one_named_https() {
    let authority = Authority::new();
    let folder = Folder::new();
    folder.file("ca.pem", &authority.pem());
    for number in [443, 8443] {
        let server = server(&authority, "hello.default", "by TLS");
        let weir = weir("hello", number, server.addr(), CLOSES);
        let curl = Command::new("curl")
            .args(["-sS", "--max-time", "20", "--cacert"])
            .arg(folder.path().join("services/ca.pem"))
            .args(["-x", &format!("http://{}", weir.outgoing()), "https://hello.default/"])
            .output()
            .expect("curl runs");
        let said = String::from_utf8_lossy(&curl.stderr);
        assert_eq!(String::from_utf8_lossy(&curl.stdout), "by TLS", "port {number}: {said}");
    }
}

#[test]
fn tls_without_a_connect_is_closed_with_an_alert_and_counted() {
    let authority = Authority::new();
    let server = server(&authority, "hello.default", "by TLS");
    let weir = weir("hello", 443, server.addr(), CLOSES);
    let error = ask(&weir, &authority, "hello.default").unwrap_err();
    assert!(error.contains("AccessDenied"), "{error}");
    eventually("it is counted", || weir.turned_away("outgoing", "tls") == 1.0);
    assert_eq!(server.accepted(), 0);
    weir.get("http://nowhere/").expect_status(502);
}

#[test]
fn tls_is_carried_by_its_server_name_where_the_router_says_so() {
    let authority = Authority::new();
    let server = server(&authority, "hello.default", "by TLS");
    for number in [443, 8443] {
        let weir = weir("hello", number, server.addr(), CARRIES);
        assert_eq!(ask(&weir, &authority, "hello.default").as_deref(), Ok("by TLS"), "port {number}");
        let error = ask(&weir, &authority, "nowhere.default").unwrap_err();
        assert!(error.contains("UnrecognisedName"), "{error}");
        assert_eq!(weir.faults("unbound"), 1.0);
        // An address is no name.
        let error = ask(&weir, &authority, "127.0.0.1").unwrap_err();
        assert!(error.contains("UnrecognisedName"), "{error}");
        assert_eq!(weir.turned_away("outgoing", "tls"), 1.0);
    }
}

#[test]
fn a_client_hello_in_pieces_is_read_whole_and_sent_on_unchanged() {
    let echo = TcpServer::echo(listen(loopback()).unwrap());
    let weir = weir("hello", 443, echo.addr(), CARRIES);
    let hello = client_hello("hello.default");
    for sizes in [vec![hello.len()], vec![1; 8], vec![5, 1, 40], vec![hello.len() - 1]] {
        let mut client = weir.client();
        let (mut rest, mut sizes) = (hello.as_slice(), sizes.into_iter());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(sizes.next().unwrap_or(rest.len()).min(rest.len()));
            client.send(piece);
            // A segment of its own.
            std::thread::sleep(std::time::Duration::from_millis(2));
            rest = after;
        }
        client.expect(&hello);
    }
    // Over several records: each piece of the handshake message has a header of its own.
    let mut client = weir.client();
    let records: Vec<u8> = hello[5..]
        .chunks(100)
        .flat_map(|piece| [&[0x16, 3, 1, 0, u8::try_from(piece.len()).unwrap()], piece].concat())
        .collect();
    client.send(&records);
    client.expect(&records);
}

#[test]
fn what_only_looks_like_tls_is_closed_and_costs_nobody_else_anything() {
    let hello = Backend::http().answers("hello").start();
    let limits = "{ headerRead: 1s, headerBytes: 8KiB }";
    let weir = Weir::new().set("outgoing", CARRIES).set("limits", limits).service("hello", &[hello.addr()]);
    let weir = weir.start();
    let garbage = [&[0x16, 3, 1, 0x40, 0, 1][..], &[0xff; 30_000]].concat();
    let endless = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 30_000]].concat();
    let nothing_follows = vec![0x16, 3, 1, 0x02, 0, 1];
    for bytes in [garbage, endless, nothing_follows, vec![0x16], vec![0x16, 3, 1, 0, 1, 1]] {
        let mut client = weir.client();
        let _ = client.stream().write_all(&bytes);
        client.rest();
    }
    weir.get("http://hello/").expect_body("hello");
}

/// The bytes of a ClientHello.
fn client_hello(name: &str) -> Vec<u8> {
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}
