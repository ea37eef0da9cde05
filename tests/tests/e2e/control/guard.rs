//! What the admin does not answer: names that were made to lead to it, pages of other origins, and strangers that would
//! stop it.

use std::time::Duration;

use e2e::net::NODE_V4;
use e2e::{Backend, Client, Net, Request, Response, Weir};

const SOON: Duration = Duration::from_secs(20);

fn ask(weir: &Weir, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let with = |request: Request, (name, value): &(&str, &str)| request.with(name, value);
    Client::to(weir.admin()).ask(&headers.iter().fold(Request::new(method, path), with))
}

#[test]
fn a_name_that_was_made_to_lead_to_the_admin_learns_nothing_there() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for path in ["/", "/api/state.json", "/api/explain?name=/svc/hello", "/metrics", "/ready", "/nothing"] {
        for host in ["evil.example", "evil.example:9990", "127.0.0.1.evil.example"] {
            let answer = ask(&weir, "GET", path, &[("Host", host)]);
            answer.expect_status(421);
            assert!(!answer.text().contains("hello"), "{path} for {host}: {}", answer.text());
        }
        ask(&weir, "GET", path, &[("Host", "localhost"), ("Origin", "http://evil.example")])
            .expect_status(403);
    }
    let at = weir.admin().to_string();
    ask(&weir, "GET", "/api/state.json", &[("Host", &at)]).expect_status(200);
    ask(&weir, "GET", "/api/state.json", &[("Host", &at), ("Origin", &format!("http://{at}"))])
        .expect_status(200);
    assert_eq!(weir.metric("weir_admin_refused_total", &[("reason", "host")]), 18.0);
    assert_eq!(weir.metric("weir_admin_refused_total", &[("reason", "origin")]), 6.0);
}

#[test]
fn a_foreign_page_does_not_stop_weir_and_an_operator_does() {
    let mut weir = Weir::new().start();
    let at = weir.admin().to_string();
    let foreign: [&[(&str, &str)]; 6] = [
        // What a page's form and its fetch() without a preflight can send.
        &[("Host", &at), ("Origin", "http://evil.example"), ("Content-Type", "text/plain")],
        &[("Host", &at), ("Origin", "null"), ("X-Requested-By", "me")],
        &[("Host", &at), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")],
        &[("Host", "evil.example"), ("X-Requested-By", "me")],
        &[("Host", &at), ("Content-Type", "application/x-www-form-urlencoded")],
        &[("Host", &at), ("X-Requested-By", "me"), ("Authorization", "Bearer guessed")],
    ];
    for path in ["/admin/shutdown", "/admin/drain"] {
        for headers in foreign {
            let status = ask(&weir, "POST", path, headers).status;
            assert!(matches!(status, 401 | 403 | 421), "{status} for {headers:?}");
        }
        // A preflight is not answered as a browser would need it.
        let preflight =
            [("Host", &*at), ("Origin", &*format!("http://{at}")), ("Access-Control-Request-Method", "POST")];
        let answer = ask(&weir, "OPTIONS", path, &preflight);
        assert!(answer.status == 405 && answer.get("access-control-allow-origin").is_none(), "{answer:?}");
    }
    weir.admin_get("/ready").expect_status(200);
    ask(&weir, "POST", "/admin/shutdown", &[("Host", &at), ("X-Requested-By", "me")]).expect_status(202);
    assert!(weir.wait(SOON).success());
    weir.expect_log("asked by the admin API");
}

#[test]
fn from_another_machine_only_the_token_stops_weir() {
    if !e2e::net::is_root() {
        return;
    }
    let mut net = Net::new();
    let pod = net.pod("operator");
    let builder = Weir::new().beside(&net).set("admin", "{ listen: \"[::]:9990\", tokenFile: ./token }");
    std::fs::write(builder.folder().path().join("token"), "s3cret\n").unwrap();
    let mut weir = builder.start();
    let at = format!("{NODE_V4}:9990");
    let ask = |headers: &[(&str, &str)]| {
        let request = Request::new("POST", "/admin/drain").with("Host", &at);
        let request = headers.iter().fold(request, |request, (name, value)| request.with(name, value));
        Client::over(pod.connect(at.parse().unwrap()).unwrap()).ask(&request)
    };
    ask(&[("X-Requested-By", "me")]).expect_status(403);
    let wrong = ask(&[("Authorization", "Bearer s3crets")]);
    wrong.expect_status(401);
    assert_eq!(wrong.get("www-authenticate"), Some("Bearer"));
    weir.admin_get("/ready").expect_status(200);
    ask(&[("Authorization", "Bearer s3cret")]).expect_status(202);
    assert!(weir.wait(SOON).success());
}
