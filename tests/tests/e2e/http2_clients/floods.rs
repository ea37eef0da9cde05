//! Clients that send much to little purpose. Each ends alone.

use e2e::http2::{PREFACE, encode, field};
use e2e::raw::Swallowing;
use e2e::{Answer, Backend, Ended, Frames, Http2, eventually};

use super::{CALM, serving, weir};

/// One flood: its name in the metrics, and the frames it sends.
type Flood = (&'static str, Box<dyn Fn(&mut Frames) + Sync>);

fn repeated(reason: &'static str, n: usize, frame: Vec<u8>) -> Flood {
    let send = move |frames: &mut Frames| {
        frames.send(frame.repeat(n));
    };
    (reason, Box::new(send))
}

/// A request for `/`, with more fields.
fn block(more: &[(&str, &[u8])]) -> Vec<u8> {
    let fields: [(&str, &[u8]); 4] =
        [(":method", b"POST"), (":scheme", b"http"), (":authority", b"hello"), (":path", b"/")];
    fields.iter().chain(more).flat_map(|(name, value)| field(name, value)).collect()
}

fn floods() -> Vec<Flood> {
    let open = |frames: &mut Frames, stream: u32| {
        frames.frame(1, 4, stream, &block(&[]));
    };
    vec![
        repeated("ping", 20_000, encode(6, 0, 0, &[0; 8])),
        repeated("settings", 20_000, encode(4, 0, 0, &[])),
        repeated("settings", 20_000, encode(4, 0, 0, &[0, 4, 0, 0, 255, 255])),
        repeated("priority", 20_000, encode(2, 0, 1, &[0, 0, 0, 0, 16])),
        repeated("window_update", 20_000, encode(8, 0, 0, &[0, 0, 0, 1])),
        repeated("unknown_frame", 20_000, encode(0x10, 0, 0, b"x")),
        (
            "small_data",
            Box::new(move |frames| {
                open(frames, 1);
                frames.send(encode(0, 0, 1, &[]).repeat(20_000));
            }),
        ),
        // CVE-2023-44487: each stream is reset as soon as it is open.
        (
            "reset",
            Box::new(move |frames| {
                for stream in (1..4001).step_by(2) {
                    frames.frame(1, 5, stream, &block(&[])).frame(3, 0, stream, &[0, 0, 0, 8]);
                }
            }),
        ),
        // CVE-2025-8671: weir is made to reset the streams itself, by a window over its limit.
        (
            "stream_errors",
            Box::new(move |frames| {
                for stream in (1..4001).step_by(2) {
                    frames.frame(1, 5, stream, &block(&[])).frame(8, 0, stream, &[0x7f, 255, 255, 255]);
                }
            }),
        ),
        // CVE-2024-27316: a header block without an end.
        (
            "continuation",
            Box::new(move |frames| {
                frames.frame(1, 0, 1, &block(&[]));
                frames.send(encode(9, 0, 1, &[]).repeat(1000));
            }),
        ),
        // An HPACK bomb: one large field, and thousands of references of one byte to it.
        (
            "header_list",
            Box::new(move |frames| {
                let mut bomb = block(&[]);
                // 3,900 bytes: 127, and 3,773 in groups of seven bits (RFC 7541 §5.1).
                bomb.extend([0x40, 1, b'x', 0x7f, 0x80 | 61, 29]);
                bomb.extend(vec![b'y'; 3900]);
                bomb.extend(vec![0xbe; 10_000]);
                frames.frame(1, 5, 1, &bomb);
            }),
        ),
        (
            "small_data",
            Box::new(move |frames| {
                // Its endpoint takes no connection yet, and so none of these bytes.
                let stuck: [(&str, &[u8]); 4] =
                    [(":method", b"POST"), (":scheme", b"http"), (":authority", b"stuck"), (":path", b"/")];
                frames.request(1, &stuck, false).send(encode(0, 0, 1, b"x").repeat(40_000));
            }),
        ),
    ]
}

#[test]
fn each_flood_ends_its_own_connection_is_counted_and_concerns_nobody_else() {
    let backend = Backend::http().answers("ok").start();
    let stuck = Swallowing::new();
    let weir = weir().set("limits", "{ connect: 30s }");
    let weir = weir.service("hello", &[backend.addr()]).service("stuck", &[stuck.addr()]).start();
    let other = Http2::to(weir.outgoing());
    let mut counted = std::collections::BTreeMap::<&str, f64>::new();
    for (reason, flood) in floods() {
        let ended = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                let mut frames = Frames::bare(std::net::TcpStream::connect(weir.outgoing()).unwrap());
                frames.send(PREFACE).frame(4, 0, 0, &[]);
                flood(&mut frames);
                frames.goodbye()
            });
            while !flooding.is_finished() {
                assert_eq!(other.get("http://hello/").text(), "ok", "{reason}");
            }
            flooding.join().unwrap()
        });
        assert_eq!(ended, CALM, "{reason}");
        *counted.entry(reason).or_default() += 1.0;
        let expected = counted[reason];
        eventually(reason, || weir.metric("weir_http2_abuses_total", &[("reason", reason)]) == expected);
        assert_eq!(other.get("http://hello/").text(), "ok", "{reason}");
    }
    eventually("the floods' streams to be over", || weir.metric("weir_http2_open_streams", &[]) == 0.0);
    eventually("their connections, too", || weir.metric("weir_http2_open_connections", &[]) == 1.0);
}

#[test]
fn a_client_that_works_may_send_as_many_frames_as_its_work_needs() {
    let backend = Backend::http().answer(Answer::stream(4_000_000)).start();
    let weir =
        weir().set("limits", "{ http2: { idleFrames: 10 } }").service("hello", &[backend.addr()]).start();
    let mut frames = Frames::to(weir.outgoing());
    frames.get(1, "hello", "/");
    let mut length = 0;
    // Two WINDOW_UPDATEs for each DATA frame, and a PING that measures the round trip.
    while length < 4_000_000 {
        let frame = frames.until(0);
        length += frame.payload.len();
        let n = u32::try_from(frame.payload.len().max(1)).unwrap().to_be_bytes();
        frames.frame(8, 0, 0, &n).frame(8, 0, 1, &n).frame(6, 0, 0, &[0; 8]);
    }
    assert_eq!(weir.metric("weir_http2_abuses_total", &[]), 0.0);
    frames.get(3, "hello", "/");
    assert_eq!(frames.until(1).status(), Some(200));
}

#[test]
fn small_streams_pass_in_thousands() {
    let backend = Backend::http().answers("ok").start();
    let weir = serving("hello", &[backend.addr()]);
    let mut frames = Frames::to(weir.outgoing());
    for round in 0..40 {
        let streams: Vec<u32> = (0..50).map(|at| round * 100 + at * 2 + 1).collect();
        for stream in &streams {
            frames.get(*stream, "hello", "/");
        }
        assert!(frames.all_ended(&streams).iter().all(|it| *it == Ended::Answered(200)), "round {round}");
    }
    assert_eq!(backend.count(), 2000);
}
