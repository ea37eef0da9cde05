//! The way to the API server, and its end.

use std::time::Duration;

use e2e::kube::{ApiServer, service};
use e2e::time::within;
use e2e::{Net, Weir, eventually};

use super::stage::following;

/// A watch may be silent for longer than a test lasts, so that nothing else can be what ends it.
const PATIENT: &str =
    "{ kubernetes: { kubeconfig: ./kubeconfig, node: node-1, jitter: 0s, readTimeout: 1s, silence: 1h } }";

#[test]
fn a_server_that_is_gone_without_a_word_is_missed_also_by_a_quiet_watch() {
    if !e2e::net::is_root() {
        return;
    }
    let mut net = Net::new();
    let far = net.pod("server");
    let server = ApiServer::start_at(&far);
    let builder = Weir::new();
    server.kubeconfig(builder.folder().path());
    let weir = builder.set("discovery", PATIENT).beside(&net).start();
    eventually("the watches", || server.has_told(&["services", "endpointslices"]));
    // As when its machine loses power: nothing is closed, and nobody answers.
    far.ip("link set eth0 down\n");
    let lost = [("resource", "endpointslices"), ("kind", "unreachable")];
    within(Duration::from_secs(30), "the loss", || {
        weir.metric("weir_kubernetes_failures_total", &lost) > 0.0
    });
    far.ip("link set eth0 up\n");
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    within(Duration::from_secs(30), "the return", || weir.metric("weir_catalog_services", &[]) == 1.0);
}

#[test]
fn a_proxy_in_the_environment_is_no_way_to_the_server() {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    // Perhaps weir itself, which needs the server to know anything.
    let proxy = "http://127.0.0.1:9";
    let builder =
        following(&server).env("HTTPS_PROXY", proxy).env("https_proxy", proxy).env("HTTP_PROXY", proxy);
    let weir = builder.start();
    eventually("the service", || weir.metric("weir_catalog_services", &[]) == 1.0);
}
