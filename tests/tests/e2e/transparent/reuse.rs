//! A client that uses its port again before weir has accepted what came from there first.

use std::io::Write;

use super::{Stage, TARGET, V4, address, until_diverted};
use e2e::{Client, Weir, folder, raw};

/// A service beside `hello`.
const OTHER: &str = "10.96.0.11:80";

#[test]
fn what_a_client_sent_before_it_reset_never_reaches_what_it_dialled_next_from_the_same_port() {
    let Some(mut stage) = Stage::set() else { return };
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    let other = folder::service("other", &["10.96.0.11"]).port("http", 80, TARGET).endpoints(&[stage.b.v4()]);
    let builder = Weir::new().on_node(&stage.net).kubernetes(&hello).kubernetes(&other);
    // One port for all, or the two would be two connections.
    let cgroup = stage.net.pods_cgroup();
    let one_port =
        format!("{{ sockets: node, listen: \"[::]:4142\", ports: 1, cgroup: {} }}", cgroup.display());
    stage.start(builder.set("transparent", &one_port).set("limits", "{ connections: 1 }"));
    let [_a, b, _, _] = stage.backends();
    let _direct = stage.direct();
    until_diverted(&stage);
    let diverted = stage.diverted();
    // The one that is served; the others wait until it ends.
    let served = stage.dial(V4);
    let mut first = stage.client.connect_from(45_678, address(V4)).unwrap();
    first.write_all(b"POST /for-hello HTTP/1.1\r\nHost: hello\r\nContent-Length: 0\r\n\r\n").unwrap();
    raw::abort(&first);
    let mut second = Client::over(stage.client.connect_from(45_678, address(OTHER)).unwrap());
    second.send("GET /for-other HTTP/1.1\r\nHost: other\r\n\r\n");
    drop(served);
    second.response().expect_body("b");
    assert_eq!(stage.diverted() - diverted, 3.0, "all were to be diverted");
    let seen = b.only_request();
    assert!(seen.head.start.contains("/for-other"), "{:?}", seen.head);
}
