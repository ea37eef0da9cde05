//! While one weir follows another, neither diverts the other's connections to endpoints.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use e2e::net::Net;
use e2e::{Client, Pod, Request, Weir, eventually, folder};
use nix::sys::signal::Signal;

use super::{PROXY, ends, follows};
use crate::transparent::TARGET;

/// An endpoint that reads a request, says so, and closes without an answer once it is told to; then it answers the next one.
fn forgetful(listener: TcpListener) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((read, has_read), (close, closes)) = (mpsc::channel(), mpsc::channel());
    std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        assert_ne!(first.read(&mut [0; 4096]).unwrap(), 0);
        read.send(()).unwrap();
        closes.recv().unwrap();
        drop(first);
        let (mut second, _) = listener.accept().unwrap();
        assert_ne!(second.read(&mut [0; 4096]).unwrap(), 0);
        second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain").unwrap();
        // Until weir closes.
        let _ = second.read(&mut [0; 1]);
    });
    (has_read, close)
}

/// A weir in a pod of its own, which diverts every process below the pods' cgroup, those of the node's network included, also
/// on the way to the endpoint.
fn weir(net: &mut Net, endpoint: &Pod, number: u32) -> Weir {
    let uid = format!("0b7f1c1e-0000-4000-8000-{number:012}");
    let pod = net.host_pod(&format!("burstable/pod{uid}"));
    let hello =
        folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[endpoint.v4()]);
    let transparent = format!(
        "{{ sockets: node, cgroup: {}, addresses: [10.1.0.1], host: true, divert: [{}/32] }}",
        net.pods_cgroup().display(),
        endpoint.v4()
    );
    let builder = follows(Weir::new().inside(&pod).kubernetes(&hello), net).env("POD_UID", &uid);
    builder.set("outgoing", "{ listen: \"[::]:4140\" }").set("transparent", &transparent).start()
}

#[test]
fn connections_of_a_weir_that_drains_are_not_diverted_to_the_one_that_follows_it() {
    if !e2e::net::is_root() {
        return;
    }
    let mut net = Net::new();
    let (endpoint, client) = (net.pod("endpoint"), net.pod("client"));
    let (has_read, close) = forgetful(endpoint.listen(endpoint.at(TARGET)).unwrap());
    let old = weir(&mut net, &endpoint, 1);
    eventually("its services", || old.admin_get("/ready").status == 200);
    let mut asking = Client::over(client.connect(PROXY.parse().unwrap()).unwrap());
    asking.start(&Request::get("http://hello/"));
    has_read.recv().unwrap();
    assert!(old.decisions("direct_own") >= 1.0 && old.accepted("transparent") == 0.0);

    let next = weir(&mut net, &endpoint, 2);
    next.expect_log("serving in place of the weir before this one");
    old.expect_log("the next weir serves");
    // The old one has to connect once more, where the next one's programs divert.
    close.send(()).unwrap();
    assert_eq!(asking.response().text(), "again");
    assert!(next.decisions("direct_own") >= 1.0);
    assert_eq!(next.accepted("transparent"), 0.0);
    old.signal(Signal::SIGTERM);
    ends(old);
}
