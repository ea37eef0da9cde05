//! What a request of HTTP/2 may say (RFC 9113 §8), and what becomes of one that says something else.

use e2e::{Backend, Ended, Frames, Http2, eventually};

use super::{PROTOCOL, serving, weir};

type Fields = &'static [(&'static str, &'static [u8])];

const METHOD: (&str, &[u8]) = (":method", b"GET");
const SCHEME: (&str, &[u8]) = (":scheme", b"http");
const HOST: (&str, &[u8]) = (":authority", b"hello");
const PATH: (&str, &[u8]) = (":path", b"/");

/// How a request with these fields ends.
type Case = (Fields, Ended);

const RESET: Ended = Ended::Reset(PROTOCOL);
const BAD: Ended = Ended::Answered(400);

#[test]
fn pseudo_header_fields_are_complete_first_and_each_there_once() {
    let cases: [Case; 18] = [
        (&[METHOD, SCHEME, HOST, PATH], Ended::Answered(200)),
        (&[METHOD, SCHEME, PATH, ("host", b"hello")], Ended::Answered(200)),
        (&[METHOD, SCHEME, HOST, PATH, ("host", b"hello")], Ended::Answered(200)),
        (&[SCHEME, HOST, PATH], RESET),
        (&[METHOD, HOST, PATH], RESET),
        (&[METHOD, SCHEME, HOST], RESET),
        (&[METHOD, SCHEME, HOST, (":path", b"")], RESET),
        (&[METHOD, METHOD, SCHEME, HOST, PATH], RESET),
        (&[METHOD, SCHEME, HOST, PATH, PATH], RESET),
        (&[METHOD, SCHEME, HOST, PATH, (":status", b"200")], RESET),
        (&[METHOD, SCHEME, HOST, PATH, (":protocol", b"websocket")], RESET),
        (&[METHOD, SCHEME, ("x", b"y"), HOST, PATH], RESET),
        (&[METHOD, SCHEME, PATH], BAD),
        (&[METHOD, SCHEME, HOST, PATH, ("host", b"admin")], BAD),
        (&[METHOD, SCHEME, (":authority", b"me@hello"), PATH], BAD),
        (&[METHOD, (":scheme", b"https"), HOST, PATH], BAD),
        (&[METHOD, SCHEME, HOST, (":path", b"*")], BAD),
        (&[(":method", b"OPTIONS"), SCHEME, HOST, (":path", b"*")], Ended::Answered(200)),
    ];
    check(&cases);
}

#[test]
fn what_belongs_to_one_connection_of_http1_is_no_field_of_http2() {
    let cases: [Case; 9] = [
        (&[METHOD, SCHEME, HOST, PATH, ("connection", b"close")], RESET),
        (&[METHOD, SCHEME, HOST, PATH, ("transfer-encoding", b"chunked")], RESET),
        (&[METHOD, SCHEME, HOST, PATH, ("upgrade", b"h2c")], RESET),
        (&[METHOD, SCHEME, HOST, PATH, ("keep-alive", b"3")], RESET),
        (&[METHOD, SCHEME, HOST, PATH, ("proxy-connection", b"close")], RESET),
        (&[METHOD, SCHEME, HOST, PATH, ("te", b"gzip")], RESET),
        (&[METHOD, SCHEME, HOST, PATH, ("te", b"trailers")], Ended::Answered(200)),
        (&[METHOD, SCHEME, HOST, PATH, ("x", b" y")], BAD),
        (&[METHOD, SCHEME, HOST, PATH, ("content-length", b"1")], RESET),
    ];
    check(&cases);
}

/// Each request is the first of three streams: the others go on, on the same connection.
#[track_caller]
fn check(cases: &[Case]) {
    let backend = Backend::http().answers("ok").start();
    let weir = serving("hello", &[backend.addr()]);
    for (fields, expected) in cases {
        let mut frames = Frames::to(weir.outgoing());
        let shown: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
            .collect();
        frames.request(1, fields, true).get(3, "hello", "/");
        assert_eq!(frames.all_ended(&[1, 3]), [*expected, Ended::Answered(200)], "{shown:?}");
    }
}

#[test]
fn a_value_that_is_none_never_reaches_an_endpoint() {
    let backend = Backend::http().answers("ok").start();
    let weir = serving("hello", &[backend.addr()]);
    let values: [(&str, &[u8]); 7] = [
        ("x", b"a\r\nb: c"),
        ("x", b"a\nb"),
        ("x", b"a\rb"),
        ("x", b"a\0b"),
        ("X", b"a"),
        ("x y", b"a"),
        ("", b"a"),
    ];
    for field in values {
        let mut frames = Frames::to(weir.outgoing());
        frames.request(1, &[METHOD, SCHEME, HOST, PATH, field], true);
        // The whole block is an error of its compression for the codec, and so the connection's.
        assert_eq!(frames.ended(1), Ended::GoAway(PROTOCOL), "{field:?}");
    }
    assert_eq!(backend.count(), 0);
    let code = [("direction", "sent"), ("code", "PROTOCOL_ERROR")];
    eventually("each to be counted", || weir.metric("weir_http2_goaways_total", &code) == 7.0);
    assert_eq!(Http2::to(weir.outgoing()).get("http://hello/").text(), "ok");
}

#[test]
fn heads_have_their_bounds() {
    let backend = Backend::http().answers("ok").start();
    let weir = weir().set("limits", "{ headerBytes: 8KiB, headerCount: 20, targetBytes: 1KiB }");
    let weir = weir.service("hello", &[backend.addr()]).start();
    let mut frames = Frames::to(weir.outgoing());
    let long = vec![b'a'; 9000];
    let path = [b"/".as_slice(), &long[..1500]].concat();
    let many: Vec<(&str, &[u8])> =
        [METHOD, SCHEME, HOST, PATH].into_iter().chain((0..21).map(|_| ("x", b"y".as_slice()))).collect();
    frames.request(1, &[METHOD, SCHEME, HOST, PATH, ("x", &long)], true);
    assert_eq!(frames.ended(1), Ended::Answered(431));
    frames.request(3, &[METHOD, SCHEME, HOST, (":path", &path)], true);
    assert_eq!(frames.ended(3), Ended::Answered(414));
    frames.request(5, &many, true);
    assert_eq!(frames.ended(5), Ended::Answered(431));
    frames.get(7, "hello", "/");
    assert_eq!(frames.ended(7), Ended::Answered(200));
}

#[test]
fn frames_that_are_none_end_their_connection_with_the_codes_of_the_rfc() {
    let backend = Backend::http().answers("ok").start();
    let weir = serving("hello", &[backend.addr()]);
    let other = Http2::to(weir.outgoing());
    let cases: [(&str, Vec<u8>, Ended); 12] = [
        ("a frame over the limit", frame(0, 0, 1, &[0; 16_385]), Ended::GoAway(6)),
        ("PING of 7 bytes", frame(6, 0, 0, &[0; 7]), Ended::GoAway(1)),
        ("PING on a stream", frame(6, 0, 1, &[0; 8]), Ended::GoAway(1)),
        ("SETTINGS of 5 bytes", frame(4, 0, 0, &[0; 5]), Ended::GoAway(1)),
        ("SETTINGS on a stream", frame(4, 0, 1, &[]), Ended::GoAway(1)),
        ("WINDOW_UPDATE of 0", frame(8, 0, 0, &[0; 4]), Ended::GoAway(1)),
        ("a window over its limit", frame(8, 0, 0, &[0x7f, 255, 255, 255]), Ended::GoAway(3)),
        ("DATA on no stream", frame(0, 0, 0, b"x"), Ended::GoAway(1)),
        ("DATA on an idle stream", frame(0, 0, 1, b"x"), Ended::GoAway(1)),
        ("RST_STREAM of an idle stream", frame(3, 0, 1, &[0; 4]), Ended::GoAway(1)),
        ("CONTINUATION alone", frame(9, 4, 1, &[]), Ended::GoAway(1)),
        ("a stream with an even number", frame(1, 5, 2, &[0x82, 0x86, 0x84]), Ended::GoAway(1)),
    ];
    for (name, bytes, expected) in cases {
        let mut frames = Frames::to(weir.outgoing());
        frames.send(bytes);
        assert_eq!(frames.goodbye(), expected, "{name}");
        assert_eq!(other.get("http://hello/").text(), "ok", "{name}");
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    e2e::http2::encode(kind, flags, stream, payload)
}
