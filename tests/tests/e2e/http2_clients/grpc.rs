//! What a client of gRPC is told when weir itself fails its call: a trailers-only answer.

use e2e::backend::Then;
use e2e::raw::Refusing;
use e2e::{Answer, Backend, Http2};
use hyper::Request;

use super::weir;

#[test]
fn weirs_own_failures_have_a_status_of_grpc() {
    let slow = Backend::http().answer(Answer::raw("").then(Then::Hang)).start();
    let refusing = Refusing::new();
    let weir = weir().set("limits", "{ response: 500ms, attempts: 1, connectTotal: 1s }");
    let weir = weir
        .service("slow", &[slow.addr()])
        .service("refusing", &[refusing.addr()])
        .service("empty", &[])
        .start();
    let client = Http2::to(weir.outgoing());
    for (host, status, says) in [
        ("slow", "4", "did%20not%20answer"),
        ("refusing", "14", "refused"),
        ("empty", "14", "empty"),
        ("nobody", "14", "nobody"),
        ("127.0.0.1:1", "7", "127.0.0.1"),
    ] {
        let call = Request::post(format!("http://{host}/hello.Greeter/Hello"));
        let call = call.header("content-type", "application/grpc+proto").header("te", "trailers");
        let answer = client.ask(call.body(()).unwrap(), Some(b"\0\0\0\0\0"));
        assert_eq!((answer.status, answer.body.len(), answer.reset), (200, 0, None), "{host}: {answer:?}");
        assert_eq!(
            (answer.get("grpc-status"), answer.get("content-type")),
            (Some(status), Some("application/grpc"))
        );
        let message = answer.get("grpc-message").unwrap();
        assert!(message.contains(says) && answer.get("l5d-err") == Some(message), "{host}: {message}");
    }
    // Another client gets the status of HTTP.
    let plain = client.get("http://empty/");
    assert_eq!((plain.status, plain.get("grpc-status")), (503, None));
    assert!(plain.get("l5d-err").is_some() && plain.get("connection").is_none(), "{plain:?}");
    assert_eq!(plain.get("content-length").map(str::to_owned), Some(plain.body.len().to_string()));
}
