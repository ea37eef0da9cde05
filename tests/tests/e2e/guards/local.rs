//! Addresses that are this node's own although no interface of it seems to have them, and those that an operator refuses.

use std::net::{IpAddr, SocketAddr};

use e2e::net::is_root;
use e2e::raw::TcpServer;
use e2e::{Backend, Client, Dns, Net, Request, Said, Weir, eventually};

const PROXIED: &str = "10.89.7.7";

/// Ways to make addresses local, each with some that it makes so.
const LOCAL: [(&str, &[&str]); 4] = [
    (
        "link add kube-ipvs0 up type bridge\naddr add 10.96.0.77/32 dev kube-ipvs0\naddr add fd00:96::77/128 dev kube-ipvs0 nodad",
        &["10.96.0.77", "fd00:96::77"],
    ),
    ("route add local 10.88.0.0/16 dev lo", &["10.88.0.1", "10.88.255.3"]),
    ("route add local fd00:88::/64 dev lo", &["fd00:88::1", "fd00:88::77:1"]),
    // What a transparent proxy is led to: nobody else answers there.
    ("rule add to 10.89.0.0/16 lookup 89\nroute add local 10.89.0.0/16 dev lo table 89", &[PROXIED]),
];

/// Every one of those addresses.
fn addresses() -> impl Iterator<Item = IpAddr> {
    LOCAL.iter().flat_map(|(_, addresses)| *addresses).map(|it| it.parse().unwrap())
}

/// A node with those addresses, and a server at all of them, which would answer.
fn node() -> Option<(Net, [TcpServer; 2])> {
    is_root().then(|| {
        let net = Net::new();
        for (batch, _) in LOCAL {
            net.node().ip(&format!("{batch}\n"));
        }
        let place = net.weir_place();
        let traps = ["0.0.0.0:80", "[::]:80"]
            .map(|at| TcpServer::greets(place.listen(at.parse().unwrap()).unwrap(), "caught"));
        for address in addresses().filter(|it| it.to_string() != PROXIED) {
            Client::over(place.connect((address, 80).into()).unwrap()).expect("caught");
        }
        (net, traps)
    })
}

/// How often a connection reached one of `traps`.
fn caught(traps: &[TcpServer]) -> usize {
    traps.iter().map(TcpServer::accepted).sum()
}

#[test]
fn what_the_kernel_takes_for_local_is_refused_in_every_way_to_say_it() {
    let Some((net, traps)) = node() else { return };
    let before = caught(&traps);
    let dns = Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
    let weir = Weir::new().beside(&net).set("names", &dns.setting());
    let weir = weir.set_in("outgoing", "connectPorts", "1-65535").start();
    let mut wrong = Vec::new();
    for (number, address) in addresses().enumerate() {
        let literal = SocketAddr::new(address, 80).to_string();
        let name = format!("name{number}.test");
        dns.says(&name, Said::Addresses(vec![address], 60));
        let mut requests = vec![
            Request::get(&format!("http://{literal}/")),
            Request::get(&format!("http://{name}/")),
            Request::new("CONNECT", &literal),
            Request::new("CONNECT", &format!("{name}:80")),
            Request::get("http://x/").with("l5d-dtab", &format!("/svc/x => /$/inet/{name}/80")),
        ];
        if let IpAddr::V4(v4) = address {
            for v6 in [v4.to_ipv6_mapped().to_string(), format!("64:ff9b::{v4}")] {
                requests.push(Request::get(&format!("http://[{v6}]/")));
            }
            requests.push(Request::get(&format!("http://{}/", v4.to_bits())));
        }
        for request in requests {
            let answer = weir.ask(&request);
            if answer.status != 403 {
                wrong.push(format!("{address}: {:?}: {} {}", request.method(), answer.status, answer.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(caught(&traps), before);
    assert!(weir.metric("weir_refused_total", &[("reason", "own_address")]) > 0.0);
    // Written down, they are meant.
    for (number, address) in addresses().enumerate() {
        weir.folder().service(&format!("written{number}"), &[SocketAddr::new(address, 80)]);
    }
    eventually("the services", || weir.ask(&Request::new("CONNECT", "written0:80")).status == 200);
}

#[test]
fn weirs_own_listeners_are_refused_at_every_local_address_also_when_written_down() {
    let Some((net, _traps)) = node() else { return };
    let everywhere = "{ listen: \"[::]:0\" }";
    let weir = Weir::new()
        .beside(&net)
        .set("outgoing", everywhere)
        .set_in("outgoing", "connectPorts", "1-65535")
        .set("probes", everywhere)
        .start();
    for listener in [weir.outgoing(), weir.probes()] {
        for (number, address) in addresses().enumerate() {
            let at = SocketAddr::new(address, listener.port());
            weir.ask(&Request::new("CONNECT", &at.to_string())).expect_status(403);
            weir.get(&format!("http://{at}/")).expect_status(403);
            let name = format!("own{number}-{}", at.port());
            weir.folder().service(&name, &[at]);
            eventually("the service", || {
                weir.ask(&Request::new("CONNECT", &format!("{name}:80"))).status == 403
            });
        }
    }
    assert!(weir.metric("weir_refused_total", &[("reason", "own_listener")]) > 0.0);
}

#[test]
fn a_diverted_connection_to_a_local_address_is_refused_as_any_other() {
    if !is_root() {
        return;
    }
    let mut net = Net::new();
    let pod = net.pod("one");
    net.node().ip("route add local 10.88.0.0/16 dev lo\n");
    let place = net.weir_place();
    let trap = TcpServer::greets(place.listen("0.0.0.0:80".parse().unwrap()).unwrap(), "caught");
    let weir = Weir::new().on_node(&net).set_in("transparent", "divert", "[10.88.0.0/16]").start();
    eventually("the range to be diverted", || weir.metric("weir_interception_destinations", &[]) > 0.0);
    let mut client = Client::over(pod.connect("10.88.0.1:80".parse().unwrap()).unwrap());
    client.get("/").expect_status(403);
    let own = SocketAddr::new("10.88.0.1".parse().unwrap(), weir.outgoing().port());
    let mut client = Client::over(pod.connect(own).unwrap());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.closed();
    assert_eq!(weir.turned_away("transparent", "loop"), 1.0);
    assert_eq!(weir.metric("weir_refused_total", &[("reason", "own_listener")]), 1.0);
    assert_eq!(trap.accepted(), 0);
}

#[test]
fn an_address_that_becomes_local_is_refused_from_then_on() {
    if !is_root() {
        return;
    }
    let mut net = Net::new();
    let pod = net.pod("one");
    let _backend = Backend::http().answers("one").inside(&pod).on("0.0.0.0:80".parse().unwrap()).start();
    pod.ip("addr add 10.88.0.1/32 dev lo\n");
    net.node().ip(&format!("route add 10.88.0.0/16 via {}\n", pod.v4()));
    let weir = Weir::new().beside(&net).set_in("outgoing", "connectPorts", "1-65535").start();
    // A connection that is kept is none that would be made.
    let get = || weir.ask(&Request::new("CONNECT", "10.88.0.1:80")).status;
    assert_eq!(get(), 200);
    net.node().ip("route add local 10.88.0.0/16 dev lo\n");
    assert_eq!(get(), 403);
    net.node().ip("route del local 10.88.0.0/16 dev lo table local\n");
    assert_eq!(get(), 200);
}

#[test]
fn an_operators_list_is_refused_whatever_leads_there_and_changes_with_the_file() {
    if !is_root() {
        return;
    }
    let mut net = Net::new();
    let (one, two) = (net.pod("one"), net.pod("two"));
    let backends = [&one, &two].map(|pod| {
        let on = pod.at(80);
        Backend::http().answers(pod.name()).inside(pod).on(on).start()
    });
    let dns = Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
    dns.says("one.test", Said::Addresses(vec![one.v4()], 60));
    dns.says("either.test", Said::Addresses(vec![one.v4(), two.v4()], 60));
    let refused = format!("[{}, \"{}/128\"]", one.v4(), two.v6());
    let weir = Weir::new().beside(&net).set("names", &dns.setting()).set("refuse", &refused);
    let weir = weir.set_in("outgoing", "connectPorts", "1-65535").start();
    for host in [one.v4().to_string(), "one.test".into(), format!("[{}]", two.v6())] {
        let answer = weir.get(&format!("http://{host}/"));
        answer.expect_status(403);
        assert!(answer.l5d_err().contains("operator"), "{}", answer.l5d_err());
        weir.ask(&Request::new("CONNECT", &format!("{host}:80"))).expect_status(403);
    }
    weir.get("http://either.test/").expect_body("two");
    weir.get(&format!("http://{}/", two.v4())).expect_body("two");
    assert_eq!(backends[0].connections(), 0);
    assert_eq!(weir.metric("weir_refused_total", &[("reason", "listed")]), 6.0);
    weir.folder().service("written", &[one.at(80)]);
    eventually("what was written down", || weir.get("http://written/").text() == "one");
    let config = std::fs::read_to_string(weir.folder().path().join("weir.yaml")).unwrap();
    weir.folder().config(&config.replace(&format!("refuse: {refused}"), ""));
    eventually("the list to be gone", || weir.get("http://one.test/").text() == "one");
    // And back again, also for a client whose connection to the endpoint is open all the time.
    let mut client = weir.client();
    client.get("http://one.test/").expect_body("one");
    weir.folder().config(&config);
    eventually("the list to be back", || client.get("http://one.test/").status == 403);
}
