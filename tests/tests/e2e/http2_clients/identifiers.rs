//! linkerd's identifiers, for streams of HTTP/2.

use e2e::http2::Answered;
use e2e::{Backend, Http2, Weir};
use hyper::Request;

use super::weir;

/// Two backends, and a router whose names are made by `identifier` and lead to `/svc/…` as `dtab` says, where `ONE` and
/// `TWO` are the backends.
struct Stage {
    weir: Weir,
    _backends: [Backend; 2],
}

impl Stage {
    #[track_caller]
    fn new(identifier: &str, dtab: &str) -> Self {
        let backends = ["one", "two"].map(|name| Backend::http().answers(name).start());
        let [one, two] = ["/#/io.l5d.fs/one", "/#/io.l5d.fs/two"];
        let dtab = dtab.replace("ONE", one).replace("TWO", two);
        let outgoing = format!("{{ listen: 127.0.0.1:0, identifier: {identifier}, baseDtab: \"{dtab}\" }}");
        let weir = weir().set("outgoing", &outgoing).service("one", &[backends[0].addr()]);
        let weir = weir.service("two", &[backends[1].addr()]).start();
        Self { weir, _backends: backends }
    }

    fn ask(&self, url: &str, fields: &[(&str, &str)]) -> Answered {
        let request = fields.iter().fold(Request::get(url), |it, (name, value)| it.header(*name, *value));
        Http2::to(self.weir.outgoing()).ask(request.body(()).unwrap(), None)
    }

    /// Who answers, or the status.
    fn at(&self, url: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.ask(url, fields);
        if answer.status == 200 { answer.text() } else { answer.status.to_string() }
    }
}

#[test]
fn a_header_path_is_the_first_segments_of_the_path_of_a_stream() {
    let two = "{ kind: io.l5d.header.path, segments: 2 }";
    let stage =
        Stage::new(two, "/svc/helloworld.Greeter/SayHello => ONE ; /svc/helloworld.Greeter/SayBye => TWO");
    for (path, expected) in [
        ("/helloworld.Greeter/SayHello", "one"),
        ("/helloworld.Greeter/SayBye?x=/y", "two"),
        ("/helloworld.Greeter/SayBye/", "two"),
        ("/helloworld.Greeter/SayBye/more//", "two"),
        ("/helloworld.Greeter/Other", "502"),
        ("/helloworld.Greeter", "400"),
        ("/helloworld.Greeter/", "400"),
        ("//SayHello", "400"),
        ("/", "400"),
    ] {
        assert_eq!(stage.at(&format!("http://any{path}"), &[]), expected, "{path}");
    }
    let one = Stage::new("{ kind: io.l5d.header.path, segments: 1 }", "/svc/a => ONE");
    assert_eq!(one.at("http://any/a/b/c", &[]), "one");
    let all = Stage::new("{ kind: io.l5d.header.path }", "/svc => TWO ; /svc/a/b/c => ONE");
    for (path, expected) in
        [("/a/b/c", "one"), ("/a/b/c/?d", "one"), ("/x", "two"), ("/", "400"), ("/a//b", "400")]
    {
        assert_eq!(all.at(&format!("http://any{path}"), &[]), expected, "{path}");
    }
}

#[test]
fn a_header_path_may_be_in_another_header_of_a_stream() {
    let stage = Stage::new(
        "{ kind: io.l5d.header.path, header: X-Path, segments: 1 }",
        "/svc/a => ONE ; /svc/b => TWO",
    );
    for (fields, expected) in [
        (&[("x-path", "/a/x?y")][..], "one"),
        (&[("x-path", "/a"), ("x-path", "/b")], "two"),
        (&[("x-path", "")], "400"),
        (&[], "400"),
    ] {
        assert_eq!(stage.at("http://any/c", fields), expected, "{fields:?}");
    }
    let bad = stage.ask("http://any/c", &[("x-path", "a")]);
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("does not begin with a slash"), "{bad:?}");
}

#[test]
fn a_header_token_of_a_stream_is_its_authority_or_the_last_of_a_header() {
    for identifier in
        ["{ kind: io.l5d.header.token }", "{ kind: io.l5d.header.token, header: \":authority\" }"]
    {
        let stage = Stage::new(identifier, "/svc/Hello:8080 => ONE ; /svc/hello => TWO");
        assert_eq!(stage.at("http://Hello:8080/", &[]), "one", "{identifier}");
        assert_eq!(stage.at("http://hello/", &[]), "two", "{identifier}");
    }
    let stage =
        Stage::new("{ kind: io.l5d.header.token, header: x-service }", "/svc/a => ONE ; /svc/b => TWO");
    for (fields, expected) in
        [(&[("x-service", "a")][..], "one"), (&[("x-service", "a"), ("x-service", "b")], "two"), (&[], "400")]
    {
        assert_eq!(stage.at("http://any/", fields), expected, "{fields:?}");
    }
}

#[test]
fn each_other_identifier_reads_a_stream_as_a_request_of_http1() {
    for (identifier, dtab, url, fields) in [
        ("{ kind: io.l5d.header }", "/svc/a/b => ONE", "http://any/", &[("l5d-name", "/a/b")][..]),
        ("{ kind: io.l5d.path, segments: 2, consume: true }", "/svc/a/b => ONE", "http://any/a/b/c", &[]),
        ("{ kind: io.l5d.static, path: /a }", "/svc/a => ONE", "http://any/x", &[]),
        ("{ kind: io.l5d.methodAndHost }", "/svc/1.1/GET/hello:8080 => ONE", "http://Hello:8080/x", &[]),
        ("{ kind: weir.host }", "/svc/hello => ONE", "http://Hello.default:80/", &[]),
        (
            "[{ kind: io.l5d.header.path, segments: 2 }, { kind: io.l5d.header.token }]",
            "/svc/hello => ONE",
            "http://hello/x",
            &[],
        ),
    ] {
        assert_eq!(Stage::new(identifier, dtab).at(url, fields), "one", "{identifier}");
    }
}
