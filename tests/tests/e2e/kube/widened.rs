//! Who may come to a router while its new rules are not in force yet.

use std::net::TcpListener;
use std::time::Duration;

use e2e::kube::ApiServer;
use e2e::time::holds_for;
use e2e::weir::builder::Builder;
use e2e::{Backend, Client, Load, Weir, eventually};
use nix::sys::signal::Signal;
use serde_json::json;

/// A weir that waits long for what the server does not say.
fn patient(server: &ApiServer) -> Builder {
    let builder = Weir::new().set("limits", "{ firstList: 30s }");
    server.kubeconfig(builder.folder().path());
    builder.set(
        "discovery",
        "{ kubernetes: { kubeconfig: ./kubeconfig, node: node-1, jitter: 0s, readTimeout: 1m } }",
    )
}

const WEB: &str = "interpreter: { kind: io.l5d.k8s.dtabs, namespace: l5d, name: web }";
const OTHER: &str = "interpreter: { kind: io.l5d.k8s.dtabs, namespace: l5d, name: other }";

fn to(backend: &Backend) -> String {
    format!("/$/inet/127.1/{}", backend.addr().port())
}

fn put(server: &ApiServer, name: &str, to: &str) {
    let metadata = json!({ "name": name, "namespace": "l5d" });
    server.put(
        json!({ "kind": "Dtab", "metadata": metadata, "dentries": [{ "prefix": "/svc/web", "dst": to }] }),
    );
}

/// Writes `outgoing` anew and has it read, without waiting until it is in force.
fn begin(weir: &Weir, outgoing: &str) {
    let before = std::fs::read_to_string(weir.folder().path().join("weir.yaml")).unwrap();
    let others = before.lines().filter(|line| !line.starts_with("outgoing:"));
    let text: String = others.map(|line| format!("{line}\n")).collect();
    weir.folder().config(&format!("{text}outgoing: {outgoing}\n"));
    weir.signal(Signal::SIGHUP);
}

/// Lists of dtabs are not answered any more.
fn hang(server: &ApiServer) {
    server.faults(|faults| {
        faults.hung.insert("dtabs".to_owned());
    });
}

/// Whether a new client is answered.
fn comes_in(weir: &Weir) -> bool {
    let mut client = Client::to(weir.outgoing());
    client.start(&e2e::Request::get("http://web/")).try_response().is_ok()
}

#[test]
fn a_router_at_the_same_address_takes_new_clients_only_by_its_new_rules_and_closes_to_others_first() {
    let server = ApiServer::start();
    server.define_custom();
    let [one, two] = ["one", "two"].map(|name| Backend::http().answers(name).start());
    put(&server, "web", &to(&two));
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let closed = format!(
        "{{ label: a, listen: \"{at}\", allow: [192.0.2.0/24], baseDtab: \"/svc/web => {}\" }}",
        to(&one)
    );
    let open = format!("{{ label: b, listen: \"{at}\", allow: [127.0.0.0/8], {WEB} }}");
    let weir = patient(&server).set("outgoing", &closed).start();
    assert!(!comes_in(&weir));
    // The new rules need a dtab that the server does not tell.
    hang(&server);
    begin(&weir, &open);
    eventually("a request for the dtab", || server.count("list", "dtabs") > 0);
    assert!(holds_for(Duration::from_millis(500), || !comes_in(&weir)), "by whose rules?");
    server.heal();
    eventually("the router", || comes_in(&weir));
    eventually("the dtab", || weir.get("http://web/").text() == "two");
    // And back, with a dtab that the server does not tell either.
    hang(&server);
    let other = format!("{{ label: c, listen: \"{at}\", allow: [192.0.2.0/24], {OTHER} }}");
    begin(&weir, &other);
    eventually("nobody to come in", || !comes_in(&weir));
    let routers = weir.state()["routers"].clone();
    assert_eq!(routers[0]["label"], "b", "its old rules are in force still");
}

#[test]
fn a_router_whose_dtab_is_another_objects_serves_by_the_old_one_until_the_new_one_is_known() {
    let server = ApiServer::start();
    server.define_custom();
    let [one, two] = ["one", "two"].map(|name| Backend::http().answers(name).start());
    put(&server, "web", &to(&one));
    let with = |which: &str| format!("{{ listen: 127.0.0.1:0, {which} }}");
    let weir = patient(&server).set("outgoing", &with(WEB)).start();
    eventually("the first dtab", || weir.get("http://web/").text() == "one");
    let load = Load::get(weir.outgoing(), "http://web/");
    load.answered(20);
    hang(&server);
    let asked = server.count("list", "dtabs");
    begin(&weir, &with(OTHER));
    eventually("a request for the other", || server.count("list", "dtabs") > asked);
    load.answered(50);
    put(&server, "other", &to(&two));
    server.heal();
    eventually("the other dtab", || weir.get("http://web/").text() == "two");
    load.stop().expect_no_failure();
}
