use super::*;
use proptest::prelude::*;

#[track_caller]
fn check(bytes: impl AsRef<[u8]>, expected: Sniffed) {
    let bytes = bytes.as_ref();
    assert_eq!(sniff(bytes), expected, "{:?}", bytes.escape_ascii().to_string());
}

#[test]
fn silence_decides_nothing() {
    check("", Sniffed::Undecided);
}

#[test]
fn a_request_line_of_any_method_is_http1() {
    check("GET / HTTP/1.1\r\n", Sniffed::Http1);
    check("GET / HTTP/1.1\r", Sniffed::Http1);
    check("GET / HTTP/1.0\n", Sniffed::Http1);
    check("GET http://hello/a?b=c HTTP/1.1\r\nHost: hello\r\n\r\n", Sniffed::Http1);
    check("CONNECT hello:443 HTTP/1.1\r\n", Sniffed::Http1);
    check("OPTIONS * HTTP/1.1\r\n", Sniffed::Http1);
    check("UPDATEREDIRECTREF /x HTTP/1.1\r\n", Sniffed::Http1);
    check("brew /pot HTTP/1.1\r\n", Sniffed::Http1);
    check("PRI /not-the-preface HTTP/1.1\r\n", Sniffed::Http1);
    check("PRI * HTTP/1.1\r\n", Sniffed::Http1);
    check("\r\nGET / HTTP/1.1\r\n", Sniffed::Http1);
    check("GET /gr\u{fc}\u{df}e HTTP/1.1\r\n", Sniffed::Http1);
}

#[test]
fn an_unfinished_request_line_is_undecided() {
    let line = "GET /index.html HTTP/1.1";
    for end in 0..=line.len() {
        check(&line[..end], Sniffed::Undecided);
    }
    check("\r", Sniffed::Undecided);
    check("\r\n", Sniffed::Undecided);
}

#[test]
fn the_preface_is_http2_and_only_whole() {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for end in 0..preface.len() {
        check(&preface[..end], Sniffed::Undecided);
    }
    check(preface, Sniffed::Http2);
    check([preface.as_bytes(), b"\0\0\0\x04\0\0\0\0\0"].concat(), Sniffed::Http2);
    check("PRI * HTTP/2.0\r\nHost: hello\r\n", Sniffed::Opaque);
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", Sniffed::Opaque);
}

#[test]
fn a_client_hello_is_tls() {
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    for end in 0..6 {
        check(&hello[..end], Sniffed::Undecided);
    }
    for end in 6..=hello.len() {
        check(&hello[..end], Sniffed::Tls);
    }
    check([0x16, 0x03, 0x04, 0x40, 0x00, 0x01], Sniffed::Tls);
}

#[test]
fn what_only_resembles_a_client_hello_is_opaque() {
    check([0x16, 0x02], Sniffed::Opaque);
    check([0x16, 0x03, 0x05], Sniffed::Opaque);
    check([0x16, 0x03, 0x01, 0x41], Sniffed::Opaque);
    check([0x16, 0x03, 0x01, 0x40, 0x01], Sniffed::Opaque);
    check([0x16, 0x03, 0x01, 0x00, 0x00], Sniffed::Opaque);
    check([0x16, 0x03, 0x01, 0x02, 0x00, 0x02], Sniffed::Opaque);
    check([0x15, 0x03, 0x01, 0x00, 0x02, 0x01], Sniffed::Opaque);
}

#[test]
fn other_protocols_are_opaque() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"*3\r\n$3\r\nSET\r\n",
        b"PING\r\n",
        b"get key\r\n",
        b"set key 0 0 5\r\nhello\r\n",
        b"CONNECT {\"verbose\":false}\r\n",
        b"CONNECT\naccept-version:1.2\n\n\0",
        b"EHLO example.com\r\n",
        b"OPTIONS rtsp://example.com/media RTSP/1.0\r\n",
        b"INVITE sip:bob@example.com SIP/2.0\r\n",
        b"OPTIONS icap://example.com/mod ICAP/1.0\r\n",
        b"NICK weir\r\nUSER weir 0 * :weir\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\x10\x1a\x00\x04MQTT",
        b"AMQP\0\0\x09\x01",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 80\r\n",
        b"\x80\x2e\x01\x03\x01",
    ] {
        check(bytes, Sniffed::Opaque);
    }
}

#[test]
fn bad_request_lines_are_opaque() {
    for line in [
        "GET /\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET / HTTP/1.11\r\n",
        "GET / HTTP/1.x\r\n",
        "GET / HTTP/2.0\r\n",
        "GET / http/1.1\r\n",
        "GET\t/ HTTP/1.1\r\n",
        "GET /a\tb HTTP/1.1\r\n",
        "G(T / HTTP/1.1\r\n",
        " GET / HTTP/1.1\r\n",
        "\r\rGET / HTTP/1.1\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n",
    ] {
        check(line, Sniffed::Opaque);
    }
}

#[test]
fn a_method_has_a_longest_length() {
    check("M".repeat(METHOD_MAX), Sniffed::Undecided);
    check("M".repeat(METHOD_MAX + 1), Sniffed::Opaque);
    check("M".repeat(METHOD_MAX) + " / HTTP/1.1\r\n", Sniffed::Http1);
    check("M".repeat(METHOD_MAX + 1) + " / HTTP/1.1\r\n", Sniffed::Opaque);
}

#[test]
fn a_request_line_of_8000_octets_is_recognised_and_an_endless_one_is_opaque() {
    let target = "/".repeat(8000 - "GET  HTTP/1.1".len());
    check(format!("GET {target} HTTP/1.1\r\n"), Sniffed::Http1);
    let endless = format!("GET {}", "/".repeat(SNIFF_MAX));
    check(&endless[..SNIFF_MAX - 1], Sniffed::Undecided);
    check(&endless[..SNIFF_MAX], Sniffed::Opaque);
    check(&endless, Sniffed::Opaque);
}

/// Bytes that start like one of the protocols and then differ.
fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        &b""[..],
        b"\r\n",
        b"GET ",
        b"GET / HTTP/1.",
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        b"\x16\x03\x01",
        b"\x16\x03\x01\x02\x00\x01",
    ]);
    let tail = prop::collection::vec(
        prop_oneof![any::<u8>(), prop::sample::select(b" \r\n/AHTP1.02\x16\x03\x01".to_vec())],
        0..64,
    );
    (start, tail).prop_map(|(start, tail)| [start, &tail].concat())
}

proptest! {
    #[test]
    fn once_decided_more_bytes_change_nothing(bytes in beginnings()) {
        let decisions = (0..=bytes.len()).map(|end| sniff(&bytes[..end]));
        let decided: Vec<_> = decisions.skip_while(|&d| d == Sniffed::Undecided).collect();
        prop_assert!(decided.windows(2).all(|pair| pair[0] == pair[1]), "{decided:?}");
    }

    #[test]
    fn everything_is_decided_within_the_bound(bytes in beginnings(), filler in any::<u8>()) {
        let mut bytes = bytes;
        bytes.resize(SNIFF_MAX, filler);
        prop_assert_ne!(sniff(&bytes), Sniffed::Undecided);
    }

    #[test]
    fn http1_means_a_line_of_three_words_ending_in_the_version(bytes in beginnings()) {
        if sniff(&bytes) == Sniffed::Http1 {
            let line = bytes.strip_prefix(b"\r\n").unwrap_or(&bytes);
            let line = line.split(|&b| b == b'\r' || b == b'\n').next().unwrap();
            let words: Vec<_> = line.split(|&b| b == b' ').collect();
            prop_assert_eq!(words.len(), 3);
            prop_assert!(words.iter().all(|word| !word.is_empty()));
            prop_assert!(words[2].starts_with(b"HTTP/1.") && words[2].len() == 8);
        }
    }

    #[test]
    fn every_well_formed_request_line_is_http1(
        method in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}",
        target in "[!-~]{1,300}",
        minor in 0..=9u8,
    ) {
        let line = format!("{method} {target} HTTP/1.{minor}\r\n");
        prop_assert_eq!(sniff(line.as_bytes()), Sniffed::Http1);
    }
}
