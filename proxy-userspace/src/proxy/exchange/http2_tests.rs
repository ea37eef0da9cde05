use super::*;
use crate::proxy::upstream::RequestBody;

type Fields = &'static [(&'static str, &'static str)];

/// The target and the hosts of a request as it goes on.
type Read = Result<(&'static str, &'static [&'static str]), Kind>;

fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request<RequestBody> {
    let mut request = Request::builder().method(method).uri(target).version(Version::HTTP_2);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(RequestBody::Empty).unwrap()
}

fn read(mut request: Request<RequestBody>, origin: Origin) -> Result<Request<RequestBody>, Kind> {
    super::read(&mut request, origin, &Limits::default()).map_err(|fault| fault.kind)?;
    Ok(request)
}

#[test]
fn the_authority_becomes_the_host_and_nothing_else_may_be_one() {
    let cases: [(&str, Fields, Read); 13] = [
        ("http://hello/x?y", &[], Ok(("/x?y", &["hello"]))),
        ("http://hello:8080/", &[("host", "hello:8080")], Ok(("/", &["hello:8080"]))),
        ("http://hello/", &[("host", "HELLO:80")], Ok(("/", &["hello"]))),
        ("http://hello/", &[("host", "hello"), ("host", "hello")], Ok(("/", &["hello"]))),
        ("http://hello/", &[("host", "admin")], Err(Kind::NoHost)),
        ("http://hello/", &[("host", "hello:8080")], Err(Kind::NoHost)),
        ("http://hello/", &[("host", "hello"), ("host", "admin")], Err(Kind::NoHost)),
        ("http://hello/", &[("host", "")], Err(Kind::NoHost)),
        ("http://me@hello/", &[], Err(Kind::BadTarget)),
        ("https://hello/", &[], Err(Kind::BadTarget)),
        ("/x", &[("host", "hello")], Ok(("/x", &["hello"]))),
        ("/x", &[], Ok(("/x", &[]))),
        ("*", &[("host", "hello")], Err(Kind::BadTarget)),
    ];
    for (target, fields, expected) in cases {
        let got = read(request("GET", target, fields), Origin::Explicit);
        let got = got.map(|it| {
            let hosts = it.headers().get_all(HOST).iter().map(|it| it.to_str().unwrap().to_owned());
            (it.uri().to_string(), hosts.collect::<Vec<_>>())
        });
        let expected =
            expected.map(|(uri, hosts)| (uri.to_owned(), hosts.iter().map(|it| (*it).to_owned()).collect()));
        assert_eq!(got, expected, "{target} {fields:?}");
    }
    let whole = read(request("OPTIONS", "*", &[("host", "hello")]), Origin::Explicit).unwrap();
    assert_eq!(whole.uri(), "*");
    let dialled = Origin::Diverted("10.96.0.10:80".parse().unwrap());
    assert_eq!(read(request("GET", "https://hello/x", &[]), dialled).unwrap().uri(), "/x");
}

#[test]
fn cookie_crumbs_are_joined_in_their_order() {
    for (fields, cookie) in [
        (&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")][..], Some("a=1; b=2; c=3")),
        (&[("cookie", "a=1; b=2")], Some("a=1; b=2")),
        (&[], None),
    ] {
        let read = read(request("GET", "http://hello/", fields), Origin::Explicit).unwrap();
        let cookies: Vec<_> = read.headers().get_all(COOKIE).iter().map(|it| it.to_str().unwrap()).collect();
        assert_eq!(cookies, cookie.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn what_would_be_read_in_two_ways_is_refused() {
    let cases: [(Fields, Option<Kind>); 8] = [
        (&[("x", "y z")], None),
        (&[("x", " y")], Some(Kind::BadHead)),
        (&[("x", "y\t")], Some(Kind::BadHead)),
        (&[("content-length", "5"), ("content-length", "5")], None),
        (&[("content-length", "5, 5")], None),
        (&[("content-length", "5"), ("content-length", "6")], Some(Kind::BadBody)),
        (&[("content-length", "+5")], Some(Kind::BadBody)),
        (&[("content-length", "5 ")], Some(Kind::BadHead)),
    ];
    for (fields, kind) in cases {
        let got = read(request("POST", "http://hello/", fields), Origin::Explicit);
        let lengths = got.as_ref().map(|it| it.headers().get_all(CONTENT_LENGTH).iter().count());
        assert!(lengths.is_ok_and(|it| it <= 1) || kind.is_some(), "{fields:?}");
        assert_eq!(got.err(), kind, "{fields:?}");
    }
    let many: Vec<_> = (0..Limits::default().header_count + 1).map(|_| ("x", "y")).collect();
    let got = read(request("GET", "http://hello/", &many), Origin::Explicit);
    assert_eq!(got.err(), Some(Kind::HeadTooLarge));
}

#[test]
fn an_extended_connect_asks_for_an_upgrade_with_a_key_of_its_own() {
    let of = |protocol: &'static str| {
        let mut request = request("CONNECT", "http://hello/chat", &[("sec-websocket-version", "13")]);
        request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
        read(request, Origin::Explicit).map(|it| {
            let field = |name: &str| it.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
            assert_eq!((it.method(), field("connection").as_deref()), (&Method::GET, Some("upgrade")));
            assert_eq!((it.uri().path(), field("host").as_deref()), ("/chat", Some("hello")));
            (field("upgrade").unwrap(), field("sec-websocket-key"))
        })
    };
    let (websocket, key) = of("websocket").unwrap();
    let key = key.unwrap();
    assert_eq!((websocket.as_str(), key.len()), ("websocket", 24));
    assert_eq!(of("connect-udp").unwrap(), ("connect-udp".to_owned(), None));
    assert_eq!(of("a b").err(), Some(Kind::BadHead));
    assert_eq!(of("h2c").err(), Some(Kind::BadHead));
    assert_eq!(of("H2C").err(), Some(Kind::BadHead));
    let plain = read(request("CONNECT", "hello:443", &[]), Origin::Explicit).unwrap();
    assert_eq!((plain.method(), plain.uri().to_string().as_str()), (&Method::CONNECT, "hello:443"));
    assert_eq!(plain.headers()[HOST], "hello:443");
}

#[test]
fn a_connect_of_either_kind_has_no_content() {
    for protocol in [None, Some("websocket"), Some("foo")] {
        for (name, value, kind) in [
            ("content-length", "200", Some(Kind::BadBody)),
            ("content-length", "0200", Some(Kind::BadBody)),
            ("content-length", "0", None),
            ("trailer", "x", None),
            ("expect", "100-continue", None),
        ] {
            let target = if protocol.is_some() { "http://hello/" } else { "hello:80" };
            let mut request = request("CONNECT", target, &[(name, value)]);
            if let Some(protocol) = protocol {
                request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
            }
            let got = read(request, Origin::Explicit);
            assert!(got.as_ref().is_ok_and(|it| !it.headers().contains_key(name)) || kind.is_some());
            assert_eq!(got.err(), kind, "{protocol:?} {name}: {value}");
        }
    }
}

#[test]
fn grpc_is_known_by_its_content_type() {
    for (kind, is) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;x=y", true),
        ("application/grpc-web", false),
        ("application/grpc-web+proto", false),
        ("application/json", false),
    ] {
        assert_eq!(is_grpc(&request("POST", "http://hello/", &[("content-type", kind)])), is, "{kind}");
    }
}
