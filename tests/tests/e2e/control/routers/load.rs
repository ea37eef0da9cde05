//! Routers that are reloaded under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use e2e::load::Reuse;
use e2e::{Http2, Load};

use super::*;

#[test]
fn two_routers_under_load_that_are_reloaded_each_second_fail_no_request() {
    let [mesh, edge] = [free(), free()];
    let at = [mesh, edge].map(|it| it.to_string());
    let backends = ["hello", "v1", "v2"].map(|name| Backend::http().answers(name).start());
    let start = list(&[("mesh", &at[0], MESH), ("edge", &at[1], EDGE)]);
    let mut weir = Weir::new().set("outgoing", &start);
    weir = weir.set("policies", "{ clients: [{ prefix: /, protocol: http1 }] }");
    for (name, backend) in ["hello", "v1", "v2"].iter().zip(&backends) {
        weir = weir.service(name, &[backend.addr()]);
    }
    let weir = weir.start();
    // Connections that are kept, a new one for each request, and streams.
    let new = |at, url| Load::start(2, Reuse::Never, &Request::get(url), move || TcpStream::connect(at));
    let loads = [
        (Load::get(mesh, "http://web/"), "v1"),
        (Load::get(edge, "http://web/hello/x"), "hello"),
        (new(mesh, "http://web/"), "v1"),
        (new(edge, "http://web/hello/x"), "hello"),
    ];
    let streams = [(mesh, "http://web/", "v1"), (edge, "http://web/hello/x", "hello")].map(Streams::begin);
    for (load, _) in &loads {
        load.answered(20);
    }
    for round in 0..8 {
        let (begun, third) = (Instant::now(), ("third", ANY, ", dtab: \"/svc => /#/io.l5d.fs/v1\""));
        // Who may come is another list each time, with the clients in it.
        let allow = [", allow: [127.0.0.0/8]", ", allow: [127.0.0.1/32, 10.0.0.0/8]"][round % 2];
        let [mesh, edge] = [MESH, EDGE].map(|more| format!("{more}, response: {}s{allow}", 100 + round));
        // A third comes and goes, first and last, and the two get new names, each at its address.
        let names = [["mesh", "edge"], ["a", "edge"], ["a", "b"], ["mesh", "b"]][round % 4];
        let (one, other) = ((names[0], &*at[0], &*mesh), (names[1], &*at[1], &*edge));
        let routers = match round % 3 {
            0 => list(&[third, one, other]),
            1 => list(&[other, one]),
            _ => list(&[one, other, third]),
        };
        change(&weir, "outgoing", Some(&routers));
        assert_eq!(waits(&weir), [""; 0]);
        for (load, _) in &loads {
            load.answered(20);
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    for (load, body) in loads {
        let tally = load.stop();
        tally.expect_no_failure();
        assert_eq!(tally.from(body), tally.ok(), "by the other router's rules: {tally:?}");
    }
    for streams in streams {
        assert!(streams.end() > 0);
    }
}

/// Streams of one HTTP/2 connection, one after the other; each has to be answered with this body.
struct Streams {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Streams {
    fn begin((at, url, body): (SocketAddr, &'static str, &'static str)) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let thread = std::thread::spawn(move || {
            let client = Http2::to(at);
            let mut count = 0;
            while !seen.load(Ordering::SeqCst) {
                let answer = client.get(url);
                assert_eq!((answer.status, answer.text().as_str()), (200, body), "{answer:?}");
                count += 1;
            }
            count
        });
        Self { ended, thread }
    }

    /// How many were answered.
    fn end(self) -> usize {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.join().expect("every stream is answered")
    }
}
