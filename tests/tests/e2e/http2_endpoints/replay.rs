//! What an endpoint did not process is sent to another one, and nothing else is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::backend::http2::Reply;
use e2e::backend::http2::frames::{Does, Frame, FrameServer, kind};
use e2e::load::Load;
use e2e::{H2Backend, Request};

use super::{asking, of};

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

/// What a server does when the head of a request has come on this stream.
type Says = fn(u32) -> Vec<Does>;

/// A server that answers the head of each request with what `says`, given its stream.
fn says(says: Says) -> FrameServer {
    FrameServer::start(true, move |frame| match frame.kind {
        kind::HEADERS => says(frame.stream),
        _ => Vec::new(),
    })
}

fn patient() -> H2Backend {
    H2Backend::http2().reply(Reply::ok("ok").after(Duration::from_millis(5))).start()
}

#[test]
fn a_stream_that_the_endpoint_did_not_process_goes_to_another() {
    let cases: [(&str, Says); 4] = [
        ("refused", |stream| vec![Does::Sends(Frame::reset(stream, REFUSED_STREAM))]),
        ("goaway", |_| vec![Does::Sends(Frame::goaway(0, NO_ERROR))]),
        ("goaway and close", |_| vec![Does::Sends(Frame::goaway(0, NO_ERROR)), Does::Closes]),
        ("goaway for an error", |_| vec![Does::Sends(Frame::goaway(0, INTERNAL_ERROR)), Does::Closes]),
    ];
    for (name, script) in cases {
        let (bad, good) = (says(script), patient());
        let weir = asking(&[bad.addr(), good.addr()]).set("breaker", "{ failures: 1000 }").start();
        for n in 0..20 {
            let body = format!("call {n}");
            weir.ask(&Request::post("http://hello/", body.as_str())).expect_body("ok");
            assert_eq!(good.requests()[n].body, body.as_bytes(), "{name}");
        }
        assert!(bad.heads() > 0, "{name}: it was never asked, so this shows nothing");
        assert_eq!(good.requests().len(), 20, "{name}");
    }
}

#[test]
fn a_body_is_sent_again_whole_with_its_trailers() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = arrived.clone();
    // Refused at its end: all of it was taken before.
    let refuses = move |_: &e2e::backend::http2::Arrived| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::reset(REFUSED_STREAM)
    };
    let (bad, good) = (H2Backend::http2().script(refuses).start(), patient());
    let weir = of(&[&bad, &good]).start();
    let (long, request) = ("x".repeat(20_000), Request::new("POST", "http://hello/"));
    let chunks = ["a", &long, "b", &long, "c"];
    let request = request.chunks(&chunks).trailer("x-sum", "3");
    for n in 0..20 {
        weir.ask(&request).expect_body("ok");
        let came = good.requests()[n].clone();
        assert_eq!((came.body.len(), came.body == chunks.concat().into_bytes()), (40_003, true));
        assert_eq!(came.trailers, [("x-sum".to_owned(), "3".to_owned())]);
    }
    assert!(arrived.load(Ordering::SeqCst) > 0, "it was never asked, so this shows nothing");
    assert!(weir.metric("weir_http2_replays_total", &[]) > 0.0);
    assert_eq!(weir.metric("weir_http2_replay_bytes", &[]), 0.0);
}

#[test]
fn a_body_of_which_too_much_was_sent_is_not_sent_again() {
    let refuses = || H2Backend::http2().window(1 << 20).reply(Reply::reset(REFUSED_STREAM)).start();
    for (keys, status) in
        [("{}", 502), ("{ replayBytes: 200KiB }", 200), ("{ replayBytes: 1MiB, replayTotal: 1KiB }", 502)]
    {
        let (bad, good) = (refuses(), patient());
        let weir = of(&[&bad, &good]).set("limits", &format!("{{ http2Endpoints: {keys} }}")).start();
        let request = Request::post("http://hello/", "x".repeat(100_000));
        let answers: Vec<_> = (0..8).map(|_| weir.ask(&request)).collect();
        assert!(bad.begun() > 0, "it was never asked, so this shows nothing");
        let failed = answers.iter().filter(|it| it.status != 200);
        match status {
            200 => assert_eq!(failed.count(), 0, "{keys}"),
            _ => failed.for_each(|it| {
                it.expect_status(502);
                assert!(
                    it.l5d_err().contains("did%20not") || it.l5d_err().contains("kept"),
                    "{}",
                    it.l5d_err()
                );
            }),
        }
        let bound = weir.metric("weir_http2_replays_not_kept_total", &[]);
        assert_eq!(bound > 0.0, keys.contains("replayTotal"), "{keys}");
    }
}

#[test]
fn what_may_have_been_processed_is_sent_once() {
    let cases: [(&str, Says); 4] = [
        ("reset", |stream| vec![Does::Sends(Frame::reset(stream, INTERNAL_ERROR))]),
        ("close", |_| vec![Does::Closes]),
        ("goaway that has it", |stream| vec![Does::Sends(Frame::goaway(stream, NO_ERROR)), Does::Closes]),
        ("cancel", |stream| vec![Does::Sends(Frame::reset(stream, 8))]),
    ];
    for (name, script) in cases {
        let [one, other] = [says(script), says(script)];
        let weir = asking(&[one.addr(), other.addr()]).start();
        let sent = || one.heads() + other.heads();
        weir.ask(&Request::post("http://hello/", "x")).expect_status(502);
        assert_eq!(sent(), 1, "{name}: POST");
        weir.get("http://hello/").expect_status(502);
        assert_eq!(sent(), 3, "{name}: GET is idempotent, and may go to one more");
    }
}

#[test]
fn a_rolling_restart_fails_no_request() {
    let mut backends =
        [(); 3].map(|()| H2Backend::http2().reply(Reply::ok("ok").after(Duration::from_millis(3))).start());
    let weir = of(&[&backends[0], &backends[1], &backends[2]]).start();
    let proxy = weir.outgoing();
    let request = Request::post("http://hello/", "a call");
    let load = Load::paced(8, 300, &request, move || std::net::TcpStream::connect(proxy));
    load.answered(100);
    for backend in &mut backends {
        backend.stop_gracefully();
        load.answered(60);
        backend.restart();
        load.answered(60);
    }
    load.stop().expect_no_failure();
    assert!(backends.iter().all(|it| it.connections() > 1), "each was asked again");
}
