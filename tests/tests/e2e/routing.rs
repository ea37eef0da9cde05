//! Dtabs: the configuration's, a request's own, splits, and every decision explained.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::time::within;
use e2e::{Answer, Backend, Load, Request, Weir, eventually, message};

/// Files `hello`, `v1` and `v2`, each with one backend of that name.
struct Three {
    weir: Weir,
    _backends: [Backend; 3],
}

fn three(dtab: &str, more: impl FnOnce(e2e::weir::Builder) -> e2e::weir::Builder) -> Three {
    let backends = ["hello", "v1", "v2"].map(|name| Backend::http().answers(name).start());
    let [hello, v1, v2] = &backends;
    let weir = Weir::new().service("hello", &[hello.addr()]).service("v1", &[v1.addr()]);
    let weir = weir.service("v2", &[v2.addr()]).set("dtab", &format!("\"{dtab}\""));
    Three { weir: more(weir).start(), _backends: backends }
}

#[test]
fn the_configurations_dtab_wins_over_the_base_dtab() {
    let three = three("/svc/world => /svc/v1 ; /svc/hello => /svc/v2 ;", |weir| weir);
    three.weir.get("http://world/").expect_body("v1");
    three.weir.get("http://hello/").expect_body("v2");
    three.weir.get("http://v1/").expect_body("v1");
}

#[test]
fn the_first_alternative_that_exists_is_taken() {
    let three = three("/svc/world => /svc/v3 | /svc/v2 | /svc/v1 ;", |weir| weir);
    three.weir.get("http://world/").expect_body("v2");
}

#[test]
fn a_request_moves_itself_and_no_other() {
    let three = three("/svc/world => /svc/v1 ;", |weir| weir);
    let own = Request::get("http://world/").with("l5d-dtab", "/svc/world => /svc/v2");
    for _ in 0..10 {
        three.weir.ask(&own).expect_body("v2");
        three.weir.get("http://world/").expect_body("v1");
    }
}

#[test]
fn a_requests_entries_win_over_its_contexts_and_both_go_on_as_context() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let request = Request::get("http://world/")
        .with("l5d-ctx-dtab", "/svc/world => /svc/nothing")
        .with("l5d-dtab", "/svc/world => /svc/hello")
        .with("l5d-dst-client", "a lie");
    weir.ask(&request).expect_status(200);
    let head = backend.only_request().head;
    assert_eq!(head.all("l5d-ctx-dtab"), ["/svc/world => /svc/nothing; /svc/world => /svc/hello"]);
    assert_eq!(head.all("l5d-dtab"), [""; 0]);
    assert_eq!(head.all("l5d-dst-service"), ["/svc/world"]);
    assert_eq!(head.all("l5d-dst-client"), ["/#/io.l5d.fs/hello"]);
}

#[test]
fn an_unreadable_dtab_is_400_and_names_the_position() {
    let three = three("", |weir| weir);
    let answer = three.weir.ask(&Request::get("http://hello/").with("l5d-dtab", "/svc/x => /a ; /svc = /b"));
    answer.expect_status(400);
    assert!(answer.text().contains("1:21"), "{}", answer.text());
}

#[test]
fn overrides_are_taken_only_from_those_the_settings_name() {
    let three = three("", |weir| weir.set("outgoing", "{ listen: 127.0.0.1:0, overrides: [10.0.0.0/8] }"));
    let own = Request::get("http://hello/").with("l5d-dtab", "/svc/hello => /svc/v2");
    three.weir.ask(&own).expect_body("hello");
}

#[test]
fn to_and_from_strangers_nothing_of_linkerds_goes() {
    let backend = Backend::http().script(|received| match received.head.target() {
        "/fails" => Answer::status(502).with("l5d-err", "secret").with("l5d-success-class", "0.0"),
        _ => Answer::ok("ok").with("l5d-ctx-trace", "secret").with("L5D-Other", "secret").with("X-Own", "1"),
    });
    let backend = backend.start();
    for overrides in ["[]", "[10.0.0.0/8]"] {
        backend.forget();
        let outgoing = format!("{{ listen: 127.0.0.1:0, overrides: {overrides} }}");
        let weir = Weir::new().set("outgoing", &outgoing);
        let weir = weir.service("hello", &[backend.addr()]).service("empty", &[]).start();
        let fields =
            ["l5d-dtab", "l5d-ctx-dtab", "l5d-ctx-trace", "L5D-Ctx-Deadline", "l5d-sample", "l5d-reqid"];
        let request = Request::get("http://hello/").with("X-Own", "1").with("l5d-dst-client", "a lie");
        let answer = weir.ask(&fields.iter().fold(request, |it, name| it.with(name, "/svc => /svc/other")));
        answer.expect_body("ok");
        assert!(
            answer.get("x-own") == Some("1") && !format!("{:?}", answer.head).contains("secret"),
            "{answer:?}"
        );
        let head = backend.only_request().head;
        let own: Vec<_> = head.fields.iter().filter(|(name, _)| name.starts_with("l5d-")).collect();
        assert_eq!(own.len(), 2, "{own:?}");
        assert_eq!(head.all("l5d-dst-client"), ["/#/io.l5d.fs/hello"]);
        assert_eq!(head.get("x-own"), Some("1"));

        let answer = weir.get("http://hello/fails");
        answer.expect_status(502);
        assert_eq!(
            (answer.text().as_str(), answer.get("l5d-err"), answer.get("l5d-success-class")),
            ("", None, None)
        );
        for (method, target, status, what) in [
            ("GET", "http://nobody.shop/", 502, "Bad Gateway"),
            ("CONNECT", "nobody.shop:80", 502, "Bad Gateway"),
            ("GET", "http://empty/", 503, "Service Unavailable"),
            ("GET", "http://169.254.169.254/", 403, "Forbidden"),
        ] {
            let answer = weir.ask(&Request::new(method, target));
            answer.expect_status(status);
            assert_eq!(answer.l5d_err(), what.replace(' ', "%20"), "{method} {target}");
            assert_eq!(answer.text(), format!("{what}\n"), "{method} {target}");
        }
    }
}

#[test]
fn a_header_that_names_are_made_of_counts_from_strangers_too() {
    let backend = Backend::http().start();
    let outgoing = "{ listen: 127.0.0.1:0, overrides: [], identifier: { kind: io.l5d.header } }";
    let weir = Weir::new().set("outgoing", outgoing).service("hello", &[backend.addr()]).start();
    let request = Request::get("http://any/").with("l5d-name", "/hello").with("l5d-sample", "1.0");
    weir.ask(&request).expect_body("ok");
    assert_eq!(backend.only_request().head.get("l5d-sample"), None);
}

#[test]
fn a_split_holds_its_ratio() {
    let three = three("/svc/world => 0.9 * /svc/v1 & 0.1 * /svc/v2 ;", |weir| weir);
    let mut seen = BTreeMap::<String, u32>::new();
    let mut client = three.weir.client();
    for _ in 0..2000 {
        *seen.entry(client.get("http://world/").text()).or_default() += 1;
    }
    // 200 expected, standard deviation 13.4; five of them either side.
    let v2 = seen.get("v2").copied().unwrap_or_default();
    assert!((133..=267).contains(&v2), "{seen:?}");
}

#[test]
fn a_changed_dtab_takes_effect_and_costs_no_request() {
    let three = three("/svc/world => /svc/v1 ;", |weir| weir);
    let weir = &three.weir;
    let load = Load::get(weir.outgoing(), "http://world/");
    load.answered(50);
    let text = std::fs::read_to_string(weir.folder().path().join("weir.yaml")).unwrap();
    weir.folder().config(&text.replace("/svc/v1", "/svc/v2"));
    within(Duration::from_secs(5), "the new dtab", || weir.get("http://world/").text() == "v2");
    load.answered(50);
    let tally = load.stop();
    tally.expect_no_failure();
}

#[test]
fn a_dtab_with_mistakes_changes_nothing_and_every_mistake_is_reported() {
    let three = three("/svc/world => /svc/v1 ;", |weir| weir);
    let weir = &three.weir;
    let text = std::fs::read_to_string(weir.folder().path().join("weir.yaml")).unwrap();
    weir.folder().config(&text.replace("/svc/world => /svc/v1 ;", "/svc = /a ; /svc/b => /c |"));
    eventually("the report", || weir.state()["reload"]["mistakes"].is_string());
    let mistakes = weir.state()["reload"]["mistakes"].to_string();
    assert_eq!(mistakes.matches("dtab: ").count(), 2, "{mistakes}");
    weir.get("http://world/").expect_body("v1");
}

#[test]
fn a_circle_is_named() {
    let three = three("/svc/a => /svc/b ; /svc/b => /svc/a ;", |weir| weir);
    let answer = three.weir.get("http://a/");
    answer.expect_status(502);
    assert!(answer.text().contains("circle: /svc/a -> /svc/b -> /svc/a"), "{}", answer.text());
}

#[test]
fn an_explanation_names_the_entry_the_reason_and_the_endpoints() {
    let three = three("/svc/world => /svc/v3 | /svc/v1 ;", |weir| weir);
    let answer = three.weir.admin_get("/api/explain?name=http%3A%2F%2Fworld%2F&format=text");
    answer.expect_status(200);
    let text = answer.text();
    for part in ["configured dtab, entry 4", "no file is named v3", "=> /#/io.l5d.fs/v1", "ready"] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let json = three.weir.admin_get("/api/explain?name=/svc/v1");
    assert_eq!(message::find(&json.head.fields, "content-type"), Some("application/json"));
    three.weir.admin_get("/api/explain").expect_status(400);
}

#[test]
fn identifiers_make_names_of_headers_paths_and_methods() {
    let identifier =
        "[{ kind: io.l5d.header.token, header: X-Service }, { kind: io.l5d.path, consume: true }]";
    let outgoing = format!("{{ listen: 127.0.0.1:0, identifier: {identifier} }}");
    let three = three("", |weir| weir.set("outgoing", &outgoing));
    three.weir.ask(&Request::get("http://any/x").with("X-Service", "v1")).expect_body("v1");
    three.weir.get("http://any/v2/rest?q=1").expect_body("v2");
    let [_, _, v2] = &three._backends;
    assert_eq!(v2.only_request().head.target(), "/rest?q=1");
    three.weir.get("http://any/").expect_status(400);
}

#[test]
fn http10_without_a_host_goes_where_its_name_is_made_of_something_else() {
    let by_path = "{ kind: io.l5d.path, consume: true }";
    for (identifier, dtab, head, answer) in [
        (by_path, "", "GET /v1/x HTTP/1.0", "v1"),
        ("{ kind: io.l5d.static, path: /v2 }", "", "GET / HTTP/1.0", "v2"),
        ("{ kind: io.l5d.header.token, header: X-Name }", "", "GET / HTTP/1.0\r\nX-Name: v1", "v1"),
        ("{ kind: io.l5d.header, header: X-Name }", "", "GET / HTTP/1.0\r\nX-Name: /v1", "v1"),
        ("{ kind: io.l5d.methodAndHost }", "/svc/1.0/GET => /svc/v2 ;", "GET / HTTP/1.0", "v2"),
        ("[{ kind: weir.host }, { kind: io.l5d.path }]", "", "GET /v1/x HTTP/1.0", "v1"),
        // Nothing is left to make a name of; or it is HTTP/1.1, which has to say its host.
        ("{ kind: weir.host }", "", "GET /v1 HTTP/1.0", "400"),
        (by_path, "", "GET / HTTP/1.0", "400"),
        (by_path, "", "GET /v1/x HTTP/1.1", "400"),
    ] {
        let outgoing = format!("{{ listen: 127.0.0.1:0, identifier: {identifier} }}");
        let three = three(dtab, |weir| weir.set("outgoing", &outgoing));
        let got = three.weir.client().send(format!("{head}\r\n\r\n")).response();
        match answer {
            "400" => {
                got.expect_status(400);
                assert!(got.l5d_err().contains("no%20host"), "{}", got.l5d_err());
            }
            body => {
                got.expect_body(body);
                let backend = three._backends.iter().find(|it| it.count() == 1).unwrap();
                // HTTP/1.1 has to have one (RFC 9112 §3.2).
                assert_eq!(backend.only_request().head.all("host"), [body], "{head}");
            }
        }
    }
}

#[test]
fn the_host_header_is_a_name_as_it_is_where_linkerds_identifier_is_written() {
    let outgoing = "{ listen: 127.0.0.1:0, identifier: { kind: io.l5d.header.token } }";
    let dtab = "/svc/V1:80 => /svc/v1 ; /svc/V1 => /svc/v2 ;";
    let three = three(dtab, |weir| weir.set("outgoing", outgoing));
    for _ in 0..2 {
        three.weir.get("http://V1:80/").expect_body("v1");
        three.weir.get("http://V1/").expect_body("v2");
    }
    let text = three.weir.admin_get("/api/explain?name=http%3A%2F%2FV1%2F&format=text").text();
    assert!(text.contains("/#/io.l5d.fs/v2"), "{text}");
}

#[test]
fn names_that_are_bound_are_counted_and_have_a_bound() {
    let three = three("", |weir| weir.set("workers", "1").set("limits", "{ bindings: 2 }"));
    for _ in 0..3 {
        for name in ["hello", "v1", "v2"] {
            three.weir.get(&format!("http://{name}/")).expect_body(name);
        }
    }
    assert!(three.weir.metric("weir_bindings", &[]) <= 2.0);
    let misses = three.weir.metric("weir_binding_misses_total", &[]);
    let evicted = three.weir.metric("weir_binding_evictions_total", &[("reason", "full")]);
    assert!(misses >= 4.0 && misses - evicted <= 2.0, "{misses} misses, {evicted} evicted");
}

#[test]
fn a_name_longer_than_any_host_is_bound_and_not_remembered() {
    let outgoing = "{ listen: 127.0.0.1:0, identifier: { kind: io.l5d.header.token, header: X-Name } }";
    let weir = Weir::new().set("workers", "1").set("outgoing", outgoing).start();
    let ask = |length: usize| weir.ask(&Request::get("http://any/").with("X-Name", &"n".repeat(length)));
    for _ in 0..3 {
        ask(300).expect_status(502);
    }
    assert_eq!(weir.metric("weir_bindings", &[]), 1.0);
    for _ in 0..3 {
        ask(20_000).expect_status(502);
    }
    assert_eq!(weir.metric("weir_bindings", &[]), 1.0);
    assert_eq!(weir.metric("weir_binding_misses_total", &[]), 4.0);
}

#[test]
fn a_name_that_nobody_asks_for_is_forgotten() {
    let three = three("", |weir| weir.set("limits", "{ bindingIdle: 1s }"));
    three.weir.get("http://hello/").expect_body("hello");
    // Workers look every five seconds.
    within(Duration::from_secs(30), "the eviction", || {
        three.weir.metric("weir_binding_evictions_total", &[("reason", "idle")]) == 1.0
    });
    assert_eq!(three.weir.metric("weir_bindings", &[]), 0.0);
    three.weir.get("http://hello/").expect_body("hello");
}

#[test]
fn linkerd_0_8_names_route_as_they_did() {
    // The names and the dtab of the Kismatic daemonset, on files instead of Services.
    let backends = ["hello", "world-v1"].map(|name| Backend::http().answers(name).start());
    let outgoing = "{ listen: 127.0.0.1:0, dstPrefix: /http, identifier: { kind: io.l5d.methodAndHost } }";
    let dtab = "/srv => /#/io.l5d.fs ; /host => /srv ; /http/*/* => /host ; /host/world => /srv/world-v1 ;";
    let weir = Weir::new().set("outgoing", outgoing).set("baseDtab", &format!("\"{dtab}\""));
    let weir =
        weir.service("hello", &[backends[0].addr()]).service("world-v1", &[backends[1].addr()]).start();
    weir.get("http://hello").expect_body("hello");
    weir.get("http://world").expect_body("world-v1");
    weir.get("http://other").expect_status(502);
}

#[test]
fn a_configured_rewrite_makes_other_names() {
    let namers = "[{ kind: io.l5d.rewrite, prefix: /old, pattern: \"/{name}/api\", name: \"/svc/{name}\" }]";
    let three = three("/svc/legacy => /#/old/v2/api ;", |weir| weir.set("namers", namers));
    three.weir.get("http://legacy/").expect_body("v2");
}

#[test]
fn an_entry_that_says_fail_or_empty_is_named_in_the_answer_and_what_it_says_by_the_admin() {
    let three = three("/svc/no => ! | /svc/v1 ; /svc/none => ~ | $ ; /svc/some => $ & $", |weir| weir);
    for (name, status, line, entry) in [
        ("no", 502, "/svc/no is not bound: configured dtab, line 1, column 1", "/svc/no => ! | /svc/v1"),
        ("none", 503, "/svc/none has no endpoint: configured dtab, line 1, column 26", "/svc/none => ~ | $"),
    ] {
        let answer = three.weir.get(&format!("http://{name}/"));
        answer.expect_status(status);
        assert_eq!(answer.text().trim_end(), line);
        let text = three.weir.admin_get(&format!("/api/explain?name=/svc/{name}&format=text")).text();
        assert!(text.contains(entry), "{text}");
    }
    // What the request brought itself is no secret to it.
    let own = three.weir.ask(&Request::get("http://v1/").with("l5d-dtab", "/svc/v1 => !"));
    assert!(own.expect_status(502).text().contains("column 1: /svc/v1 => !"), "{}", own.text());
    let answer = three.weir.get("http://some/");
    answer.expect_status(503);
    assert!(answer.text().contains("leads this name to nothing ($)"), "{}", answer.text());
}

#[test]
fn a_namer_that_weir_has_not_is_named_in_the_answer() {
    let three = three("/svc/old => /consul/x ; /consul => /#/io.l5d.consul/dc1 ;", |weir| weir);
    let answer = three.weir.get("http://old/");
    answer.expect_status(502);
    let line = "no namer is for /#/io.l5d.consul/dc1/x; there are /#/io.l5d.fs, /#/io.l5d.k8s";
    assert!(answer.text().contains(line), "{}", answer.text());
}

#[test]
fn what_a_request_brings_is_bounded_as_a_whole_since_it_goes_on_as_one() {
    let three = three("", |weir| weir);
    let entries = |count: usize| vec!["/svc/hello => /svc/v1"; count].join("; ");
    let ask = |context: usize, own: usize| {
        let request = Request::get("http://hello/").with("l5d-ctx-dtab", &entries(context));
        three.weir.ask(&request.with("l5d-dtab", &entries(own)))
    };
    ask(32, 32).expect_body("v1");
    let answer = ask(32, 33);
    answer.expect_status(400);
    assert!(answer.text().contains("together: over 64 entries"), "{}", answer.text());
}

#[test]
fn a_circle_is_explained_in_one_round() {
    let three = three("", |weir| weir);
    let circle = "%2Fa%20%3D%3E%20((((((%2Fa%20%26%20%2Fa))))))";
    let answer = three.weir.admin_get(&format!("/api/explain?name=/a&dtab={circle}"));
    answer.expect_status(200);
    let text = answer.text();
    assert!(text.len() < 10_000, "{} bytes", text.len());
    assert!(text.contains("\"result\": \"error: the dtab"), "{text}");
}

#[test]
fn an_address_that_is_refused_is_explained_as_such() {
    let three = three("/svc => /$/weir.dns ;", |weir| weir);
    let text = three.weir.admin_get("/api/explain?name=http%3A%2F%2Fme@127.1%2F&format=text").text();
    assert!(text.contains("weir does not connect to 127.0.0.1:80: a loopback address"), "{text}");
    three.weir.get("http://127.0.0.1/").expect_status(403);
    let answer = three.weir.admin_get("/api/explain?name=/svc/");
    answer.expect_status(400);
    assert!(answer.text().starts_with("`/svc/` is no name: expected a label"), "{}", answer.text());
}

#[test]
fn near_misses_in_other_namespaces_are_named_by_the_admin_and_not_to_clients() {
    let names = "{ dns: { servers: [\"127.0.0.1:1\"], timeout: 200ms } }";
    let shop = e2e::weir::folder::service("shop", &["10.96.0.1"]).namespace("prod").port("http", 80, 80);
    let secret =
        "/svc/secret => /#/io.l5d.k8s/prod/http/none | ! ; /svc/gone => /#/io.l5d.k8s/prod/http/none | $ ;";
    let three = three(secret, |weir| weir.set("names", names).kubernetes(&shop));
    for (host, status, said) in [
        ("shop", 502, "no service shop in namespace default"),
        ("shop.prdo", 502, "as for shop.prdo: DNS"),
        ("shop.staging.svc", 502, "no service shop in namespace staging"),
        ("secret", 502, "is not bound: configured dtab, line 1, column "),
        ("gone", 503, "has no endpoint: configured dtab, line 1, column "),
    ] {
        let answer = three.weir.get(&format!("http://{host}/"));
        let told = format!("{} {}", answer.expect_status(status).text(), answer.l5d_err());
        assert!(told.contains(said), "{said:?} is not in: {told}");
        assert!(!told.contains("prod/") && !told.contains("prod%2F"), "{host}: {told}");
    }
    for (name, said) in [
        ("/svc/shop", "there is /#/io.l5d.k8s/prod/shop"),
        ("/svc/shop.prdo", "there is /#/io.l5d.k8s/prod/shop"),
        ("/svc/secret", "/#/io.l5d.k8s/prod/http/none | !"),
    ] {
        let text = three.weir.admin_get(&format!("/api/explain?name={name}&format=text")).text();
        assert!(text.contains(said), "{said:?} is not in: {text}");
    }
}

#[test]
fn files_in_folders_below_and_with_dots_are_services_of_linkerds_names() {
    let [flat, deep, greeter] = ["flat", "deep", "greeter"].map(|name| Backend::http().answers(name).start());
    let weir = Weir::new()
        .service("hello", &[flat.addr()])
        .service("helloworld.Greeter", &[greeter.addr()])
        .set("dtab", "\"/svc/deep => /#/io.l5d.fs/http/hello; /svc/greeter => /#/io.l5d.fs/helloworld.Greeter; /svc/typo => /#/io.l5d.fs/helloworld.greeter\"")
        .start();
    weir.get("http://deep/").expect_status(502);
    std::fs::create_dir(weir.folder().path().join("services/http")).unwrap();
    weir.folder().service("http/hello", &[deep.addr()]);
    eventually("the file in the folder below", || weir.get("http://deep/").status == 200);
    weir.get("http://deep/").expect_body("deep");
    weir.get("http://hello/").expect_body("flat");
    weir.get("http://greeter/").expect_body("greeter");
    let typo = weir.get("http://typo/");
    assert!(typo.text().contains("there is helloworld.Greeter, and case matters"), "{}", typo.text());
    std::fs::remove_dir_all(weir.folder().path().join("services/http")).unwrap();
    eventually("its end", || weir.get("http://deep/").status == 502);
}
