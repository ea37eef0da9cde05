//! Clients that are slow, random or gone: nothing is held for them, and nothing is held against the backend.

use std::time::Duration;

use e2e::backend::Then;
use e2e::{Answer, Backend, Request, Weir, eventually};

#[test]
fn random_bytes_neither_stop_weir_nor_reach_a_backend() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut random = Random::seeded();
    for _ in 0..200 {
        let length = random.below(600);
        let mut client = weir.client();
        client.send((0..length).map(|_| random.byte()).collect::<Vec<u8>>()).half_close();
        client.rest();
    }
    assert_eq!(backend.connections(), 0, "{:?}", random);
    weir.get("http://hello/").expect_body("ok");
}

#[test]
fn a_valid_request_with_random_damage_does_not_stop_weir() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let whole = Request::new("POST", "http://hello/path?q").with("X-A", "b").chunks(&["abc", "de"]).bytes();
    let mut random = Random::seeded();
    for _ in 0..300 {
        let mut damaged = whole.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(damaged.len());
            damaged[at] = random.byte();
        }
        let mut client = weir.client();
        client.send(damaged).half_close();
        client.rest();
    }
    weir.get("http://hello/").expect_body("ok");
    eventually("nothing in flight", || weir.in_flight() == 0);
}

#[test]
fn a_client_that_vanishes_while_it_waits_leaves_nothing_in_flight() {
    let backend = Backend::http().answer(Answer::raw("").then(Then::Hang)).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for n in 1..=8 {
        let mut client = weir.client();
        client.start(&Request::get("http://hello/"));
        backend.wait_for(n);
        client.vanish();
    }
    eventually("the end of the backend's connections", || backend.open() == 0);
    eventually("nothing in flight", || weir.in_flight() == 0);
    assert_eq!(weir.failures(backend.addr()), 0, "the client's leaving was counted against the backend");
    assert!(!weir.is_ejected(backend.addr()));
}

#[test]
fn a_client_that_vanishes_mid_upload_leaves_nothing_in_flight() {
    let backend = Backend::http().start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for n in 1..=8 {
        let mut client = weir.client();
        client.send("POST http://hello/ HTTP/1.1\r\nHost: hello\r\nContent-Length: 1000\r\n\r\nsome");
        backend.wait_for(n);
        client.vanish();
    }
    eventually("the end of the backend's connections", || backend.open() == 0);
    eventually("nothing in flight", || weir.in_flight() == 0);
    assert!(backend.requests().iter().all(|r| !r.complete), "half an upload became a request");
    assert_eq!(weir.failures(backend.addr()), 0);
}

#[test]
fn a_client_that_vanishes_mid_download_leaves_nothing_in_flight() {
    let backend = Backend::http().answer(Answer::stream(64 << 20)).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    for _ in 0..8 {
        let mut client = weir.client();
        client.start(&Request::get("http://hello/"));
        client.head();
        client.vanish();
    }
    eventually("the end of the backend's connections", || backend.open() == 0);
    eventually("nothing in flight", || weir.in_flight() == 0);
    assert_eq!(weir.failures(backend.addr()), 0);
    assert!(!weir.is_ejected(backend.addr()));
}

#[test]
fn a_client_that_vanishes_from_a_tunnel_ends_it_on_the_other_side() {
    let backend = Backend::http().answer(Answer::upgrade("chat")).start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let mut client = weir.client();
    client.start(&Request::get("http://hello/").with("Connection", "Upgrade").with("Upgrade", "chat"));
    assert_eq!(client.head().status(), Some(101));
    client.send("x").expect("x");
    assert_eq!(weir.in_flight(), 1, "a tunnel is load");
    client.vanish();
    eventually("the end of the backend's connection", || backend.open() == 0);
    eventually("nothing in flight", || weir.in_flight() == 0);
}

#[test]
fn a_thousand_vanishing_clients_leave_no_descriptor_behind() {
    let backend = Backend::http().answer(Answer::ok("late").after(Duration::from_millis(5))).start();
    let weir = Weir::new().set("limits", "{ poolIdle: 200ms }").service("hello", &[backend.addr()]).start();
    weir.get("http://hello/").expect_body("late");
    eventually("the idle connection's end", || backend.open() == 0);
    let before = weir.descriptors();
    for n in 0..1000 {
        let mut client = weir.client();
        let whole = Request::get("http://hello/").bytes();
        client.send(&whole[..whole.len() - n % 40]);
        client.vanish();
    }
    eventually("as many descriptors as before", || weir.descriptors() <= before + 1);
    assert_eq!(weir.failures(backend.addr()), 0);
}

/// A small generator (SplitMix64) whose seed can be set with `WEIR_E2E_SEED` and is shown when a test fails.
#[derive(Debug)]
struct Random {
    #[expect(dead_code, reason = "shown by Debug when a test fails")]
    seed: u64,
    state: u64,
}

impl Random {
    fn seeded() -> Self {
        let given = std::env::var("WEIR_E2E_SEED").ok().and_then(|s| s.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
        println!("WEIR_E2E_SEED={seed}");
        Self { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}
