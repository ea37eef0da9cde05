//! HTTP of diverted connections: balanced, broken and streamed like explicit requests, but unmarked.

use std::time::Duration;

use super::{Stage, TARGET, V4, V6, address, dialler};
use e2e::backend::Then;
use e2e::http2::PREFACE;
use e2e::load::Reuse;
use e2e::raw::Refusing;
use e2e::{Answer, Backend, BackendProcess, Ended, Frames, H2Backend, Http2, Load, Request, Weir, folder};

#[test]
fn nothing_tells_the_application_or_the_backend_of_a_proxy() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let reply = Answer::ok("ok").with("X-MixedCase", "1").with("server", "fake");
    let at = |address| Backend::http().answer(reply.clone()).inside(&stage.a).on(address).start();
    let backend = at(stage.a.at(TARGET));
    let request =
        "GET /Path?q=1 HTTP/1.1\r\nHost: What.Ever.Example:99\r\nX-CamelCase: 1\r\naccept: */*\r\n\r\n";
    let answer = stage.dial(V4).send(request).response();
    answer.expect_body("ok");
    let names: Vec<_> = answer.head.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"X-MixedCase") && names.contains(&"server"), "{names:?}");
    for field in ["via", "l5d-err", "x-forwarded-for", "forwarded"] {
        assert_eq!(answer.get(field), None);
    }
    assert_eq!(String::from_utf8_lossy(&backend.raw()[0]), request);
}

#[test]
fn a_space_behind_the_name_of_an_answers_field_goes_and_its_spelling_stays() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let answer = "HTTP/1.1 200 OK\r\nX-MixedCase : 1\r\nContent-Length : 2\r\n\r\nok";
    let _backend =
        Backend::http().answer(Answer::raw(answer)).inside(&stage.a).on(stage.a.at(TARGET)).start();
    let answer = stage.dial(V4).get("/");
    answer.expect_body("ok");
    let raw = String::from_utf8_lossy(&answer.head.raw).into_owned();
    assert!(raw.contains("\r\nX-MixedCase: 1\r\nContent-Length: 2\r\n"), "{raw}");
}

#[test]
fn connections_are_kept_on_both_sides() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let backend = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).start();
    let mut client = stage.dial(V4);
    for _ in 0..50 {
        client.ask(&Request::post("/", "body").with("Host", "hello")).expect_body("ok");
    }
    assert_eq!((backend.count(), backend.connections()), (50, 1));
}

#[test]
fn what_is_said_to_a_proxy_reaches_the_proxy_that_was_dialled() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let backend = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).start();
    for request in [
        "GET http://elsewhere.example/x HTTP/1.1\r\nHost: elsewhere.example\r\nProxy-Authorization: Basic eA==\r\n\r\n",
        "CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example:443\r\n\r\n",
    ] {
        backend.forget();
        stage.dial(V4).send(request);
        e2e::eventually("the request, as it was", || {
            backend.raw().iter().any(|raw| raw == request.as_bytes())
        });
    }
}

#[test]
fn connect_after_another_request_is_for_the_proxy_that_was_dialled_to_answer() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let proxy = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).script(|request| {
        match request.head.start.as_str() {
            "CONNECT good.example:443 HTTP/1.1" => {
                Answer::raw("HTTP/1.1 200 Go on\r\n\r\nwelcome").then(Then::Echo)
            }
            "CONNECT bad.example:443 HTTP/1.1" => Answer::status(407),
            _ => Answer::ok("ok"),
        }
    });
    let proxy = proxy.start();
    let mut client = stage.dial(V4);
    client.get("/").expect_body("ok");
    let connect = |to: &str| format!("CONNECT {to}.example:443 HTTP/1.1\r\nHost: {to}.example:443\r\n\r\n");
    client.send(connect("bad")).response().expect_status(407);
    client.send(connect("good"));
    let head = client.head();
    assert_eq!(
        (head.status(), head.get("transfer-encoding"), head.get("content-length")),
        (Some(200), None, None)
    );
    client.expect("welcome").send("\0ping").expect("\0ping").half_close();
    assert_eq!(client.rest().0, b"");
    assert_eq!(proxy.count(), 3);
}

#[test]
fn a_diverted_body_waits_for_the_endpoint_where_its_client_does_and_else_for_nobody() {
    let Some(mut stage) = Stage::set() else { return };
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    let patient = Weir::new().on_node(&stage.net).set("limits", "{ expectContinue: 5m }");
    stage.start(patient.kubernetes(&hello));
    let backend = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).script(|request| {
        match request.head.target() {
            "/refused" => Answer::status(417).unread().closing(),
            _ => Answer::ok("ok").unasked(),
        }
    });
    let backend = backend.start();
    let head = |target: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    };
    let refused = stage.dial(V4).send(head("/refused")).response();
    assert_eq!((refused.status, refused.interim.as_slice()), (417, &[0_u16; 0][..]));
    backend.forget();
    stage.dial(V4).send(head("/") + "body").response().expect_body("ok");
    let mut client = stage.dial(V4);
    client.send(head("/"));
    e2e::eventually("the head at the endpoint", || backend.count() == 2);
    client.send("body").response().expect_body("ok");
}

#[test]
fn a_connection_ends_with_the_dialled_proxys_own_where_that_refuses_a_connect() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let proxy = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).script(|request| {
        match request.head.method() {
            "CONNECT" => Answer::status(403).with("Connection", "close").then(Then::Close),
            _ => Answer::ok("ok"),
        }
    });
    let proxy = proxy.start();
    let mut client = stage.dial(V4);
    client.get("/").expect_body("ok");
    let connect = "CONNECT bad.example:443 HTTP/1.1\r\nHost: bad.example:443\r\n\r\n";
    client.send(format!("{connect}GET /for-the-tunnel HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.response().expect_status(403);
    assert_eq!(client.rest().0, b"");
    assert_eq!(proxy.count(), 2);
}

#[test]
fn a_client_of_an_address_that_was_forgotten_goes_on_with_kept_connections() {
    let Some(stage) = Stage::running_with(|builder| {
        builder.set("limits", "{ outside: 1 }").set_in("transparent", "divert", "[10.96.0.0/16]")
    }) else {
        return;
    };
    let beyond = |to| Backend::http().inside(&stage.beyond).on(address(to)).start();
    let (web, other) = (beyond("10.96.0.10:82"), beyond("10.96.0.10:84"));
    let mut client = stage.dial("10.96.0.10:82");
    client.get("/").expect_body("ok");
    stage.dial("10.96.0.10:84").get("/").expect_body("ok");
    for _ in 0..10 {
        client.get("/").expect_body("ok");
    }
    assert_eq!((web.count(), web.connections(), other.count()), (11, 2, 1));
}

#[test]
fn every_request_of_a_connection_is_balanced() {
    let Some(stage) = Stage::running() else { return };
    let _backends = stage.backends();
    let mut client = stage.dial(V4);
    let bodies: std::collections::BTreeSet<_> = (0..100).map(|_| client.get("/").text()).collect();
    assert_eq!(bodies.into_iter().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_backend_killed_under_load_costs_no_diverted_get() {
    let Some(mut stage) = Stage::set() else { return };
    let mut a = BackendProcess::start_in(&stage.a, stage.a.at(TARGET), "a");
    let _b = BackendProcess::start_in(&stage.b, stage.b.at(TARGET), "b");
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET);
    let hello = hello.endpoints(&[stage.a.v4(), stage.b.v4()]);
    let quick = "{ backoff: { min: 200ms, max: 400ms } }";
    stage.start(Weir::new().on_node(&stage.net).set("breaker", quick).kubernetes(&hello));
    let get = Request::get("/").with("Host", "hello");
    let kept = Load::start(3, Reuse::KeepAlive, &get, dialler(&stage.client, V4));
    let fresh = Load::start(2, Reuse::Never, &get.with("Connection", "close"), dialler(&stage.client, V4));
    kept.answered(200);
    a.kill();
    kept.answered(300);
    fresh.answered(50);
    a.restart();
    let before = kept.tally().from("a");
    e2e::eventually("its return", || kept.tally().from("a") > before + 20);
    kept.stop().expect_no_failure();
    fresh.stop().expect_no_failure();
}

#[test]
fn a_service_whose_endpoints_are_dead_is_an_answer_that_says_so() {
    let Some(stage) = Stage::running() else { return };
    let answer = stage.dial(V4).get("/");
    assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    assert!(!answer.l5d_err().is_empty() && answer.get("via").is_none(), "{answer:?}");
}

#[test]
fn a_long_body_streams_both_ways() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let _backend =
        Backend::http().answer(Answer::stream(16 << 20)).inside(&stage.a).on(stage.a.at(TARGET)).start();
    let answer = stage.dial(V4).ask(&Request::post("/", vec![b'x'; 4 << 20]).with("Host", "hello"));
    assert_eq!((answer.status, answer.length), (200, 16 << 20));
}

#[test]
fn ambiguous_framing_is_refused_here_too() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let backend = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).start();
    for fields in ["Content-Length: 3\r\nContent-Length: 4", "Content-Length: 3, 4", "Content-Length: +3"] {
        let mut client = stage.dial(V4);
        client.send(format!("POST / HTTP/1.1\r\nHost: hello\r\n{fields}\r\n\r\nabcd"));
        client.response().expect_status(400);
        client.rest();
    }
    assert_eq!(backend.count(), 0);
}

#[test]
fn an_http10_request_without_a_host_reaches_the_dialled_service() {
    let Some(stage) = Stage::running() else { return };
    let _backends = stage.backends();
    let body = stage.dial(V6).send("GET / HTTP/1.0\r\n\r\n").response().text();
    assert!(body == "a" || body == "b", "{body:?}");
}

#[test]
fn an_upgrade_becomes_a_tunnel_for_diverted_applications() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let _backend =
        Backend::http().answer(Answer::upgrade("chat")).inside(&stage.a).on(stage.a.at(TARGET)).start();
    let mut client = stage.dial(V4);
    client.start(
        &Request::get("/").with("Host", "hello").with("Connection", "Upgrade").with("Upgrade", "chat"),
    );
    assert_eq!(client.head().status(), Some(101));
    client.send("ping").expect("ping");
}

#[test]
fn an_absolute_target_of_a_diverted_request_does_not_choose_the_destination() {
    let Some(stage) = Stage::running_with(|builder| builder.service("other", &[Refusing::new().addr()]))
    else {
        return;
    };
    let _backends = stage.backends();
    let answer = stage.dial(V4).ask(&Request::get("http://other/"));
    assert!(matches!(answer.status, 200 | 400), "{answer:?}");
}

#[test]
fn an_endless_wait_for_a_head_is_bounded_here_too() {
    let Some(stage) = Stage::running_with(|builder| builder.set("limits", "{ headerRead: 300ms }")) else {
        return;
    };
    let _backends = stage.backends();
    let mut client = stage.dial(V4);
    // What is HTTP shows at once: a first piece that waits long for the next is somebody else's protocol.
    client.send("GET / HTTP/1.1\r\nX: ").drip("a".repeat(200), Duration::from_millis(10));
    client.rest();
    assert_eq!(client.stream().peer_addr().map_or(address(V4), |a| a), address(V4));
}

#[test]
fn what_policies_say_of_the_dialled_service_holds_for_diverted_requests() {
    let rule =
        "{ services: [{ prefix: /svc/hello, response: 100ms }, { prefix: /svc/other, response: 20s }] }";
    let Some(stage) = Stage::running_with(|weir| weir.set("policies", rule)) else { return };
    let slow = || Answer::ok("late").after(Duration::from_millis(500));
    let a = [stage.a.at(TARGET), std::net::SocketAddr::new(stage.a.v6(), TARGET)];
    let b = [stage.b.at(TARGET), std::net::SocketAddr::new(stage.b.v6(), TARGET)];
    let _a = a.map(|at| Backend::http().answer(slow()).inside(&stage.a).on(at).start());
    let _b = b.map(|at| Backend::http().answer(slow()).inside(&stage.b).on(at).start());
    stage.dial(V4).get("/").expect_status(504);
    stage.dial(V6).get("/").expect_status(504);
}

/// What a client says of its host, and whether that is one.
const HOSTS: [(&str, bool); 20] = [
    ("hello", true),
    ("", true),
    ("Hello.DEFAULT.svc.cluster.local.:80", true),
    ("a_b:8080", true),
    ("hello:", true),
    ("203.0.113.9", true),
    ("[FD00:96::10]:80", true),
    ("[::1]", true),
    ("a b", false),
    ("u@h", false),
    ("h/../x", false),
    ("h, e", false),
    ("h?x", false),
    ("h%2fx", false),
    ("h\\x", false),
    ("[::1", false),
    ("fd00::1", false),
    ("h:99999", false),
    ("h:0", false),
    (":80", false),
];

#[test]
fn a_host_that_is_none_is_refused_of_diverted_requests_as_of_explicit_ones() {
    let Some(mut stage) = Stage::with_one_endpoint() else { return };
    let backend = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).start();
    let mut good = 0;
    for (host, is_one) in HOSTS {
        // The connection goes on, refused or not: its messages have no other extent.
        let mut client = stage.dial(V4);
        for _ in 0..2 {
            let faults = stage.weir().faults("bad_host");
            let answer = client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response();
            assert_eq!(answer.status, if is_one { 200 } else { 400 }, "{host:?}: {answer:?}");
            assert_eq!(answer.l5d_err().is_empty(), is_one, "{host:?}: {answer:?}");
            assert_eq!(stage.weir().faults("bad_host") - faults, f64::from(u8::from(!is_one)), "{host:?}");
            good += usize::from(is_one);
        }
    }
    assert_eq!(backend.count(), good);
    assert!(backend.requests().iter().all(|it| HOSTS.contains(&(it.head.get("host").unwrap_or("-"), true))));
}

#[test]
fn http2_is_told_by_its_preface_however_and_whenever_it_comes() {
    let Some(mut stage) = Stage::with_one_endpoint() else { return };
    let backend = H2Backend::http2().start_on(stage.a.listen(stage.a.at(TARGET)).unwrap());
    for (first, pause) in [(24, 0), (18, 0), (18, 600), (3, 0), (0, 600)] {
        let mut frames = Frames::bare(stage.client.connect(address(V4)).unwrap());
        let (begin, rest) = PREFACE.split_at(first);
        frames.send(begin);
        std::thread::sleep(Duration::from_millis(pause));
        frames.send(rest).frame(4, 0, 0, &[0, 1, 0, 0, 0, 0]).get(1, "What.Ever.Example:99", "/x");
        assert_eq!(frames.ended(1), Ended::Answered(200), "after {first} bytes, {pause} ms");
    }
    let arrived = backend.requests();
    assert!(
        arrived
            .iter()
            .all(|it| it.target == "http://what.ever.example:99/x"
                || it.target == "http://What.Ever.Example:99/x"),
        "{arrived:?}"
    );
    assert!(arrived.iter().all(|it| it.get("via").is_none()), "{arrived:?}");
    let connections = stage.weir().metric("weir_http2_connections_total", &[("listener", "transparent")]);
    // After the silence weir had connected, and a server of HTTP/2 speaks at once: that connection passed as bytes.
    assert_eq!((arrived.len(), connections), (5, 4.0));
}

#[test]
fn a_diverted_http2_connection_is_balanced_and_broken_stream_by_stream() {
    let Some(stage) = Stage::running() else { return };
    let serve = |pod: &e2e::Pod| {
        let name = pod.name().to_owned();
        H2Backend::http2().answers(&name).start_on(pod.listen(pod.at(TARGET)).unwrap())
    };
    let (_a, _b) = (serve(&stage.a), serve(&stage.b));
    // The IPv6 endpoints are dead: each is found out, and no stream is lost.
    let client = Http2::over(stage.client.connect(address(V4)).unwrap());
    let bodies = client.many("http://hello/", 1000, 20);
    for name in ["a", "b"] {
        let share = bodies.iter().filter(|body| *body == name).count();
        assert!((350..=650).contains(&share), "{name} got {share} of 1000");
    }
}

#[test]
fn a_connect_in_a_stream_is_for_the_proxy_that_was_dialled() {
    let Some(stage) = Stage::with_one_endpoint() else { return };
    let proxy = Backend::http().inside(&stage.a).on(stage.a.at(TARGET)).script(|request| {
        match request.head.start.as_str() {
            "CONNECT good.example:443 HTTP/1.1" => {
                Answer::raw("HTTP/1.1 200 Go on\r\n\r\nwelcome").then(Then::Echo)
            }
            _ => Answer::status(407),
        }
    });
    let proxy = proxy.start();
    let mut frames = Frames::over(stage.client.connect(address(V4)).unwrap());
    // SETTINGS say nothing of extended CONNECT.
    assert!(frames.until(4).payload.chunks(6).all(|it| it[1] != 8));
    let connect = |to: &'static [u8]| [(":method", &b"CONNECT"[..]), (":authority", to)];
    frames.request(1, &connect(b"bad.example:443"), true);
    assert_eq!(frames.ended(1), Ended::Answered(407));
    frames.request(3, &connect(b"good.example:443"), false);
    let head = frames.until(1);
    assert_eq!((head.stream, head.status(), head.flags & 1), (3, Some(200), 0));
    assert_eq!(frames.until(0).payload, b"welcome");
    frames.frame(0, 0, 3, b"ping");
    assert_eq!(frames.until(0).payload, b"ping");
    assert!(proxy.requests().iter().all(|it| it.head.all("host").len() == 1));
}
