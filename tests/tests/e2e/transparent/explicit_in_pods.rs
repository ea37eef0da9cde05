//! Explicit clients with weir's sockets in the pods: each goes on from its own network namespace, and nobody is lent
//! another's.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};

use super::loopback_in_pods::until_served;
use super::{Stage, TARGET, address, pods};
use e2e::net::place::Place;
use e2e::net::{NODE_V4, NODE_V6};
use e2e::raw::TcpServer;
use e2e::weir::builder::Builder;
use e2e::{Client, Http2, Pod, Request, Response, Weir, eventually, folder};

/// weir on the node, as pods dial it.
pub(super) fn node(v6: bool) -> SocketAddr {
    address(&if v6 { format!("[{NODE_V6}]:4140") } else { format!("{NODE_V4}:4140") })
}

/// A server of HTTP in `pod` that answers with the address of who has connected.
pub(super) fn says_who(pod: &Pod, at: SocketAddr) -> TcpServer {
    TcpServer::on(pod.listen(at).unwrap(), |mut stream| {
        let who = stream.peer_addr().unwrap().ip().to_canonical().to_string();
        let (mut seen, mut piece) = (Vec::new(), [0; 1024]);
        while let Ok(1..) = stream.read(&mut piece).inspect(|n| seen.extend(&piece[..*n])) {
            if seen.ends_with(b"\r\n\r\n") {
                seen.clear();
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{who}", who.len());
            }
        }
    })
}

/// Both of them at the endpoints of `hello`.
pub(super) fn servers(stage: &Stage) -> Vec<TcpServer> {
    let at = |pod: &Pod| [pod.v4(), pod.v6()].map(|ip| says_who(pod, SocketAddr::new(ip, TARGET)));
    [&stage.a, &stage.b].into_iter().flat_map(at).collect()
}

/// The answer to a request for `hello` from `pod` to weir on the node.
fn ask(pod: &Pod, v6: bool) -> Response {
    Client::over(pod.connect(node(v6)).unwrap()).get("http://hello/")
}

/// The node with weir in the pods, `hello` with one endpoint in pod `a`, and with these settings.
pub(super) fn with_one_endpoint(settings: impl FnOnce(Builder) -> Builder) -> Option<Stage> {
    let mut stage = Stage::set()?;
    let addresses = ["10.96.0.10", "fd00:96::10"];
    let hello = folder::service("hello", &addresses).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    let builder = settings(Weir::new().in_pods(&stage.net).kubernetes(&hello));
    stage.start(builder);
    stage.until_listening(4);
    Some(stage)
}

/// A program in the network namespace of `pod`, and in the cgroup of `other`.
pub(super) fn intruder(pod: &Pod, other: &Pod) -> Place {
    Place::Pod(pod.clone(), other.cgroup().to_owned())
}

/// What a request to `to` is answered that a program sends there; empty without an answer.
pub(super) fn asked_by(place: &Place, to: SocketAddr) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/{}/{} && printf 'GET http://hello/ HTTP/1.1\\r\\nHost: hello\\r\\nConnection: close\\r\\n\\r\\n' >&3 \
         && cat <&3",
        to.ip(),
        to.port()
    );
    let output = place.command("bash").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_explicit_client_in_a_pod_reaches_endpoints_from_its_own_address() {
    let Some(mut stage) = Stage::set() else { return };
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    stage.start(builder.set("policies", "{ clients: [{ prefix: /, protocol: http1 }] }"));
    stage.until_listening(4);
    let _servers = servers(&stage);
    for pod in [&stage.client, &stage.b] {
        for v6 in [false, true] {
            let mut client = Client::over(pod.connect(node(v6)).unwrap());
            for _ in 0..4 {
                let answer = client.get("http://hello/");
                answer.expect_status(200);
                let who: IpAddr = answer.text().parse().unwrap();
                assert!(who == pod.v4() || who == pod.v6(), "{who} is not {}", pod.name());
            }
            let http2 = Http2::over(pod.connect(node(v6)).unwrap());
            let who: IpAddr = http2.get("http://hello/").text().parse().unwrap();
            assert!(who == pod.v4() || who == pod.v6(), "{who} is not {}", pod.name());
        }
        let mapped = pod.connect(address(&format!("[::ffff:{NODE_V4}]:4140"))).unwrap();
        Client::over(mapped).get("http://hello/").expect_status(200);
        let mut tunnel = Client::over(pod.connect(node(false)).unwrap());
        tunnel.ask(&Request::new("CONNECT", "hello:80")).expect_status(200);
        let who: IpAddr = tunnel.get("/").text().parse().unwrap();
        assert!(who == pod.v4() || who == pod.v6(), "{who} is not {}", pod.name());
    }
    let clients = stage.weir().metric("weir_explicit_clients_total", &[("whose", "pod")]);
    assert_eq!(clients, 12.0);
}

#[test]
fn a_process_of_the_node_is_served_from_the_node() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let _servers = servers(&stage);
    for to in [node(false), node(true), address("127.0.0.1:4140"), address("[::1]:4140")] {
        let mut client = Client::over(stage.net.node().connect(to).unwrap());
        let answer = client.get("http://hello/");
        answer.expect_status(200);
        assert!([NODE_V4, NODE_V6].contains(&answer.text().as_str()), "{to}: {}", answer.text());
    }
    assert_eq!(stage.weir().metric("weir_explicit_clients_total", &[("whose", "node")]), 4.0);
}

#[test]
fn a_pod_of_another_node_is_answered_403_and_told_why() {
    let Some(mut stage) = with_one_endpoint(|weir| weir) else { return };
    let _server = says_who(&stage.a, stage.a.at(TARGET));
    let other = stage.net.pod("other");
    // weir finds no network namespace of it.
    std::fs::remove_file(stage.net.netns().join("other")).unwrap();
    stage.until_listening(4);
    for v6 in [false, true] {
        let mut client = Client::over(other.connect(node(v6)).unwrap());
        let answer = client.get("http://hello/");
        answer.expect_status(403);
        assert!(answer.text().contains("no address of this node"), "{}", answer.text());
        let answer = Http2::over(other.connect(node(v6)).unwrap()).get("http://hello/");
        assert_eq!(answer.status, 403);
        let connect = Request::new("CONNECT", "hello:80");
        Client::over(other.connect(node(v6)).unwrap()).ask(&connect).expect_status(403);
    }
    assert_eq!(stage.weir().metric("weir_explicit_clients_total", &[("whose", "other")]), 6.0);
    assert_eq!(stage.weir().metric("weir_faults_total", &[("kind", "foreign_client")]), 6.0);
    assert_eq!(ask(&stage.client, false).status, 200);
}

#[test]
fn with_clients_any_a_pod_of_another_node_is_lent_the_nodes_address() {
    let Some(mut stage) = with_one_endpoint(|weir| weir.set_in("outgoing", "clients", "any")) else { return };
    let _server = says_who(&stage.a, stage.a.at(TARGET));
    let other = stage.net.pod("other");
    std::fs::remove_file(stage.net.netns().join("other")).unwrap();
    stage.until_listening(4);
    assert_eq!(ask(&other, false).text(), NODE_V4);
    assert_eq!(ask(&stage.client, false).text(), stage.client.v4().to_string());
}

#[test]
fn a_process_in_a_pods_namespace_that_is_in_no_pods_cgroup_is_refused() {
    let Some(mut stage) = with_one_endpoint(|weir| weir) else { return };
    let _server = says_who(&stage.a, stage.a.at(TARGET));
    let (pod, node_pod) = (stage.client.clone(), stage.net.node());
    let answer = asked_by(&intruder(&pod, &node_pod), node(false));
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("not in the pod's cgroup"), "{answer}");
    let answer = asked_by(&Place::from(&pod), node(false));
    assert!(answer.ends_with(&pod.v4().to_string()), "{answer}");
    assert_eq!(stage.weir().metric("weir_explicit_clients_total", &[("whose", "other")]), 1.0);
}

/// With its neighbour's address and the node's, a pod has connections between the same two ends as its neighbour.
#[test]
fn a_pod_that_pretends_to_have_its_neighbours_connection_gets_nothing_of_it() {
    let Some(mut stage) = with_one_endpoint(|weir| weir) else { return };
    let _server = says_who(&stage.a, stage.a.at(TARGET));
    let thief = stage.net.pod("thief");
    stage.until_listening(5);
    let victim = stage.client.clone();
    // It answers nobody's questions for the addresses: the network goes on as it was.
    thief.sysctl("net/ipv4/conf/all/arp_ignore", "8");
    thief.ip(&format!("addr add {NODE_V4}/32 dev lo\naddr add {}/32 dev eth0\n", victim.v4()));
    let _trap = TcpServer::greets(thief.listen(node(false)).unwrap(), "trap");
    // weir looks at addresses every two seconds, and at once for a client that it does not find.
    asked_by(&intruder(&victim, &stage.net.node()), node(false));
    for port in 40_000..40_005 {
        let pretended = thief.connect_as(SocketAddr::new(victim.v4(), port), node(false)).unwrap();
        let answer = Client::over(victim.connect_from(port, node(false)).unwrap()).get("http://hello/");
        // Without an API server nobody says whose the address is.
        answer.expect_status(403);
        assert!(answer.text().contains("of several pods"), "{}", answer.text());
        drop(pretended);
    }
    let answer = ask(&victim, false);
    assert_eq!((answer.status, answer.text()), (200, victim.v4().to_string()));
}

#[test]
fn a_new_pod_is_served_at_once() {
    let Some(mut stage) = with_one_endpoint(|weir| weir) else { return };
    let _server = says_who(&stage.a, stage.a.at(TARGET));
    for round in 0..5 {
        let pod = stage.net.pod(&format!("new{round}"));
        let answer = ask(&pod, round % 2 == 1);
        assert_eq!((answer.status, answer.text()), (200, pod.v4().to_string()), "round {round}");
    }
}

#[test]
fn an_explicit_clients_connections_end_with_its_pod() {
    let Some(mut stage) = with_one_endpoint(|weir| weir) else { return };
    let server = TcpServer::echo(stage.a.listen(stage.a.at(TARGET)).unwrap());
    let brief = stage.net.pod("brief");
    stage.until_listening(5);
    let mut tunnel = Client::over(brief.connect(node(false)).unwrap());
    tunnel.ask(&Request::new("CONNECT", "hello:80")).expect_status(200);
    tunnel.send("x").expect("x");
    let link = format!("veth{}", brief.v4().to_string().rsplit('.').next().unwrap());
    stage.net.end(brief);
    let node = stage.net.node();
    stage.until_listening(4);
    // The test still holds the client's socket, which keeps the namespace.
    drop(tunnel);
    eventually("the pod's link goes with its namespace", || {
        !node.command("ip").args(["link", "show", &link]).output().unwrap().status.success()
    });
    drop(server);
}

/// As a debugger, or an agent, that enters a pod's network namespace.
#[test]
fn a_process_of_another_pod_that_comes_first_does_not_take_a_namespace_over() {
    let Some(mut stage) = Stage::set() else { return };
    let ((pod, told), (agent, agents)) = (pods::pod(&mut stage.net, 1), pods::pod(&mut stage.net, 2));
    let told = told.at(pod.v4()).at(pod.v6()).spec("nodeName: n1");
    let agents = agents.at(agent.v4()).at(agent.v6()).spec("nodeName: n1");
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    let builder = builder.set_in("transparent", "enrol", "pods").env("NODE_NAME", "n1");
    stage.start(builder.pod(&told).pod(&agents));
    let _servers = servers(&stage);
    until_served(&mut stage, 2);
    assert!(asked_by(&intruder(&pod, &agent), node(false)).starts_with("HTTP/1.1 200 "));
    let answer = Client::over(pod.connect(node(false)).unwrap()).get("http://hello/");
    answer.expect_status(403);
    assert!(answer.text().contains("several pods"), "{}", answer.text());
    let answer = asked_by(&intruder(&pod, &agent), node(false));
    assert!(answer.starts_with("HTTP/1.1 403 "), "the pod's network is the agent's now: {answer}");
    assert_eq!(stage.weir().metric("weir_interception_netns", &[("state", "shared")]), 1.0);
}

/// A pod with NET_ADMIN may have any address; here each has another one than the cluster says.
#[test]
fn an_address_that_a_pod_gives_itself_permits_nothing() {
    let Some(mut stage) = Stage::set() else { return };
    let ((pod, told), (other, others)) = (pods::pod(&mut stage.net, 1), pods::pod(&mut stage.net, 2));
    let told = told.at("10.200.0.1".parse().unwrap()).at(pod.v6()).spec("nodeName: n1");
    let others = others.at("10.200.0.2".parse().unwrap()).at(other.v6()).spec("nodeName: n1");
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello()).pod(&told).pod(&others);
    let builder = builder.set_in("transparent", "enrol", "pods").env("NODE_NAME", "n1");
    let builder = builder.set_in("outgoing", "overrides", &format!("[{}]", pod.v4()));
    let allow = format!("[10.200.0.1, {}, {}]", pod.v4(), other.v4());
    stage.start(builder.set_in("outgoing", "allow", &allow));
    let _servers = servers(&stage);
    until_served(&mut stage, 2);
    for to in [address("127.0.0.1:4140"), node(false)] {
        let request = Request::get("http://hello/").with("l5d-dtab", "/svc => /$/nothing");
        let answer = Client::over(pod.connect(to).unwrap()).ask(&request);
        assert_eq!(answer.status, 200, "{to}: a stranger's dtab is removed: {}", answer.text());
        let mut refused = Client::over(other.connect(to).unwrap());
        refused.start(&Request::get("http://hello/")).closed();
    }
    let labels = [("listener", "outgoing"), ("reason", "not_allowed")];
    assert_eq!(stage.weir().metric("weir_listener_closed_total", &labels), 2.0);
}
