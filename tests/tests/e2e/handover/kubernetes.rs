//! Weirs in pods of their own, as a DaemonSet makes them: whose pod it is, the API server says.

use e2e::kube::{self, ApiServer, Endpoint};
use e2e::weir::builder::Builder;
use e2e::{Client, Net, Place, Pod, Weir, eventually};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{PROXY, ends};

const NAMESPACE: &str = "weir";

/// A pod of the node's network with this number in its UID, of which the API server tells as one of `namespace`.
fn pod(net: &mut Net, server: &ApiServer, number: u32, namespace: Option<&str>) -> Pod {
    let uid = format!("0b7f1c1e-0000-4000-8000-{number:012}");
    let pod = net.host_pod(&format!("burstable/pod{uid}"));
    if let Some(namespace) = namespace {
        let mut told = kube::pod(namespace, &format!("pod-{number}"), "node-1", pod.v4());
        told["metadata"]["uid"] = json!(uid);
        told["spec"]["hostNetwork"] = json!(true);
        server.put(told);
    }
    pod
}

/// A weir in `pod`.
fn weir(net: &Net, server: &ApiServer, pod: &Pod) -> Builder {
    let builder = super::follows(Weir::new().inside(pod)).env("POD_NAMESPACE", NAMESPACE);
    server.kubeconfig(builder.folder().path());
    let cgroup = net.pods_cgroup();
    builder
        .set("outgoing", "{ listen: \"[::]:4140\" }")
        .set("transparent", &format!("{{ cgroup: {}, addresses: [10.1.0.1] }}", cgroup.display()))
        .set("discovery", "{ kubernetes: { kubeconfig: ./kubeconfig, node: node-1, jitter: 0s } }")
}

#[test]
fn a_weir_hands_over_to_another_pod_of_its_namespace_and_to_no_other() {
    if !e2e::net::is_root() {
        return;
    }
    let mut net = Net::new();
    let server = ApiServer::start_in(Place::from(&net.node()));
    let endpoint = net.pod("endpoint");
    let _backend = e2e::Backend::http().answers("a").inside(&endpoint).on(endpoint.at(8080)).start();
    server.put(kube::service("hello", "10.96.0.10", &[("http", 80)]));
    server.put(kube::slice("hello-1", "hello", ("http", 8080), &[Endpoint::ready(endpoint.v4())]));
    let first = pod(&mut net, &server, 1, Some(NAMESPACE));
    let old = weir(&net, &server, &first).start();
    let ask = || Client::over(endpoint.connect(PROXY.parse().unwrap()).unwrap()).get("http://hello/").text();
    eventually("its services", || old.admin_get("/ready").status == 200);
    assert_eq!(ask(), "a");

    // A pod of another namespace, with the very program: it gets nothing, and cannot listen where the old one does.
    let foreign = pod(&mut net, &server, 2, Some("shop"));
    let exit = weir(&net, &server, &foreign).fails();
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("another process has port 4140"), "{}", exit.stderr);
    assert!(!old.log().contains("the next weir takes the listeners over"), "{}", old.log());

    // A pod that the API server tells of only later.
    let next = pod(&mut net, &server, 3, None);
    let mut told = kube::pod(NAMESPACE, "pod-3", "node-1", next.v4());
    told["metadata"]["uid"] = json!("0b7f1c1e-0000-4000-8000-000000000003");
    told["spec"]["hostNetwork"] = json!(true);
    let current = std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("the question", || old.log().contains("the API server has not told of the pod"));
            server.put(told);
        });
        weir(&net, &server, &next).start()
    });
    current.expect_log("serving in place of the weir before this one");
    assert_eq!(ask(), "a");

    // kubelet starts the old one's container again before its pod goes: it gets nothing back.
    let mut again = old;
    again.kill();
    let exit = weir(&net, &server, &first).fails();
    assert!(exit.stderr.contains("another process has port 4140"), "{}", exit.stderr);
    current.expect_log("it does not get them back");
    assert_eq!(ask(), "a");
    current.signal(Signal::SIGTERM);
    ends(current);
}
