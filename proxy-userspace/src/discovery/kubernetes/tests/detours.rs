//! Which endpoints replace the server's Service, and which connection is used.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{Instant, timeout};

use super::*;
use crate::domain::catalog::{AppProtocol, Endpoint, Service as Known, ServicePort};

/// A catalog in which the Service has this address, port 443, and these endpoints.
fn catalog(name: &str, address: &str, endpoints: &[(&str, Condition)]) -> Catalog {
    let key = ServiceKey { namer: Namer::K8s, namespace: "default".into(), name: name.into() };
    let endpoint = |(address, condition): &(&str, Condition)| Endpoint {
        condition: *condition,
        ..Endpoint::at(address.parse().unwrap())
    };
    let port = ServicePort {
        name: Some("https".into()),
        number: 443,
        protocol: AppProtocol::Opaque,
        endpoints: endpoints.iter().map(endpoint).collect(),
        node_port: None,
    };
    let service = Known {
        key: key.clone(),
        addresses: vec![address.parse().unwrap()],
        ports: vec![port],
        written: false,
        external_name: None,
        affinity: None,
    };
    Catalog { services: [(key, Arc::new(service))].into_iter().collect(), ..Catalog::default() }
}

fn following(endpoints: &[(&str, Condition)]) -> Detour {
    let detour = Detour::default();
    detour.follow(&catalog("kubernetes", "10.96.0.1", endpoints));
    detour
}

fn of(detour: &Detour, server: &str) -> Vec<String> {
    detour.endpoints(&server.parse().unwrap()).iter().map(ToString::to_string).collect()
}

#[test]
fn only_the_api_servers_own_service_has_a_detour_and_only_by_tls() {
    let detour = following(&[("10.0.0.5:6443", Condition::Ready)]);
    for (server, found) in [
        ("https://10.96.0.1", true),
        ("https://10.96.0.1:443/api", true),
        ("https://[::ffff:10.96.0.1]", true),
        ("https://kubernetes.default.svc", true),
        ("https://kubernetes.default.svc.cluster.local", true),
        ("https://Kubernetes.Default.Svc.Corp.Example:443", true),
        ("https://kubernetes.default", true),
        ("https://kubernetes", true),
        ("http://10.96.0.1:443", false),
        ("https://10.96.0.1:6443", false),
        ("https://10.96.0.2", false),
        ("https://kubernetes.default.svcs", false),
        ("https://kubernetes.example.com", false),
        ("https://kubernetes.default.example.com", false),
        ("https://api.example.com", false),
    ] {
        assert_eq!(of(&detour, server).len(), usize::from(found), "{server}");
    }
    assert_eq!(of(&Detour::default(), "https://10.96.0.1"), [""; 0], "nothing is known yet");
    let other = Detour::default();
    other.follow(&catalog("hello", "10.96.0.1", &[("10.0.0.5:6443", Condition::Ready)]));
    assert_eq!(of(&other, "https://10.96.0.1"), [""; 0], "another Service");
}

#[test]
fn those_that_take_traffic_come_first_and_the_last_that_were_known_stay() {
    let (ready, not) = (Condition::Ready, Condition::NotReady);
    let detour = following(&[("10.0.0.4:6443", not), ("10.0.0.6:6443", ready), ("10.0.0.5:6443", ready)]);
    let all = ["10.0.0.5:6443", "10.0.0.6:6443", "10.0.0.4:6443"];
    assert_eq!(of(&detour, "https://10.96.0.1"), all);
    // The report of a server that is shutting down.
    detour.follow(&catalog("kubernetes", "10.96.0.1", &[]));
    detour.follow(&Catalog::default());
    assert_eq!(of(&detour, "https://10.96.0.1"), all);
    detour.follow(&catalog("kubernetes", "10.96.0.1", &[("[fd00::7]:6443", ready)]));
    assert_eq!(of(&detour, "https://10.96.0.1"), ["[fd00::7]:6443"]);
    let many: Vec<_> = (0..100).map(|it| format!("10.0.0.{it}:6443")).collect();
    let many: Vec<_> = many.iter().map(|it| (it.as_str(), ready)).collect();
    assert_eq!(following(&many).endpoints(&"https://10.96.0.1".parse().unwrap()).len(), MOST);
}

/// The result of connecting to `server` with these endpoints, and the number of connections to an endpoint.
async fn connected(server: SocketAddr, endpoints: &[SocketAddr]) -> (Result<SocketAddr, String>, u64) {
    let detour = Arc::new(Detour::default());
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let server = format!("https://{server}").parse().unwrap();
    let head_start = Duration::from_millis(50);
    let connecting = connect(tcp, server, endpoints.to_vec(), head_start, detour.clone());
    let ended = timeout(Duration::from_secs(20), connecting).await.expect("an end");
    let to = ended.map(|stream| stream.inner().peer_addr().unwrap()).map_err(|error| error.to_string());
    (to, detour.health.by_endpoint.value())
}

/// An address that refuses connections as long as the socket lives.
fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn whatever_connects_first_is_taken() {
    let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (service, endpoint) = (listen().await, listen().await);
    let [service_at, endpoint_at] = [&service, &endpoint].map(|it| it.local_addr().unwrap());
    assert_eq!(connected(service_at, &[endpoint_at]).await, (Ok(service_at), 0));
    let (_held, refused) = refusing();
    assert_eq!(connected(refused, &[endpoint_at]).await, (Ok(endpoint_at), 1));
    let (_also, other) = refusing();
    assert_eq!(connected(refused, &[other, endpoint_at]).await, (Ok(endpoint_at), 1), "the second of them");
    let begun = Instant::now();
    let (none, by_endpoint) = connected(refused, &[other]).await;
    assert!(none.is_err_and(|why| why.contains("connect")) && by_endpoint == 0, "{:?}", begun.elapsed());
    let (none, _) = connected(refused, &[]).await;
    assert!(none.is_err());
}

/// A connect() without an answer: the listener's accept queue is full.
#[tokio::test]
async fn a_service_that_says_nothing_is_not_waited_for() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let silent = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(silent)).await {
        fill.push(stream);
    }
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint_at = endpoint.local_addr().unwrap();
    assert_eq!(connected(silent, &[endpoint_at]).await, (Ok(endpoint_at), 1));
}
