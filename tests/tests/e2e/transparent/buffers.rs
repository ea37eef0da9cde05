//! What a pod's network namespace says of buffers is the pod's: none of weir's sockets there has them.

use std::io::{Read, Write};

use e2e::sockets::{receive_buffers, send_buffers};
use e2e::{Answer, Backend, Weir};

use super::{Stage, TARGET, V4, address};

/// Not even where they are left to the kernel on the node.
#[test]
fn a_pod_does_not_choose_how_much_the_kernel_buffers_for_weir() {
    for (setting, most) in [("auto", 2 << 20), ("0", 2 << 20), ("96KiB", 192 << 10)] {
        let Some(mut stage) = Stage::set() else { return };
        // What a pod may set for itself (Kubernetes' safe sysctls).
        stage.client.sysctl("net/ipv4/tcp_rmem", "4096 33554432 67108864");
        stage.client.sysctl("net/ipv4/tcp_wmem", "4096 33554432 67108864");
        let hello = e2e::folder::service("hello", &["10.96.0.10"]);
        let hello = hello.port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
        let limits = format!("{{ receiveBuffer: {setting} }}");
        let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello).set("limits", &limits);
        stage.start(builder);
        stage.until_listening(4);
        let backend =
            Backend::http().answer(Answer::stream(1 << 30)).inside(&stage.a).on(stage.a.at(TARGET)).start();
        let mut client = stage.client.connect(address(V4)).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: hello\r\n\r\n").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let pid = stage.weir().pid();
        for (what, (own, others)) in
            [("received", receive_buffers(&stage.client, pid)), ("sent", send_buffers(&stage.client, pid))]
        {
            assert!(own.len() >= 2 && own.iter().all(|it| *it <= most), "{what}, {setting}: {own:?}");
            assert!(others.iter().any(|it| *it >= 33_554_432), "{what}, the pod's own: {others:?}");
        }
        drop(backend);
    }
}
