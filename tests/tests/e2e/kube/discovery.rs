//! Services come from an API server, whatever happens to it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::kube::{Act, ApiServer, Refusal, pod, service, slice};
use e2e::time::within;
use e2e::{Clock, Weir, eventually, folder};
use serde_json::json;

const A_SECOND: Duration = Duration::from_secs(1);

/// A server, and a weir that follows it. The server goes last, so that weir's log ends well.
struct Cluster {
    weir: Weir,
    server: ApiServer,
    _folder: tempfile::TempDir,
}

fn start(server: ApiServer) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let weir = Weir::new().set("discovery", &follow(&server, &folder)).start();
    Cluster { weir, server, _folder: folder }
}

fn follow(server: &ApiServer, folder: &tempfile::TempDir) -> String {
    let kubeconfig = server.kubeconfig(folder.path());
    let kubeconfig = kubeconfig.display();
    format!(
        "{{ kubernetes: {{ kubeconfig: {kubeconfig}, node: node-1, jitter: 0s, connectTimeout: 500ms, readTimeout: 500ms, \
         silence: 1s }} }}"
    )
}

/// A server with the service `hello` of these endpoints, and a weir that knows it.
fn hello(endpoints: &[SocketAddr]) -> Cluster {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", endpoints);
    let cluster = start(server);
    cluster.knows_only(endpoints);
    cluster
}

impl Cluster {
    fn known(&self) -> Vec<SocketAddr> {
        let state = self.weir.state();
        let services = state["services"].as_array().cloned().unwrap_or_default();
        let clusters = services.iter().filter_map(|it| it["clusters"].as_array()).flatten();
        let endpoints = clusters.filter_map(|it| it["endpoints"].as_array()).flatten();
        let mut known: Vec<_> =
            endpoints.filter_map(|it| it["address"].as_str()?.parse::<SocketAddr>().ok()).collect();
        known.sort_unstable();
        known
    }

    #[track_caller]
    fn knows_only(&self, endpoints: &[SocketAddr]) {
        let mut expected = endpoints.to_vec();
        expected.sort_unstable();
        eventually("the endpoints", || self.known() == expected);
    }

    #[track_caller]
    fn knows_soon(&self, endpoints: &[SocketAddr]) {
        let mut expected = endpoints.to_vec();
        expected.sort_unstable();
        within(A_SECOND, "the endpoints", || self.known() == expected);
    }

    fn ready(&self) -> String {
        self.weir.get_from(self.weir.admin(), "/ready").text()
    }

    fn failures(&self, resource: &str, kind: &str) -> f64 {
        self.weir.metric("weir_kubernetes_failures_total", &[("resource", resource), ("kind", kind)])
    }

    fn lists(&self, resource: &str) -> f64 {
        self.weir.metric("weir_kubernetes_lists_total", &[("resource", resource)])
    }
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, last], 8080))
}

#[test]
fn services_and_their_endpoints_come_and_go() {
    let cluster = hello(&[at(1), at(2)]);
    cluster.server.put(service("world", "10.96.0.11", &[("http", 80)]));
    cluster.server.put(slice("world-1", "world", ("http", 8080), &[e2e::kube::Endpoint::ready(at(3).ip())]));
    cluster.knows_soon(&[at(1), at(2), at(3)]);
    cluster.server.delete("services", "default", "world");
    cluster.knows_soon(&[at(1), at(2)]);
    assert!(cluster.ready().contains("kubernetes: ok"), "{}", cluster.ready());
    assert_eq!(cluster.weir.metric("weir_catalog_services", &[]), 1.0);
}

#[test]
fn a_change_of_one_endpoint_is_in_force_within_100_ms() {
    let server = ApiServer::start();
    server.fill(500, 3);
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", &[at(1)]);
    let cluster = start(server);
    eventually("the services", || cluster.weir.metric("weir_catalog_services", &[]) == 501.0);
    // Looking itself takes a while, so the best of a few counts.
    let mut times = Vec::new();
    for last in 2..7 {
        let changes = || cluster.weir.metric("weir_catalog_changes_total", &[("change", "changed")]);
        let before = changes();
        let begun = Clock::start();
        cluster.server.serve("hello", &[at(last)]);
        within(A_SECOND, "the change", || changes() > before);
        times.push(begun.elapsed());
    }
    let best = times.iter().min().unwrap();
    assert!(*best < Duration::from_millis(100), "{times:?}");
}

#[test]
fn history_that_is_gone_is_listed_again_and_only_differences_go_on() {
    let cluster = hello(&[at(1)]);
    let lists = cluster.lists("endpointslices");
    let changes = || cluster.weir.metric("weir_catalog_changes_total", &[("change", "changed")]);
    let before = changes();
    cluster.server.act(Act::Gone);
    eventually("a new list", || cluster.lists("endpointslices") > lists);
    cluster.knows_soon(&[at(1)]);
    assert_eq!(changes(), before, "nothing differs");
    cluster.server.serve("hello", &[at(1), at(2)]);
    cluster.knows_soon(&[at(1), at(2)]);
}

#[test]
fn what_changed_while_the_server_was_away_is_known_on_its_return() {
    let cluster = hello(&[at(1), at(2)]);
    cluster.server.down();
    eventually("the loss", || cluster.failures("endpointslices", "unreachable") > 0.0);
    assert_eq!(cluster.known(), [at(1), at(2)], "the last state serves");
    assert!(cluster.ready().contains("kubernetes: ok"), "{}", cluster.ready());
    cluster.server.serve("hello", &[at(3)]);
    cluster.server.compact();
    cluster.server.up();
    within(Duration::from_secs(4), "the change", || cluster.known() == [at(3)]);
}

#[test]
fn cut_and_garbled_watches_lose_nothing() {
    let cluster = hello(&[at(1)]);
    for (last, act) in [Act::Cut, Act::Garbage, Act::Nonsense, Act::End].into_iter().enumerate() {
        cluster.server.act(act);
        let endpoint = at(u8::try_from(last).unwrap() + 10);
        cluster.server.serve("hello", &[endpoint]);
        within(Duration::from_secs(3), "the change", || cluster.known() == [endpoint]);
    }
}

#[test]
fn a_server_that_hangs_is_noticed() {
    let cluster = hello(&[at(1)]);
    cluster.server.faults(|faults| faults.hangs = true);
    eventually("the silence", || cluster.failures("endpointslices", "silent") > 0.0);
    assert_eq!(cluster.known(), [at(1)]);
    cluster.server.serve("hello", &[at(2)]);
    cluster.server.heal();
    within(Duration::from_secs(4), "the change", || cluster.known() == [at(2)]);
}

#[test]
fn a_quiet_watch_without_bookmarks_is_begun_anew_and_is_no_failure() {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", &[at(1)]);
    server.faults(|faults| faults.silent_watches = true);
    let cluster = start(server);
    cluster.knows_only(&[at(1)]);
    eventually("more watches", || cluster.server.count("watch", "endpointslices") > 2);
    for resource in ["services", "endpointslices"] {
        assert_eq!(cluster.failures(resource, "silent"), 0.0, "{resource}");
        assert_eq!(cluster.lists(resource), 1.0, "{resource}");
    }
    cluster.server.heal();
    cluster.server.serve("hello", &[at(2)]);
    cluster.knows_soon(&[at(2)]);
}

#[test]
fn a_server_that_was_restored_from_a_backup_is_believed() {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", &[at(1)]);
    server.compact();
    let cluster = start(server);
    cluster.knows_only(&[at(1)]);
    for last in 2..20 {
        cluster.server.serve("hello", &[at(last)]);
    }
    cluster.knows_only(&[at(19)]);
    cluster.server.restore();
    cluster.knows_only(&[at(1)]);
    cluster.server.serve("hello", &[at(2)]);
    cluster.knows_soon(&[at(2)]);
}

#[test]
fn weir_serves_without_an_api_server_and_says_what_it_waits_for() {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", &[at(1)]);
    server.down();
    let cluster = start(server);
    eventually("the reason", || {
        cluster.ready().contains("waiting for services: the API server cannot be reached")
    });
    let ready = cluster.weir.get_from(cluster.weir.probes(), "/ready");
    assert_eq!(ready.status, 503);
    // A name outside is answered for, by DNS or the lack of it: the proxy itself works.
    assert_eq!(cluster.weir.get("http://a.www.nowhere.invalid/").status, 502);
    cluster.server.up();
    within(Duration::from_secs(4), "readiness", || cluster.ready().contains("kubernetes: ok"));
    cluster.knows_soon(&[at(1)]);
}

#[test]
fn what_is_forbidden_is_off_and_named_and_the_rest_works() {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", &[at(1)]);
    server.refuse("pods", Refusal::Forbidden);
    let cluster = start(server);
    cluster.knows_only(&[at(1)]);
    eventually("the note", || cluster.ready().contains("the enrolment of pods is off"));
    assert_eq!(cluster.weir.get_from(cluster.weir.probes(), "/ready").status, 200);
    cluster.weir.expect_log("not permitted");
    cluster.server.heal();
    within(Duration::from_secs(10), "the end of the note", || !cluster.ready().contains("off"));
}

#[test]
fn an_expired_token_is_read_anew() {
    let cluster = hello(&[at(1)]);
    cluster.server.faults(|faults| faults.token = Some("renewed".to_owned()));
    cluster.server.act(Act::End);
    eventually("the refusal", || cluster.failures("endpointslices", "unauthorized") > 0.0);
    cluster.server.serve("hello", &[at(2)]);
    cluster.server.kubeconfig_with(cluster._folder.path(), "renewed");
    within(Duration::from_secs(4), "the change", || cluster.known() == [at(2)]);
}

#[test]
fn a_server_that_asks_for_patience_gets_it() {
    let cluster = hello(&[at(1)]);
    cluster.server.refuse("endpointslices", Refusal::TooMany(1));
    cluster.server.act(Act::End);
    eventually("the refusal", || cluster.failures("endpointslices", "throttled") > 0.0);
    let asked =
        || cluster.server.count("watch", "endpointslices") + cluster.server.count("list", "endpointslices");
    let (begun, before) = (Instant::now(), asked());
    eventually("the next try", || asked() > before);
    assert!(begun.elapsed() > Duration::from_millis(600), "{:?}", begun.elapsed());
    cluster.server.serve("hello", &[at(2)]);
    cluster.server.heal();
    within(Duration::from_secs(4), "the change", || cluster.known() == [at(2)]);
}

#[test]
fn an_object_that_makes_no_sense_is_named_and_takes_no_other_along() {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", &[at(1)]);
    server.put(
        json!({ "kind": "Service", "metadata": { "name": "absurd" }, "spec": { "ports": [{ "port": 0 }] } }),
    );
    server.put(json!({
        "kind": "EndpointSlice", "addressType": "FQDN",
        "metadata": { "name": "named", "labels": { "kubernetes.io/service-name": "hello" } },
        "endpoints": [{ "addresses": ["db.example.com"] }], "ports": [],
    }));
    let mut long = service("long", "10.96.0.12", &[("http", 80)]);
    long["metadata"]["annotations"] = json!({ "other.dev/x": "x".repeat(100_000) });
    server.put(long);
    let cluster = start(server);
    cluster.knows_only(&[at(1)]);
    let problems = || cluster.weir.state()["kubernetes"]["problems"].to_string();
    eventually("the reasons", || {
        problems().contains("default/absurd") && problems().contains("default/named")
    });
    eventually("the others", || cluster.weir.metric("weir_catalog_services", &[]) == 2.0);
    assert_eq!(cluster.weir.metric("weir_kubernetes_ignored_total", &[("resource", "services")]), 1.0);
    cluster.server.put(service("absurd", "10.96.0.13", &[("http", 80)]));
    within(A_SECOND, "its return", || cluster.weir.metric("weir_catalog_services", &[]) == 3.0);
    assert!(!problems().contains("default/absurd"), "{}", problems());
}

#[test]
fn a_service_of_the_files_goes_before_the_clusters() {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", &[at(1)]);
    server.put(service("world", "10.96.0.11", &[("http", 80)]));
    let folder = tempfile::tempdir().unwrap();
    let both = follow(&server, &folder).replacen('{', "{ files: { path: ./services }, ", 1);
    let written = folder::service("hello", &["10.96.0.10"]).port("http", 80, 8080).endpoints(&[at(9).ip()]);
    let weir = Weir::new().set("discovery", &both).kubernetes(&written).start();
    let cluster = Cluster { weir, server, _folder: folder };
    eventually("both", || cluster.weir.metric("weir_catalog_services", &[]) == 2.0);
    cluster.knows_only(&[at(9)]);
}

#[test]
fn only_this_nodes_pods_are_asked_for() {
    let cluster = hello(&[at(1)]);
    cluster.server.put(pod("default", "here", "node-1", at(1).ip()));
    cluster.server.put(pod("default", "there", "node-2", at(2).ip()));
    let events = || cluster.weir.metric("weir_kubernetes_events_total", &[("resource", "pods")]);
    eventually("the pod", || events() >= 1.0);
    cluster.server.put(pod("default", "here-2", "node-1", at(3).ip()));
    eventually("another pod", || events() >= 2.0);
    assert_eq!(events(), 2.0);
}

#[test]
fn a_large_cluster_takes_little_room_and_a_change_in_it_little_time() {
    let server = ApiServer::start();
    server.fill(10_000, 5);
    let folder = tempfile::tempdir().unwrap();
    let patient = follow(&server, &folder).replace("readTimeout: 500ms", "readTimeout: 1m");
    let weir = Weir::new().set("discovery", &patient).start();
    let services = || weir.metric("weir_catalog_services", &[]);
    within(Duration::from_mins(2), "the services", || services() == 10_000.0);
    // Without the program's own pages, which are many when it was built for debugging.
    let kib = weir.anonymous() / 1024;
    assert!(kib < 60 * 1024, "{kib} KiB for 50,000 endpoints");
    let changes = || weir.metric("weir_catalog_changes_total", &[("change", "changed")]);
    let times = (1..6).map(|last| {
        let (before, begun) = (changes(), Clock::start());
        server.put(slice("s7-abcde", "s7", ("http", 8080), &[e2e::kube::Endpoint::ready(at(last).ip())]));
        eventually("the change", || changes() > before);
        begun.elapsed()
    });
    let times: Vec<_> = times.collect();
    assert!(times.iter().min().is_some_and(|best| *best < Duration::from_millis(100)), "{times:?}");
}
