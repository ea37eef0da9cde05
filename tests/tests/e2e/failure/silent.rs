//! Nodes that go without a word, and applications that only are slow. A pod stands for a node: cut from the network, it
//! acknowledges nothing. What bounds that is `limits.silence`, and never `limits.unacknowledged`.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::backend::Received;
use e2e::client::Closed;
use e2e::message::End;
use e2e::raw::TcpServer;
use e2e::weir::builder::Builder;
use e2e::{Answer, Backend, Client, Load, Net, Pod, Request, Weir, eventually};

const PORT: u16 = 8080;

/// What silence is bounded by, and what would be too long for any test.
const LIMITS: &str = "{ silence: 2s, unacknowledged: 1h }";

/// A node where weir runs, and pods that stand for two other nodes.
struct Nodes {
    weir: Weir,
    client: Pod,
    a: Pod,
    b: Pod,
    net: Net,
}

/// Where the explicit proxy listens.
fn proxy() -> SocketAddr {
    "10.1.0.1:4140".parse().unwrap()
}

impl Nodes {
    /// `services` says which services there are at nodes `a` and `b`; `None` without root.
    fn with(limits: &str, services: impl FnOnce(Builder, [SocketAddr; 2]) -> Builder) -> Option<Self> {
        if !e2e::net::is_root() {
            return None;
        }
        let mut net = Net::new();
        let (client, a, b) = (net.pod("client"), net.pod("a"), net.pod("b"));
        let weir = Weir::new().beside(&net).set("outgoing", "{ listen: \"0.0.0.0:4140\" }");
        let weir = services(weir.set("limits", limits), [a.at(PORT), b.at(PORT)]).start();
        Some(Self { weir, client, a, b, net })
    }

    fn backend(pod: &Pod, script: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Backend {
        Backend::http().script(script).inside(pod).on(pod.at(PORT)).start()
    }

    fn connect(&self) -> Client {
        Client::over(self.client.connect(proxy()).unwrap())
    }

    /// A tunnel to `hello`.
    fn tunnel(&self) -> Client {
        let mut tunnel = self.connect();
        tunnel.send("CONNECT hello:80 HTTP/1.1\r\nHost: hello:80\r\n\r\n");
        assert_eq!(tunnel.head().status(), Some(200));
        tunnel
    }

    fn attempts(&self, outcome: &str) -> f64 {
        self.weir.metric("weir_attempts_total", &[("outcome", outcome)])
    }
}

/// An answer that nobody lives to see.
fn late() -> Answer {
    Answer::ok("late").after(Duration::from_secs(600))
}

#[test]
fn requests_at_a_silent_node_go_elsewhere_where_they_may_be_repeated_and_are_502_where_not() {
    let Some(nodes) = Nodes::with(LIMITS, |weir, [a, b]| weir.service("hello", &[a, b])) else { return };
    let _a = Nodes::backend(&nodes.a, |_| Answer::ok("a").after(Duration::from_millis(5)));
    let b = Nodes::backend(&nodes.b, |_| late());
    // Several at once, so that the quicker node has too much to do for all of them.
    let until_at_b = |method: &str, count: usize| {
        let mut asked = Vec::new();
        while b.count() < count {
            asked.extend((0..8).map(|_| {
                let (mut client, request) = (nodes.connect(), Request::new(method, "http://hello/"));
                std::thread::spawn(move || client.ask(&request))
            }));
            std::thread::sleep(Duration::from_millis(50));
        }
        asked
    };
    let gets = until_at_b("GET", 3);
    let posts = until_at_b("POST", b.count() + 3);
    nodes.net.cut(&nodes.b);
    for get in gets {
        get.join().unwrap().expect_body("a");
    }
    let answers: Vec<_> = posts.into_iter().map(|post| post.join().unwrap()).collect();
    let (answered, failed): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(failed.len() >= 3 && !answered.is_empty(), "{answers:?}");
    for answer in failed {
        answer.expect_status(502);
        assert!(answer.text().contains("has acknowledged nothing for 2s"), "{}", answer.text());
    }
    assert!(nodes.attempts("silent") >= 6.0 && nodes.weir.faults("silent") >= 3.0);
}

#[test]
fn whatever_waits_for_a_silent_node_is_told() {
    let Some(nodes) = Nodes::with(LIMITS, |weir, [_, b]| weir.service("hello", &[b])) else { return };
    let b = Nodes::backend(&nodes.b, |request| match request.head.target() {
        "/stream" => Answer::chunks(&["one", "two"]).pausing(Duration::from_secs(600)),
        "/echo" => Answer::upgrade("chat"),
        _ => late(),
    });
    let asked = |request: Request| {
        let mut client = nodes.connect();
        client.start(&request);
        client
    };
    let mut waiting = asked(Request::post("http://hello/", "x"));
    let mut streaming = asked(Request::get("http://hello/stream"));
    let mut websocket =
        asked(Request::get("http://hello/echo").with("Connection", "Upgrade").with("Upgrade", "chat"));
    assert_eq!(websocket.head().status(), Some(101));
    websocket.send("ping").expect("ping");
    let mut tunnel = nodes.tunnel();
    tunnel.send("POST / HTTP/1.1\r\nHost: hello\r\n\r\n");
    let mut sending = nodes.connect();
    sending.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 999999\r\n\r\nfirst");
    b.wait_for(5);
    nodes.net.cut(&nodes.b);
    websocket.send("lost");
    let more = sending.stream().try_clone().unwrap();
    let sends = std::thread::spawn(move || Client::over(more).drip([b'x'; 1000], Duration::from_millis(5)));
    waiting.response().expect_status(502);
    sending.response().expect_status(502);
    assert_eq!(streaming.response().end, End::Truncated);
    assert_eq!(tunnel.closed(), Closed::Reset);
    assert_eq!(websocket.closed(), Closed::Reset);
    sends.join().unwrap();
    eventually("all of them to be counted", || nodes.attempts("silent") == 5.0);
}

#[test]
fn a_slow_application_keeps_its_connection_however_little_patience_there_is_for_silent_nodes() {
    let limits = "{ silence: 1s, unacknowledged: 1s }";
    let Some(nodes) = Nodes::with(limits, |weir, [_, b]| weir.service("hello", &[b])) else { return };
    let slow = Duration::from_secs(6);
    // What is slow before the answer is known does not read either.
    let _b = Nodes::backend(&nodes.b, move |request| match request.head.target() {
        "/computes" => Answer::ok("computed").after(slow),
        "/pauses" => Answer::chunks(&["before ", "after"]).pausing(slow),
        _ => {
            std::thread::sleep(slow);
            Answer::ok("read")
        }
    });
    let much = vec![b'x'; 24 << 20];
    let upload = Request::post("http://hello/reads-late", much.clone());
    let through = Request::post("/reads-late", much).with("Host", "hello");
    std::thread::scope(|scope| {
        let ask = |request: Request| scope.spawn(|| nodes.connect().ask(&{ request }));
        let asked = [
            (ask(Request::get("http://hello/computes")), "computed"),
            (ask(Request::post("http://hello/computes", "x")), "computed"),
            (ask(Request::get("http://hello/pauses")), "before after"),
            (ask(upload), "read"),
            (scope.spawn(|| nodes.tunnel().ask(&through)), "read"),
        ];
        for (answer, body) in asked {
            answer.join().unwrap().expect_body(body);
        }
    });
    assert_eq!(nodes.attempts("silent") + nodes.attempts("reset"), 0.0);
}

#[test]
fn a_tunnel_that_waits_for_nothing_outlives_an_outage() {
    let Some(nodes) = Nodes::with(LIMITS, |weir, [_, b]| weir.service("hello", &[b])) else { return };
    let _b = TcpServer::echo(nodes.b.listen(nodes.b.at(PORT)).unwrap());
    let mut tunnel = nodes.tunnel();
    tunnel.send("before").expect("before");
    nodes.net.cut(&nodes.b);
    assert!(tunnel.silent_for(Duration::from_secs(5)), "nothing was lost");
    nodes.net.mend(&nodes.b);
    tunnel.send("after").expect("after");
}

#[test]
fn a_silent_node_stops_no_worker_and_costs_others_nothing() {
    let services =
        |weir: Builder, [a, b]: [SocketAddr; 2]| weir.service("hello", &[a, b]).service("other", &[a]);
    let Some(nodes) = Nodes::with(LIMITS, services) else { return };
    let _a = Nodes::backend(&nodes.a, |_| Answer::ok("a").after(Duration::from_millis(3)));
    let b = Nodes::backend(&nodes.b, |_| Answer::ok("b").after(Duration::from_millis(3)));
    let load = |url: &str| {
        let client = nodes.client.clone();
        Load::paced(8, 250, &Request::get(url), move || client.connect(proxy()))
    };
    let (hello, other) = (load("http://hello/"), load("http://other/"));
    hello.answered(200);
    nodes.net.cut(&nodes.b);
    eventually("a silent node to be noticed", || {
        let beat = nodes.weir.metric("weir_workers_oldest_beat_seconds", &[]);
        assert!(beat < 2.0, "a worker has not moved for {beat} s");
        nodes.attempts("silent") >= 1.0
    });
    // Neither do its unused connections lead anywhere.
    let endpoint = b.addr().to_string();
    let idle = || nodes.weir.metric("weir_endpoint_idle_connections", &[("endpoint", &endpoint)]);
    eventually("its unused connections to be closed", || idle() == 0.0);
    other.answered(100);
    hello.answered(200);
    nodes.net.mend(&nodes.b);
    other.stop().expect_no_failure();
    hello.stop().expect_no_failure();
}
