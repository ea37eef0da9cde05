//! The admin listener and the probes listener.

use e2e::raw::Refusing;
use e2e::weir::metrics;
use e2e::{Backend, Client, Request, Weir, eventually, folder};

#[test]
fn health_and_ping_answer() {
    let weir = Weir::new().start();
    weir.admin_get("/live").expect_status(200);
    weir.admin_get("/ready").expect_status(200);
    assert_eq!(weir.admin_get("/admin/ping").expect_status(200).text().trim(), "pong");
}

#[test]
fn unknown_paths_are_404_and_wrong_methods_405() {
    let weir = Weir::new().start();
    weir.admin_get("/nothing").expect_status(404);
    let answer = Client::to(weir.admin()).ask(&Request::post("/metrics", "x").with("Host", "localhost"));
    answer.expect_status(405);
    Client::to(weir.admin()).ask(&Request::new("HEAD", "/live").with("Host", "localhost")).expect_status(200);
}

#[test]
fn the_probes_listener_has_three_paths_and_no_more() {
    let weir = Weir::new().start();
    for path in ["/live", "/ready", "/metrics"] {
        weir.get_from(weir.probes(), path).expect_status(200);
    }
    for path in ["/", "/api/state.json", "/admin/ping", "/admin/shutdown", "/api/config"] {
        weir.get_from(weir.probes(), path).expect_status(404);
    }
}

#[test]
fn metrics_are_openmetrics_and_count_requests_by_service_and_status() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for _ in 0..7 {
        weir.get("http://hello/").expect_body("ok");
    }
    let page = weir.admin_get("/metrics");
    assert!(
        page.get("content-type").is_some_and(|t| t.starts_with("application/openmetrics-text")),
        "{:?}",
        page.head
    );
    let text = page.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = metrics::parse(&text);
    let announced = |name: &str| text.contains(&format!("# TYPE {name} "));
    for sample in &samples {
        let family = ["_total", "_bucket", "_count", "_sum", "_info"]
            .iter()
            .find_map(|suffix| sample.name.strip_suffix(suffix))
            .unwrap_or(&sample.name);
        assert!(announced(family) || announced(&sample.name), "{sample:?} has no type");
        assert!(sample.name.starts_with("weir_") || sample.name.starts_with("process_"), "{sample:?}");
    }
    let seven = samples.iter().any(|s| {
        s.name.ends_with("_total") && s.value == 7.0 && s.labels.values().any(|v| v.contains("hello"))
    });
    assert!(seven, "no counter says seven requests to hello:\n{text}");
}

#[test]
fn both_doors_are_counted_apart() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for _ in 0..3 {
        weir.get("http://hello/").expect_body("ok");
    }
    assert_eq!(weir.accepted("outgoing"), 3.0);
    assert_eq!(weir.accepted("transparent"), 0.0);
}

#[test]
fn the_state_shows_services_endpoints_load_and_breakers() {
    let (backend, refusing) = (Backend::patient(), Refusing::new());
    let kubernetes = folder::service("shop", &["10.96.0.7"])
        .port("http", 80, 8080)
        .endpoints(&["10.1.0.9".parse().unwrap()]);
    let weir =
        Weir::new().kubernetes(&kubernetes).service("hello", &[backend.addr(), refusing.addr()]).start();
    for _ in 0..20 {
        weir.get("http://hello/").expect_body("ok");
    }
    let state = weir.state().to_string();
    for part in ["hello", "shop", "10.96.0.7", "10.1.0.9:8080"] {
        assert!(state.contains(part), "no {part} in {:#}", weir.state());
    }
    assert!(weir.knows(backend.addr()) && weir.knows(refusing.addr()));
    assert_eq!(weir.failures(backend.addr()), 0);
    assert!(weir.failures(refusing.addr()) > 0);
    for address in [weir.outgoing(), weir.admin(), weir.probes()] {
        assert!(state.contains(&address.to_string()), "no listener {address} in {:#}", weir.state());
    }
}

#[test]
fn what_is_in_flight_shows_and_goes() {
    let held = e2e::Answer::raw("").then(e2e::backend::Then::Hang);
    let backend = Backend::http().answer(held).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut clients: Vec<_> = (0..3).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.start(&Request::get("http://hello/"));
    }
    backend.wait_for(3);
    assert_eq!(weir.in_flight(), 3);
    drop(clients);
    eventually("nothing in flight", || weir.in_flight() == 0);
}

#[test]
fn missing_interception_that_is_required_makes_weir_unready_but_serving() {
    let backend = Backend::http().start();
    let transparent = |required: bool| {
        format!(
            "{{ sockets: node, listen: \"[::]:0\", ports: 1, cgroup: /sys/fs/cgroup/no/such/cgroup, required: {required} }}"
        )
    };
    let start = |required| {
        Weir::new().set("transparent", &transparent(required)).service("hello", &[backend.addr()]).start()
    };
    let weir = start(true);
    weir.admin_get("/live").expect_status(200);
    let answer = weir.admin_get("/ready");
    answer.expect_status(503);
    assert!(answer.text().contains("cgroup"), "it says why: {:?}", answer.text());
    weir.expect_log("/no/such/cgroup");
    weir.get("http://hello/").expect_body("ok");
    start(false).admin_get("/ready").expect_status(200);
}

#[test]
fn status_prints_a_running_weirs_state() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    weir.get("http://hello/").expect_body("ok");
    let admin = weir.admin().to_string();
    let exit = Weir::new().run(&["status", "--admin", &admin]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    for part in ["hello", &backend.addr().to_string()] {
        assert!(exit.stdout.contains(part), "no {part} in:\n{}", exit.stdout);
    }
}

#[test]
fn status_names_its_node_and_shows_what_is_asked_for() {
    let backend = Backend::http().start();
    let shop = folder::service("shop", &["10.96.0.7"])
        .namespace("prod")
        .port("http", 80, 8080)
        .endpoints(&["10.1.0.9".parse().unwrap()]);
    let weir =
        Weir::new().env("NODE_NAME", "node-7").kubernetes(&shop).service("hello", &[backend.addr()]).start();
    let status = |arguments: &[&str]| {
        let admin = weir.admin().to_string();
        Weir::new().run(&[&["status", "--admin", &admin][..], arguments].concat())
    };
    let text = |arguments: &[&str]| {
        let exit = status(arguments);
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        exit.stdout
    };
    let all = text(&[]);
    assert!(all.starts_with("node node-7: weir "), "{all}");
    assert!(all.contains("hello") && all.contains("10.1.0.9:8080"), "{all}");
    let one = text(&["--service", "shop"]);
    assert!(one.contains("10.1.0.9:8080") && !one.contains("hello"), "{one}");
    let one = text(&["--namespace", "prod"]);
    assert!(one.contains("10.1.0.9:8080") && !one.contains("hello"), "{one}");
    let json: serde_json::Value = serde_json::from_str(&text(&["-o", "json", "--service", "hello"])).unwrap();
    assert_eq!(json["node"], "node-7");
    assert_eq!(json["services"].as_array().unwrap().len(), 1, "{json:#}");
    let whole: serde_json::Value = serde_json::from_str(&text(&["-o", "json"])).unwrap();
    assert_eq!(whole["services"].as_array().unwrap().len(), 2, "{whole:#}");
    let none = status(&["--service", "nobody"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("nothing here of service \"nobody\""), "{}", none.stderr);
    assert_eq!(status(&["-o", "xml"]).code, Some(64));
}

#[test]
fn where_weir_listens_is_said_once() {
    let weir = Weir::new().start();
    weir.admin_get("/ready").expect_status(200);
    // The log is written by a thread of its own: what it says at a reload comes after all that was said at the start.
    weir.signal(nix::sys::signal::Signal::SIGHUP);
    weir.expect_log("configuration reloaded");
    assert_eq!(weir.log().matches("listening outgoing=").count(), 1, "{}", weir.log());
}

#[test]
fn status_without_a_running_weir_is_one_sentence() {
    let nobody = Refusing::new().addr().to_string();
    let exit = Weir::new().run(&["status", "--admin", &nobody]);
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains(&nobody) && exit.stderr.trim().lines().count() <= 2, "{}", exit.stderr);
}

#[test]
fn the_admin_listener_bounds_its_input_too() {
    let weir = Weir::new().start();
    let mut client = Client::to(weir.admin());
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n");
    for _ in 0..64 {
        client.send(format!("X-Long: {}\r\n", "a".repeat(16384)));
    }
    let (bytes, _) = client.rest();
    assert!(bytes.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&bytes));
    weir.admin_get("/live").expect_status(200);
}
