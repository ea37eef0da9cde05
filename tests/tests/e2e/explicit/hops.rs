//! Max-Forwards, and the diagnosis of a request by it.

use e2e::{Backend, Request, Weir, message};

fn diagnosing(clients: &str) -> (Weir, Backend) {
    let backend = Backend::http().start();
    let outgoing = format!("{{ listen: 127.0.0.1:0, diagnostics: [{clients}] }}");
    let weir = Weir::new().set("outgoing", &outgoing).service("hello", &[backend.addr()]).start();
    (weir, backend)
}

fn asking(method: &str, left: &str) -> Request {
    Request::new(method, "http://hello/x?y=1").with("Max-Forwards", left).with("l5d-add-context", "true")
}

#[test]
fn a_diagnosis_tells_where_a_request_would_go_and_sends_nothing_there() {
    let (weir, backend) = diagnosing("127.0.0.0/8");
    for method in ["TRACE", "GET", "DELETE"] {
        let answer = weir.ask(&asking(method, "0"));
        answer.expect_status(200);
        let text = answer.text();
        let endpoint = backend.addr().to_string();
        for part in [
            &format!("{method} /x?y=1 from 127.0.0.1"),
            "/svc/hello",
            "/#/io.l5d.fs/hello",
            &endpoint,
            "ready",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }
    assert_eq!(backend.requests().len(), 0);
    assert_eq!(weir.metric("weir_diagnoses_total", &[]), 3.0);
}

#[test]
fn a_diagnosis_sees_the_requests_own_dtab_and_says_why_a_name_is_not_bound() {
    let (weir, _backend) = diagnosing("127.0.0.0/8");
    let moved = asking("TRACE", "0").with("l5d-dtab", "/svc/hello => /svc/nothing");
    let text = weir.ask(&moved).text();
    for part in ["/svc/nothing", "no file is named nothing"] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    weir.ask(&asking("TRACE", "0").with("l5d-dtab", "/svc => ")).expect_status(400);
}

#[test]
fn nobody_gets_a_diagnosis_unless_the_settings_name_them() {
    for clients in ["", "10.0.0.0/8"] {
        let (weir, backend) = diagnosing(clients);
        weir.ask(&asking("GET", "0")).expect_body("ok");
        assert_eq!(backend.only_request().head.get("l5d-add-context"), Some("true"));
        let echo = weir.ask(&asking("TRACE", "0"));
        echo.expect_status(200);
        assert!(!echo.text().contains(&backend.addr().to_string()), "{}", echo.text());
        assert_eq!(weir.metric("weir_diagnoses_total", &[]), 0.0);
    }
}

#[test]
fn without_asking_for_one_there_is_no_diagnosis() {
    let (weir, backend) = diagnosing("127.0.0.0/8");
    weir.ask(&Request::get("http://hello/").with("Max-Forwards", "0")).expect_body("ok");
    weir.ask(&Request::get("http://hello/").with("l5d-add-context", "true")).expect_body("ok");
    weir.ask(&asking("GET", "0").with("Max-Forwards", "0")).expect_body("ok");
    assert_eq!(backend.requests().len(), 3);
}

#[test]
fn a_trace_that_may_not_go_further_is_answered_with_itself_without_its_secrets() {
    let (weir, backend) = diagnosing("");
    let trace = Request::new("TRACE", "http://hello/x").with("Max-Forwards", "0").with("Via", "1.1 outer");
    let secrets = [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Cookie2",
        "Set-Cookie",
        "X-Api-Key",
        "X-Auth-Token",
        "X-Csrf-Token",
        "X-Amz-Security-Token",
        "X-Forwarded-Client-Cert",
        "Referer",
        "X-Mine",
        "l5d-ctx-trace",
    ];
    let answer = weir.ask(&secrets.iter().fold(trace, |trace, name| trace.with(name, "secret")));
    answer.expect_status(200);
    assert_eq!(message::find(&answer.head.fields, "content-type"), Some("message/http"));
    let text = answer.text();
    assert!(text.starts_with("TRACE /x HTTP/1.1\r\n") && text.contains("via: 1.1 outer\r\n"), "{text}");
    assert!(text.contains("host: hello\r\n") && text.contains("max-forwards: 0\r\n"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    for name in secrets {
        assert!(!text.contains(&name.to_lowercase()), "{name} in {text}");
    }
    weir.ask(&Request::new("OPTIONS", "http://hello/").with("Max-Forwards", "0")).expect_body("");
    assert_eq!(backend.requests().len(), 0);
}

#[test]
fn trace_and_options_go_on_with_one_less_and_other_methods_as_they_are() {
    let (weir, backend) = diagnosing("127.0.0.0/8");
    for (method, left) in [("TRACE", "3"), ("OPTIONS", "1"), ("GET", "3"), ("TRACE", "x"), ("TRACE", "+0")] {
        weir.ask(&Request::new(method, "http://hello/").with("Max-Forwards", left)).expect_status(200);
    }
    let passed: Vec<_> = backend
        .requests()
        .iter()
        .map(|it| it.head.get("max-forwards").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(passed, ["2", "0", "3", "x", "+0"]);
}
