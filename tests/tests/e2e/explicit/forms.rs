//! How a request looks when it comes and when it goes on: target forms, Host, hop-by-hop fields, Via.

use e2e::{Answer, Backend, Request, Weir};

#[test]
fn an_absolute_target_goes_on_in_origin_form() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    weir.get("http://hello/a%2Fb?x=%20&y=[]").expect_body("ok");
    let head = backend.only_request().head;
    assert_eq!(head.start, "GET /a%2Fb?x=%20&y=[] HTTP/1.1");
    assert_eq!(head.all("host"), ["hello"]);
}

#[test]
fn an_absolute_target_without_a_path_asks_for_the_root() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    weir.get("http://hello").expect_body("ok");
    assert_eq!(backend.only_request().head.target(), "/");
}

#[test]
fn an_absolute_target_without_a_path_keeps_its_query() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    weir.ask(&Request::get("http://hello?q=1").with("Host", "hello")).expect_body("ok");
    assert_eq!(backend.only_request().head.target(), "/?q=1");
}

#[test]
fn an_origin_form_goes_by_its_host() {
    let (hello, other) = (Backend::http().answers("hello").start(), Backend::http().answers("other").start());
    let weir = Weir::new().service("hello", &[hello.addr()]).service("other", &[other.addr()]).start();
    let mut client = weir.client();
    client.ask(&Request::get("/x").with("Host", "hello")).expect_body("hello");
    client.ask(&Request::get("/y").with("Host", "other:80")).expect_body("other");
    assert_eq!(other.only_request().head.start, "GET /y HTTP/1.1");
}

#[test]
fn the_host_of_an_absolute_target_replaces_the_host_field() {
    let (hello, other) = (Backend::http().answers("hello").start(), Backend::http().answers("other").start());
    let weir = Weir::new().service("hello", &[hello.addr()]).service("other", &[other.addr()]).start();
    weir.ask(&Request::get("http://hello/").with("Host", "other")).expect_body("hello");
    assert_eq!(hello.only_request().head.all("host"), ["hello"]);
    assert_eq!(other.connections(), 0);
}

#[test]
fn options_for_the_whole_server_stays_an_asterisk() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    weir.ask(&Request::new("OPTIONS", "*").with("Host", "hello")).expect_body("ok");
    assert_eq!(backend.only_request().head.target(), "*");
}

#[test]
fn options_of_a_url_without_a_path_asks_about_the_whole_server() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for target in ["http://hello", "http://hello/", "http://hello/x", "http://hello:80"] {
        weir.ask(&Request::new("OPTIONS", target)).expect_body("ok");
    }
    weir.ask(&Request::get("http://hello")).expect_body("ok");
    let targets: Vec<_> = backend.requests().iter().map(|it| it.head.target().to_owned()).collect();
    assert_eq!(targets, ["*", "/", "/x", "*", "/"]);
}

#[test]
fn hop_by_hop_fields_of_a_request_end_here() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let request = Request::get("http://hello/")
        .with("Connection", "keep-alive, X-Secret")
        .with("Connection", "x-other")
        .with("X-Secret", "1")
        .with("x-other", "2")
        .with("Keep-Alive", "timeout=5")
        .with("Proxy-Connection", "keep-alive")
        .with("TE", "trailers, deflate")
        .with("X-Kept", "3");
    weir.ask(&request).expect_body("ok");
    let head = backend.only_request().head;
    for gone in ["x-secret", "x-other", "keep-alive", "proxy-connection"] {
        assert_eq!(head.get(gone), None, "{gone} went on: {head:?}");
    }
    assert!(!head.lists("connection", "x-secret") && !head.lists("te", "deflate"), "{head:?}");
    assert_eq!(head.get("x-kept"), Some("3"));
}

#[test]
fn hop_by_hop_fields_of_an_answer_end_here() {
    let answer = Answer::ok("ok")
        .with("Connection", "X-Secret, keep-alive")
        .with("X-Secret", "1")
        .with("Keep-Alive", "timeout=5")
        .with("Proxy-Connection", "keep-alive")
        .with("X-Kept", "3");
    let backend = Backend::http().answer(answer).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let answer = weir.get("http://hello/");
    for gone in ["x-secret", "keep-alive", "proxy-connection"] {
        assert_eq!(answer.get(gone), None, "{gone} came back: {:?}", answer.head);
    }
    assert_eq!(answer.get("x-kept"), Some("3"));
}

#[test]
fn end_to_end_fields_survive_both_ways_in_order() {
    let cookies = Answer::ok("ok").with("Set-Cookie", "a=1").with("Set-Cookie", "b=2").with("ETag", "\"x\"");
    let backend = Backend::http().answer(cookies).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let request = Request::get("http://hello/")
        .with("Accept", "text/html;q=0.5")
        .with("X-List", "1")
        .with("X-List", "2")
        .with("X-Bytes", "caf\u{e9}")
        .with("X-Empty", "")
        .with("Authorization", "Basic eA==");
    let answer = weir.ask(&request);
    assert_eq!(answer.head.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.get("etag"), Some("\"x\""));
    let head = backend.only_request().head;
    assert_eq!(head.all("x-list"), ["1", "2"]);
    assert_eq!((head.get("x-bytes"), head.get("x-empty")), (Some("caf\u{e9}"), Some("")));
    assert_eq!(
        (head.get("accept"), head.get("authorization")),
        (Some("text/html;q=0.5"), Some("Basic eA=="))
    );
}

#[test]
fn via_names_weir_on_the_request_and_on_the_answer() {
    let backend = Backend::http().answer(Answer::ok("ok").with("Via", "1.1 inner")).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let answer = weir.ask(&Request::get("http://hello/").with("Via", "1.0 outer"));
    assert_eq!(hops(&backend.only_request().head.all("via")), ["1.0 outer", "1.1 weir"]);
    assert_eq!(hops(&answer.head.all("via")), ["1.1 inner", "1.1 weir"]);
}

#[test]
fn via_names_the_version_that_each_message_came_in() {
    let old = Backend::http().answer(Answer::ok("ok").http10().closing()).start();
    let weir = Weir::new().service("old", &[old.addr()]).start();
    for (request, on_request) in [("HTTP/1.0", "1.0 weir"), ("HTTP/1.1", "1.1 weir")] {
        let answer = weir
            .client()
            .send(format!("GET / {request}\r\nHost: old\r\nConnection: close\r\n\r\n"))
            .response();
        answer.expect_body("ok");
        assert!(answer.head.start.starts_with("HTTP/1."), "{answer:?}");
        assert_eq!(answer.get("via"), Some("1.0 weir"), "to a request of {request}");
        let received = old.requests().pop().unwrap().head;
        assert_eq!(received.get("via"), Some(on_request));
        assert!(received.start.ends_with("HTTP/1.1"), "{received:?}");
    }
    // weir's own answers came in none.
    let answer = weir.client().send("GET / HTTP/1.0\r\nHost: nobody\r\n\r\n").response();
    assert_eq!((answer.status, answer.get("via")), (502, Some("1.1 weir")));
}

#[test]
fn via_is_left_out_when_the_settings_say_so() {
    let backend = Backend::http().start();
    let outgoing = "{ listen: 127.0.0.1:0, via: false }";
    let weir = Weir::new().set("outgoing", outgoing).service("hello", &[backend.addr()]).start();
    assert_eq!(weir.get("http://hello/").get("via"), None);
    assert_eq!(backend.only_request().head.get("via"), None);
}

#[test]
fn a_backends_answer_is_not_marked_as_weirs_own() {
    let backend = Backend::http().answer(Answer::status(503).with("X-From", "backend")).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let answer = weir.get("http://hello/");
    answer.expect_status(503);
    assert_eq!((answer.get("l5d-err"), answer.get("x-from")), (None, Some("backend")));
}

fn hops<'a>(fields: &[&'a str]) -> Vec<&'a str> {
    fields.iter().flat_map(|v| v.split(',')).map(str::trim).collect()
}
