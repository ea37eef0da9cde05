//! Settings of clusters change under load: no connection is closed, and nothing that was learned or counted is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use e2e::folder::service;
use e2e::load::Load;
use e2e::net::is_root;
use e2e::raw::TcpServer;
use e2e::{Answer, Backend, Net, Request, Weir, eventually};

use super::apply::change;

const BREAKER: &str = "{ failures: 2, backoff: { min: 1h, max: 2h } }";

/// Other values of the keys of `limits`.
const LIMITS: &[(&str, &str)] = &[
    ("memory", "200MiB"),
    ("connections", "9000"),
    ("waitForRoom", "20s"),
    ("headerBytes", "32KiB"),
    ("headerCount", "90"),
    ("targetBytes", "4KiB"),
    ("headerRead", "9s"),
    ("idle", "4m"),
    ("connect", "2s"),
    ("connectTotal", "4s"),
    ("headStart", "200ms"),
    ("tunnelIdle", "50m"),
    ("poolIdle", "2h"),
    ("poolPurgeDelay", "1h"),
    ("poolConnections", "200"),
    ("attempts", "2"),
    ("retryAfter", "30s"),
    ("copyBuffer", "8KiB"),
    ("pipes", "8"),
    ("interimAnswers", "50"),
    ("interimBytes", "32KiB"),
    ("body", "50s"),
    ("response", "4m"),
    ("expectContinue", "2s"),
    ("silence", "4s"),
    ("unacknowledged", "9s"),
    ("keepAlive", "20s"),
    ("sniff", "100ms"),
    ("firstList", "1s"),
    ("outside", "900"),
    ("dnsLookups", "200"),
    ("addresses", "32"),
    ("dnsQuestions", "6"),
    ("bindings", "10000"),
    ("bindingIdle", "9m"),
    ("clusters", "900"),
    ("clusterIdle", "50m"),
    ("idleConnections", "500"),
    ("receiveBuffer", "256KiB"),
    ("notSent", "64KiB"),
    ("tuples", "60000"),
    ("destinations", "60000"),
    ("halfClosed", "4s"),
    ("http2.maxConcurrentStreams", "90"),
    ("http2.streamWindow", "32KiB"),
    ("http2.connectionWindow", "7MiB"),
    ("http2.windowWait", "4m"),
    ("http2.ping", "4m"),
    ("http2.pingTimeout", "10s"),
    ("http2.idleFrames", "900"),
    ("http2.resets", "400"),
    ("http2.streamErrors", "900"),
    ("http2Endpoints.streams", "90"),
    ("http2Endpoints.connections", "8"),
    ("http2Endpoints.window", "32KiB"),
    ("http2Endpoints.ping", "5m"),
    ("http2Endpoints.pingTimeout", "10s"),
    ("http2Endpoints.replayBytes", "32KiB"),
    ("http2Endpoints.replayTotal", "8MiB"),
];

/// Other values of the keys of `breaker`. Its wait stays longer than the test.
const BREAKERS: [(&str, &str); 3] = [
    ("failures", "{ failures: 3, backoff: { min: 1h, max: 2h } }"),
    ("backoff.min", "{ failures: 2, backoff: { min: 50m, max: 2h } }"),
    ("backoff.max", "{ failures: 2, backoff: { min: 1h, max: 3h } }"),
];

/// The keys of `policies`.
const POLICIES: [&str; 8] = [
    "{ services: [{ prefix: /svc/hello, response: 20s }] }",
    "{ services: [{ prefix: /, attempts: 2 }] }",
    "{ services: [{ prefix: /svc, attempts: 2 }], clients: [{ prefix: /, response: 30s }] }",
    "{ clients: [{ prefix: /, attempts: 4 }] }",
    "{ clients: [{ prefix: /, protocol: http1 }] }",
    "{ clients: [{ prefix: /, breaker: { failures: 4 } }] }",
    "{ clients: [{ prefix: \"/#/io.l5d.fs\", breaker: { backoff: { min: 30m, max: 90m } } }] }",
    "{}",
];

/// Each edit of a section: which, and what is written there.
fn edits() -> Vec<(&'static str, String)> {
    let limit = |(key, value): &(&str, &str)| match key.split_once('.') {
        None if *key == "poolIdle" => ("limits", format!("{{ {key}: {value} }}")),
        // Unused connections must not end by themselves.
        None => ("limits", format!("{{ poolIdle: 1h, {key}: {value} }}")),
        Some((section, key)) => ("limits", format!("{{ poolIdle: 1h, {section}: {{ {key}: {value} }} }}")),
    };
    let breakers = BREAKERS.map(|(_, yaml)| ("breaker", yaml.to_owned()));
    let policies = POLICIES.map(|yaml| ("policies", yaml.to_owned()));
    breakers.into_iter().chain(policies).chain(LIMITS.iter().map(limit)).collect()
}

#[test]
fn every_setting_of_clusters_that_is_documented_is_edited_here() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let keys = |line: &str| -> Vec<String> {
        let Some(cell) = line.strip_prefix("| `") else { return Vec::new() };
        let cell = cell.split(" |").next().unwrap_or_default();
        cell.split('`').step_by(2).map(str::to_owned).filter(|key| !key.is_empty()).collect()
    };
    let mut seen = 0;
    for key in text.lines().flat_map(keys) {
        let is_edited = match key.split_once('.') {
            Some(("limits", key)) => LIMITS.iter().any(|(edited, _)| *edited == key),
            Some(("breaker", key)) => BREAKERS.iter().any(|(edited, _)| edited.starts_with(key)),
            _ => continue,
        };
        assert!(is_edited, "{key} is not edited");
        seen += 1;
    }
    assert!(seen > 30, "{seen} keys in the documentation");
    let policies = text.split("## Policies").nth(1).and_then(|it| it.split("```").next()).unwrap();
    let keys: Vec<_> = policies.lines().flat_map(keys).collect();
    assert!(keys.len() > 5, "{keys:?}");
    for key in keys {
        let word = key.rsplit('.').next().unwrap();
        assert!(POLICIES.iter().any(|edit| edit.contains(word)), "{key} is not edited");
    }
}

#[test]
fn a_changed_answer_time_holds_for_clients_that_are_connected() {
    let slow = Backend::http().answer(Answer::ok("late").after(Duration::from_secs(1))).start();
    let weir = Weir::new().set("limits", "{ headerRead: 200ms, response: 20s }");
    let weir = weir.service("hello", &[slow.addr()]).start();
    let mut client = weir.client();
    client.get("http://hello/").expect_body("late");
    change(&weir, "limits", Some("{ headerRead: 200ms, response: 300ms }"));
    eventually("the shorter time", || client.get("http://hello/").status == 504);
    change(&weir, "limits", Some("{ headerRead: 200ms, response: 20s }"));
    eventually("the longer time", || client.get("http://hello/").text() == "late");
    assert_eq!(weir.accepted("outgoing"), 1.0);
}

/// Everything that only grows, by its name and labels.
fn totals(weir: &Weir) -> BTreeMap<String, f64> {
    let grows = |name: &str| ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end));
    let samples = weir.metrics().into_iter().filter(|it| grows(&it.name));
    samples.map(|it| (format!("{}{:?}", it.name, it.labels), it.value)).collect()
}

/// Requests to a file's service, a Service, what a transformer makes of one, and an address outside the catalog.
const URLS: [&str; 4] = ["http://hello/", "http://web/", "http://moved/", "http://10.1.0.10:84/"];

#[test]
fn editing_any_setting_of_clusters_closes_no_connection_and_resets_nothing() {
    if !is_root() {
        return;
    }
    let mut net = Net::new();
    let pod = net.pod("server");
    let backend =
        |port, status| Backend::http().answer(Answer::status(status)).inside(&pod).on(pod.at(port)).start();
    let [hello, bad, web, moved, outside, quiet] =
        [(80, 200), (81, 500), (82, 200), (83, 200), (84, 200), (85, 200)]
            .map(|(port, status)| backend(port, status));
    let echo = TcpServer::echo(pod.listen(pod.at(86)).unwrap());
    assert_eq!(URLS[3], format!("http://{}/", outside.addr()));
    let to_83 = "[{ kind: io.l5d.k8s, prefix: /moved, transformers: [{ kind: io.l5d.port, port: 83 }] }]";
    let weir = Weir::new()
        .beside(&net)
        .service("hello", &[hello.addr(), bad.addr()])
        .service("quiet", &[quiet.addr()])
        .service("echo", &[echo.addr()])
        .kubernetes(&service("web", &["10.96.0.10"]).port("http", 80, 82).endpoints(&[pod.v4()]))
        .set("namers", to_83)
        .set("dtab", "\"/svc/moved => /#/moved/default/http/web ;\"")
        .set("breaker", BREAKER)
        .set("limits", "{ poolIdle: 1h }")
        .start();

    // What is to stay: an ejection, an estimate with its counts and unused connections, and a tunnel.
    eventually("the ejection", || {
        weir.get("http://hello/");
        weir.is_ejected(bad.addr())
    });
    for _ in 0..3 {
        weir.get("http://quiet/").expect_status(200);
    }
    eventually("the end of its requests", || weir.endpoint(quiet.addr())["inFlight"] == 0);
    let estimate = weir.endpoint(quiet.addr());
    assert!(estimate["latencySeconds"].as_f64() > Some(0.0) && estimate["requests"] == 3, "{estimate:#}");
    let ejected = weir.endpoint(bad.addr());
    let mut tunnel = weir.client();
    tunnel.start(&Request::new("CONNECT", "echo:80"));
    assert_eq!(tunnel.head().status(), Some(200));
    let loads = URLS.map(|url| {
        let (node, proxy) = (net.node(), weir.outgoing());
        Load::paced(2, 50, &Request::get(url), move || node.connect(proxy))
    });
    for load in &loads {
        load.answered(20);
    }
    let (mut before, clients) = (totals(&weir), weir.accepted("outgoing"));

    for (section, yaml) in edits() {
        let edit = format!("{section}: {yaml}");
        change(&weir, section, Some(&yaml));
        for load in &loads {
            load.answered(3);
        }
        tunnel.send(&edit).expect(&edit);
        assert_eq!(weir.endpoint(quiet.addr()), estimate, "after {edit}");
        let now = weir.endpoint(bad.addr());
        for field in ["breaker", "ejections", "requests", "failures"] {
            assert_eq!(now[field], ejected[field], "{field} after {edit}");
        }
        let after = totals(&weir);
        for (sample, value) in &before {
            assert!(
                after.get(sample) >= Some(value),
                "{sample} was {value} after {edit}: {:?}",
                after.get(sample)
            );
        }
        before = after;
    }

    for (load, url) in loads.into_iter().zip(URLS) {
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{url}: {tally:?}");
    }
    assert_eq!(weir.accepted("outgoing"), clients, "a client had to connect again");
    for (backend, name) in
        [(&hello, "hello"), (&web, "web"), (&moved, "moved"), (&outside, "outside"), (&quiet, "quiet")]
    {
        assert_eq!(backend.connections(), backend.open(), "connections to {name} were closed");
    }
    assert_eq!(echo.accepted(), 1);
}
