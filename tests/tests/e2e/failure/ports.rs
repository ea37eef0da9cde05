//! A node that has no source port left for an endpoint: the answer names the cause.

use std::time::Duration;

use e2e::backend::Then;
use e2e::{Answer, Backend, Client, Net, Request, Weir};

#[test]
fn a_node_without_a_free_source_port_says_so() {
    if !e2e::net::is_root() {
        return;
    }
    let mut net = Net::new();
    let (client, a) = (net.pod("client"), net.pod("a"));
    let few = "echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range";
    assert!(net.node().command("sh").args(["-c", few]).status().unwrap().success());
    let backend = Backend::http().answer(Answer::raw("").then(Then::Hang));
    let backend = backend.inside(&a).on(a.at(8080)).start();
    let weir = Weir::new().set("outgoing", "{ listen: \"[::]:4140\" }").service("hello", &[backend.addr()]);
    let weir = weir.beside(&net).start();
    let to = (net.node().v4(), 4140).into();
    let ask = || {
        let mut client = Client::over(client.connect(to).unwrap());
        client.start(&Request::get("http://hello/"));
        client
    };
    let mut held = Vec::new();
    let answer = loop {
        let mut client = ask();
        let before = held.len();
        e2e::eventually("the request at the endpoint, or an answer", || {
            backend.count() > before || !client.silent_for(Duration::from_millis(20))
        });
        if backend.count() <= before {
            break client.response();
        }
        held.push(client);
    };
    assert!(held.len() <= 4, "{} connections from four ports", held.len());
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.text().contains("every source port of this node is in use"), "{}", answer.text());
    // One connection: the node has few ports for these, too.
    let metrics = weir.metrics();
    let failures = metrics.iter().filter(|it| it.name == "weir_endpoint_failures_total");
    assert_eq!(failures.map(|it| it.value).sum::<f64>(), 0.0, "no fault of the endpoint");
}
