//! gRPC: statuses count as outcomes, in trailers as in answers that are a head alone.

use e2e::backend::http2::Reply;
use e2e::{H2Backend, Request, eventually};

use super::of;

fn call() -> Request {
    Request::post("http://hello/a.B/C", [0; 5])
        .with("Content-Type", "application/grpc")
        .with("TE", "trailers")
}

#[test]
fn statuses_that_are_failures_eject_an_endpoint_and_others_do_not() {
    let cases = [
        (2, "unknown", true),
        (4, "deadline_exceeded", true),
        (13, "internal", true),
        (14, "unavailable", true),
        (15, "data_loss", true),
        (0, "ok", false),
        (1, "cancelled", false),
        (5, "not_found", false),
        (8, "resource_exhausted", false),
        (12, "unimplemented", false),
        (77, "other", false),
    ];
    for reply in [Reply::grpc, Reply::trailers_only] {
        for (status, label, fails) in cases {
            let (bad, good) = (
                H2Backend::http2().reply(reply(status)).start(),
                H2Backend::http2().reply(Reply::grpc(0)).start(),
            );
            let weir =
                of(&[&bad, &good]).set("breaker", "{ failures: 1, backoff: { min: 1h, max: 1h } }").start();
            for _ in 0..12 {
                weir.ask(&call()).expect_status(200);
            }
            assert!(bad.begun() > 0, "it was never asked, so this shows nothing");
            eventually("the counts", || {
                let of_bad =
                    weir.metric("weir_grpc_answers_total", &[("service", "/svc/hello"), ("status", label)]);
                of_bad >= bad.begun() as f64
            });
            assert_eq!(weir.is_ejected(bad.addr()), fails, "{label}");
            assert!(!weir.is_ejected(good.addr()));
        }
    }
}

#[test]
fn a_call_whose_answer_ends_without_a_status_is_unknown() {
    let backend =
        H2Backend::http2().reply(Reply::ok([0; 5]).with("content-type", "application/grpc")).start();
    let weir = of(&[&backend]).start();
    weir.ask(&call()).expect_status(200);
    eventually("the count", || weir.metric("weir_grpc_answers_total", &[("status", "unknown")]) == 1.0);
    assert_eq!(weir.metric("weir_attempts_total", &[("outcome", "grpc_failure")]), 1.0);
}
