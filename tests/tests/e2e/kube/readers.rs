//! Who reads `/metrics` at the probes' listener: it names the services of all tenants.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Instant;

use e2e::https::Https;
use e2e::kube::{ApiServer, Authority, Refusal, service};
use e2e::{Client, Request, Response, Weir, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::stage::following;

const PROMETHEUS: &str = "system:serviceaccount:monitoring:prometheus";
/// Who has a token and no right.
const SOMEBODY: &str = "system:serviceaccount:shop:default";

/// A server with a service, whose ClusterRole permits Prometheus to read metrics.
fn server() -> ApiServer {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", &["10.1.0.1:8080".parse().unwrap()]);
    server.knows_token("right", PROMETHEUS);
    server.knows_token("somebody", SOMEBODY);
    let text = include_str!("../../../../deploy/kubernetes/base/metrics-reader.yaml");
    server.put(serde_saphyr::from_str::<Value>(text).unwrap());
    server.put(json!({
        "kind": "ClusterRoleBinding",
        "metadata": { "name": "prometheus" },
        "roleRef": { "kind": "ClusterRole", "name": "weir-metrics-reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring" }],
    }));
    server
}

fn weir(server: &ApiServer) -> Weir {
    let weir = following(server).start();
    eventually("readiness", || weir.admin_get("/ready").status == 200);
    weir
}

/// A connection to the probes' listener from this loopback address.
fn from(address: [u8; 4], weir: &Weir) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::from(address), 0)).into()).unwrap();
    socket.connect(&weir.probes().into()).unwrap();
    socket.into()
}

fn request(path: &str, authorization: Option<&str>) -> Request {
    let request = Request::get(path).with("Host", "weir").with("Connection", "close");
    match authorization {
        Some(value) => request.with("Authorization", value),
        None => request,
    }
}

fn plain(weir: &Weir, path: &str, authorization: Option<&str>) -> Response {
    Client::to(weir.probes()).ask(&request(path, authorization))
}

fn secured(weir: &Weir, path: &str, authorization: Option<&str>) -> Response {
    let stream = TcpStream::connect(weir.probes()).unwrap();
    Https::trusting_anybody().ask(stream, "localhost", &request(path, authorization)).unwrap()
}

#[test]
fn the_metrics_are_for_whoever_the_api_server_says_and_only_over_tls() {
    let server = server();
    let weir = weir(&server);
    let nothing = |answer: &Response, said: &str| {
        assert!(answer.text().contains(said), "{said:?} is not in: {}", answer.text());
        assert!(!answer.text().contains("weir_") && !answer.text().contains("hello"), "{}", answer.text());
    };
    let answer = plain(&weir, "/metrics", None);
    nothing(answer.expect_status(401), "bearer token over TLS");
    assert_eq!(answer.get("www-authenticate"), Some("Bearer"));
    let answer = plain(&weir, "/metrics", Some("Bearer right"));
    nothing(answer.expect_status(403), "tokens are taken over TLS only: ask by https, on this same port");
    let endless = format!("Bearer {}", "x".repeat(20_000));
    secured(&weir, "/metrics", Some(&endless)).expect_status(401);
    for authorization in [None, Some("Bearer"), Some("Bearer "), Some("Basic right"), Some("right")] {
        nothing(secured(&weir, "/metrics", authorization).expect_status(401), "this needs a bearer token");
    }
    assert_eq!(server.count("create", "tokenreviews"), 0, "nobody was asked about these");
    nothing(secured(&weir, "/metrics", Some("Bearer guess")).expect_status(401), "does not know this token");
    assert_eq!(server.count("create", "subjectaccessreviews"), 0);
    let answer = secured(&weir, "/metrics", Some("Bearer somebody"));
    nothing(answer.expect_status(403), "may not `get` the non-resource URL /metrics");
    let page = secured(&weir, "/metrics", Some("Bearer right"));
    page.expect_status(200);
    assert!(page.text().ends_with("# EOF\n"), "{}", page.text());
    assert!(page.get("content-type").is_some_and(|it| it.starts_with("application/openmetrics-text")));
    for (reason, count) in
        [("no_token", 6.0), ("clear_text", 1.0), ("unauthenticated", 2.0), ("forbidden", 1.0)]
    {
        assert_eq!(weir.metric("weir_admin_refused_total", &[("reason", reason)]), count, "{reason}");
    }
    for result in ["allowed", "forbidden", "unauthenticated"] {
        assert_eq!(weir.metric("weir_token_reviews_total", &[("result", result)]), 1.0, "{result}");
    }
}

#[test]
fn kubelet_is_answered_by_both_and_nobody_is_told_why_weir_is_not_ready() {
    let server = server();
    let weir = weir(&server);
    for ask in [plain, secured] {
        ask(&weir, "/live", None).expect_body("live\n");
        ask(&weir, "/ready", None).expect_body("ready\n");
        ask(&weir, "/", None).expect_status(404);
    }
    drop(weir);
    server.refuse("services", Refusal::Forbidden);
    let weir = following(&server).start();
    eventually("the reason", || weir.admin_get("/ready").text().contains("not permitted"));
    for ask in [plain, secured] {
        ask(&weir, "/live", None).expect_status(200);
        assert_eq!(ask(&weir, "/ready", None).expect_status(503).text(), "not ready; the admin says why\n");
    }
}

#[test]
fn a_token_that_is_known_is_not_asked_about_again() {
    let server = server();
    let weir = weir(&server);
    for _ in 0..10 {
        secured(&weir, "/metrics", Some("Bearer right")).expect_status(200);
        secured(&weir, "/metrics", Some("Bearer somebody")).expect_status(403);
    }
    assert_eq!(server.count("create", "tokenreviews"), 2);
    assert_eq!(server.count("create", "subjectaccessreviews"), 2);
}

#[test]
fn while_the_api_server_is_away_who_was_allowed_reads_on_and_others_are_told_why_not() {
    let server = server();
    let weir = weir(&server);
    secured(&weir, "/metrics", Some("Bearer right")).expect_status(200);
    server.down();
    secured(&weir, "/metrics", Some("Bearer right")).expect_status(200);
    let answer = secured(&weir, "/metrics", Some("Bearer somebody"));
    assert!(answer.expect_status(503).text().contains("cannot be asked"), "{}", answer.text());
    weir.expect_log("tokens of those who read /metrics cannot be checked");
    server.up();
    eventually("an answer", || secured(&weir, "/metrics", Some("Bearer somebody")).status == 403);
}

#[test]
fn a_weir_that_may_not_ask_about_tokens_says_so() {
    let server = server();
    server.refuse("tokenreviews", Refusal::Forbidden);
    let weir = weir(&server);
    for _ in 0..3 {
        secured(&weir, "/metrics", Some("Bearer right")).expect_status(503);
    }
    weir.expect_log("cannot be checked: not permitted");
    assert_eq!(weir.log().matches("cannot be checked").count(), 1, "{}", weir.log());
    server.heal();
    eventually("an answer", || secured(&weir, "/metrics", Some("Bearer right")).status == 200);
}

#[test]
fn a_pod_that_guesses_tokens_costs_neither_the_api_server_nor_prometheus_much() {
    let server = server();
    let weir = weir(&server);
    let begun = Instant::now();
    let (mut told, mut closed) = (0, 0);
    for number in 0..60 {
        let guess = request("/metrics", Some(&format!("Bearer guess-{number}")));
        match Https::trusting_anybody().ask(from([127, 0, 0, 9], &weir), "localhost", &guess) {
            Ok(answer) => {
                assert!(matches!(answer.status, 401 | 429), "{}", answer.status);
                told += 1;
            }
            Err(_) => closed += 1,
        }
    }
    let seconds = begun.elapsed().as_secs() as usize + 1;
    let asked = server.count("create", "tokenreviews");
    assert!(asked <= 5 + seconds, "{asked} reviews in {seconds} s");
    assert!(told <= 100 + 50 * seconds, "{told} handshakes in {seconds} s");
    assert!(closed > 0 || told == 60, "{closed} closed, {told} told");
    let right = request("/metrics", Some("Bearer right"));
    let page = Https::trusting_anybody().ask(from([127, 0, 0, 8], &weir), "localhost", &right).unwrap();
    page.expect_status(200);
    assert!(weir.metric("weir_admin_refused_total", &[("reason", "often")]) > 0.0);
}

#[test]
fn an_address_that_may_reads_without_a_token_and_no_other_does() {
    let weir = Weir::new().set_in("probes", "metrics", "{ allow: [127.0.0.2/32] }").start();
    let get = |address| Client::over(from(address, &weir)).ask(&request("/metrics", None));
    get([127, 0, 0, 2]).expect_status(200);
    let answer = get([127, 0, 0, 3]);
    assert!(answer.expect_status(403).text().contains("probes.metrics.allow"), "{}", answer.text());
    Client::over(from([127, 0, 0, 3], &weir)).ask(&request("/live", None)).expect_status(200);
}

#[test]
fn a_certificate_from_files_is_shown_and_its_successor_after_it() {
    let (first, second) = (Authority::new(), Authority::new());
    let builder = Weir::new().set_in("probes", "tls", "{ certificate: tls.crt, key: tls.key }");
    let folder = builder.folder().path().to_owned();
    let write = |authority: &Authority| {
        let (certificate, key) = authority.certificate("weir.example.com");
        std::fs::write(folder.join("tls.crt"), certificate).unwrap();
        std::fs::write(folder.join("tls.key"), key).unwrap();
    };
    write(&first);
    let weir = builder.start();
    let get = |authority: &Authority| {
        let stream = TcpStream::connect(weir.probes()).unwrap();
        let https = Https::trusting(&authority.pem());
        https.ask(stream, "weir.example.com", &request("/metrics", None)).map(|answer| answer.status)
    };
    assert_eq!(get(&first).unwrap(), 200);
    assert!(get(&second).is_err());
    write(&second);
    // A handshake each 20 ms is permitted.
    eventually("the new certificate", || {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
        get(&second).is_ok()
    });
    assert!(get(&first).is_err());
}

#[test]
fn a_certificate_that_does_not_serve_keeps_weir_from_starting_and_is_named() {
    let exit = Weir::new().set_in("probes", "tls", "{ certificate: tls.crt, key: tls.key }").fails();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("tls.crt"), "{}", exit.stderr);
}

#[test]
fn who_may_read_and_by_which_certificate_changes_without_a_restart() {
    let authority = Authority::new();
    let weir = Weir::new().set_in("probes", "metrics", "{ allow: [127.0.0.2/32] }").start();
    let get = |address| Client::over(from(address, &weir)).ask(&request("/metrics", None)).status;
    assert_eq!((get([127, 0, 0, 2]), get([127, 0, 0, 3])), (200, 403));
    let (certificate, key) = authority.certificate("weir.example.com");
    std::fs::write(weir.folder().path().join("tls.crt"), certificate).unwrap();
    let file = weir.folder().path().join("weir.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let tls = "allow: [127.0.0.3/32] }, tls: { certificate: tls.crt, key: tls.key }";
    weir.folder().config(&text.replace("allow: [127.0.0.2/32] }", tls));
    weir.signal(Signal::SIGHUP);
    // There is no key yet: that waits, and is said, and the rest does not.
    eventually("the other address", || get([127, 0, 0, 3]) == 200);
    assert_eq!(get([127, 0, 0, 2]), 403);
    let said = weir.state()["reload"].to_string();
    assert!(said.contains("tls.key"), "{said}");
    std::fs::write(weir.folder().path().join("tls.key"), key).unwrap();
    weir.signal(Signal::SIGHUP);
    let https = Https::trusting(&authority.pem());
    eventually("TLS", || {
        let answer = https.ask(from([127, 0, 0, 3], &weir), "weir.example.com", &request("/metrics", None));
        answer.is_ok_and(|it| it.status == 200)
    });
    assert_eq!(get([127, 0, 0, 3]), 200, "and plain text as before");
}
