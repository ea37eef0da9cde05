//! What weir asks of an API server, and how often: an outage of it must not become a stampede.

use std::time::Duration;

use super::stage::{Stage, address, addresses, following};
use e2e::kube::{Act, ApiServer, Refusal, service};
use e2e::time::{holds_for, within};
use e2e::{Weir, eventually};
use serde_json::json;

/// All that weir follows.
const RESOURCES: [&str; 5] = ["services", "endpointslices", "namespaces", "nodes", "pods"];

/// How often: nodes twice, this one for its zone, and all for their addresses.
const TIMES: [usize; RESOURCES.len()] = [1, 1, 1, 2, 1];

/// A weir whose server said everything.
fn followed(prepare: impl FnOnce(&ApiServer)) -> (Weir, ApiServer) {
    let server = ApiServer::start();
    prepare(&server);
    let weir = following(&server).start();
    eventually("all watches", || are_told(&server));
    (weir, server)
}

/// Whether every watch was told everything.
fn are_told(server: &ApiServer) -> bool {
    RESOURCES.iter().zip(TIMES).all(|(it, times)| server.told(it) == times)
}

fn lists(server: &ApiServer) -> Vec<usize> {
    RESOURCES.iter().map(|it| server.count("list", it)).collect()
}

/// Lists and watches of all resources.
fn calls(server: &ApiServer) -> usize {
    RESOURCES.iter().map(|it| server.count("list", it) + server.count("watch", it)).sum()
}

/// The parameters of each request of this verb.
fn asked(server: &ApiServer, verb: &str, plural: &str) -> Vec<Vec<(String, String)>> {
    let seen = server.seen().into_iter().filter(|it| it.verb == verb && it.plural == plural);
    seen.map(|it| {
        let (_, query) = it.target.split_once('?').unwrap_or_default();
        query
            .split('&')
            .filter_map(|it| it.split_once('='))
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    })
    .collect()
}

fn has(parameters: &[(String, String)], name: &str, value: &str) -> bool {
    parameters.iter().any(|(key, is)| key == name && is == value)
}

#[test]
fn lists_come_in_pages_and_watches_with_bookmarks_from_where_the_list_ended() {
    let (weir, server) = followed(|server| server.fill(1200, 1));
    eventually("every service", || weir.metric("weir_catalog_services", &[]) == 1200.0);
    for plural in ["services", "endpointslices"] {
        let pages = asked(&server, "list", plural);
        assert_eq!(pages.len(), 3, "{plural}: {pages:?}");
        assert!(pages.iter().all(|it| has(it, "limit", "500")), "{pages:?}");
        let continues = |page: &Vec<(String, String)>| page.iter().any(|(key, _)| key == "continue");
        assert_eq!(pages.iter().map(continues).collect::<Vec<_>>(), [false, true, true]);
    }
    let version = server.version().to_string();
    for (plural, times) in RESOURCES.into_iter().zip(TIMES) {
        let watches = asked(&server, "watch", plural);
        assert_eq!(watches.len(), times, "{plural}");
        for watch in &watches {
            assert!(has(watch, "allowWatchBookmarks", "true"), "{watches:?}");
            assert!(has(watch, "resourceVersion", &version), "{watches:?}");
            assert!(watch.iter().any(|(key, _)| key == "timeoutSeconds"), "{watches:?}");
        }
    }
}

#[test]
fn changes_of_what_only_the_metadata_is_asked_of_come_by_the_watch() {
    let (weir, server) = followed(|_| {});
    let events = |plural| weir.metric("weir_kubernetes_events_total", &[("resource", plural)]);
    let before = ["namespaces", "nodes"].map(events);
    server.put(json!({ "kind": "Namespace", "metadata": { "name": "shop" } }));
    server.put(json!({ "kind": "Node", "metadata": { "name": "node-1" } }));
    eventually("both", || server.has_told(&["namespaces", "nodes"]));
    eventually("their events", || {
        ["namespaces", "nodes"].map(events).iter().zip(before).all(|(now, then)| *now > then)
    });
    for (plural, times) in RESOURCES.into_iter().zip(TIMES) {
        assert_eq!(server.count("watch", plural), times, "{plural}: {:?}", server.seen());
    }
}

#[test]
fn a_bookmark_saves_the_list_when_the_history_was_forgotten_that_it_covers() {
    let (weir, server) = followed(|server| server.fill(3, 1));
    let before = lists(&server);
    // Changes of pods elsewhere move the version; only a bookmark tells the other watches so.
    for number in 0..50 {
        let name = format!("elsewhere-{number}");
        server.put(e2e::kube::pod("default", &name, "node-2", address(number).ip()));
    }
    let version = server.version();
    let told = || RESOURCES.iter().all(|it| server.bookmarked(it) == Some(version));
    eventually("the bookmarks", told);
    server.compact();
    server.act(Act::End);
    eventually("all watches", || are_told(&server));
    assert_eq!(lists(&server), before);
    assert_eq!(weir.metric("weir_kubernetes_failures_total", &[("kind", "gone")]), 0.0);
}

#[test]
fn watches_that_are_cut_or_refused_and_a_server_that_restarts_cost_no_list() {
    let (_weir, server) = followed(|server| server.fill(3, 1));
    let before = lists(&server);
    let acts = [Act::Cut, Act::End, Act::Cut];
    for act in acts {
        server.act(act);
        eventually("all watches", || are_told(&server));
    }
    for _ in 0..3 {
        server.down();
        server.fill(4, 2);
        server.up();
        within(Duration::from_secs(5), "all watches", || are_told(&server));
    }
    assert_eq!(lists(&server), before);
}

#[test]
fn history_that_is_gone_costs_each_resource_one_list() {
    let (_weir, server) = followed(|server| server.fill(3, 1));
    for times in 2..=4 {
        server.act(Act::Gone);
        eventually("all watches", || are_told(&server));
        assert_eq!(lists(&server), TIMES.map(|it| it * times));
    }
}

#[test]
fn a_watch_that_is_answered_410_is_followed_by_a_list() {
    let (weir, server) = followed(|server| server.fill(3, 1));
    server.refuse("*", Refusal::Gone);
    server.act(Act::End);
    let listed = || lists(&server).iter().all(|it| *it > 1);
    eventually("a list of each", listed);
    server.delete("services", "default", "s1");
    server.heal();
    within(Duration::from_secs(4), "all watches", || are_told(&server));
    within(Duration::from_secs(1), "the change", || weir.metric("weir_catalog_services", &[]) == 2.0);
}

#[test]
fn a_server_in_trouble_is_asked_ever_more_seldom() {
    // In four seconds: 0.1, 0.2, 0.4, … s of pauses, each shortened by up to a half, are at most eight tries; and where the
    // server says how long to wait, or permission is missing, fewer.
    let most = [
        (Refusal::Broken(503), 9),
        (Refusal::Unauthorized, 9),
        (Refusal::TooMany(1), 5),
        (Refusal::Forbidden, 5),
    ];
    std::thread::scope(|scope| {
        for (refusal, most) in most {
            scope.spawn(move || {
                let (_weir, server) = followed(|server| server.fill(3, 1));
                let before = calls(&server);
                server.refuse("*", refusal);
                server.act(Act::Cut);
                let few = || calls(&server) - before <= most * RESOURCES.len();
                assert!(holds_for(Duration::from_secs(4), few), "{refusal:?}: {}", calls(&server) - before);
                assert!(calls(&server) > before, "{refusal:?}: not asked at all");
                server.heal();
                within(Duration::from_secs(10), "all watches", || are_told(&server));
            });
        }
    });
}

#[test]
fn without_an_api_server_files_and_addresses_are_served_and_its_services_are_when_it_comes() {
    let both = "{ files: { path: ./services }, kubernetes: { kubeconfig: ./kubeconfig, jitter: 0s } }";
    let prepare = |server: &ApiServer| {
        server.put(service("hello", "10.96.0.10", &[("http", 80)]));
        server.serve("hello", &addresses(&[0]));
        server.down();
    };
    let settings = |builder: e2e::weir::builder::Builder| {
        builder.set("discovery", both).service("written", &addresses(&[1]))
    };
    let Some(stage) = Stage::prepared(3, prepare, settings) else { return };
    let _backends = [0, 1, 2].map(|it| stage.backend(it));
    stage.weir.get("http://written/").expect_body("1");
    stage.weir.get(&format!("http://{}/", address(2))).expect_body("2");
    stage.weir.get("http://hello/").expect_status(503);
    eventually("what is waited for", || {
        let ready = stage.weir.admin_get("/ready");
        ready.status == 503
            && ready.text().contains("kubernetes: waiting for services: the API server cannot be reached")
    });
    stage.server.up();
    within(Duration::from_secs(4), "its services", || stage.weir.get("http://hello/").text() == "0");
    eventually("readiness", || stage.weir.admin_get("/ready").status == 200);
    stage.weir.get("http://written/").expect_body("1");
}
