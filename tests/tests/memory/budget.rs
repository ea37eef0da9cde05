//! One memory budget: what is idle or slow is closed, and who holds more than a share gets nothing new.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use e2e::raw::TcpServer;
use e2e::{Answer, Backend, Weir, eventually, raw};
use socket2::SockRef;

use super::{Attack, Attacker, Over, feed, limited, more_descriptors, victim_during};

/// How long an attack lasts.
const SPAN: Duration = Duration::from_secs(4);

/// Ends the test where the attack was felt by others.
#[track_caller]
fn assert_unfelt(weir: &mut Weir, (asked, failed): (usize, Vec<String>)) {
    assert!(!weir.has_ended(), "weir was killed; its victim asked {asked} times: {failed:?}");
    assert!(failed.is_empty(), "{} of {asked} failed: {failed:?}", failed.len());
    assert!(asked > 1, "the victim was served too late to tell");
    let (used, budget) =
        (weir.metric("weir_memory_used_bytes", &[]), weir.metric("weir_memory_budget_bytes", &[]));
    assert!(used < budget, "{used} of {budget}");
}

/// Ends the test where the attack had any other effect than on the attacker.
#[track_caller]
pub(super) fn assert_harmless(weir: &mut Weir, told: (usize, Vec<String>)) {
    assert_unfelt(weir, told);
    assert!(is_resisted(weir), "the attack was none");
    weir.expect_log("gets nothing new");
    eventually("the level to fall", || weir.metric("weir_memory_level", &[]) < 2.0);
}

/// Whether weir has closed or refused something for memory's sake.
pub(super) fn is_resisted(weir: &Weir) -> bool {
    let shed: f64 = ["idle", "head", "tunnel", "exchange"].map(|kind| shed(weir, kind)).iter().sum();
    let refused: f64 = ["connection", "request", "head"].map(|kind| refused(weir, kind)).iter().sum();
    shed + refused > 0.0
}

pub(super) fn shed(weir: &Weir, kind: &str) -> f64 {
    weir.metric("weir_memory_shed_total", &[("kind", kind)])
}

fn refused(weir: &Weir, kind: &str) -> f64 {
    weir.metric("weir_memory_refused_total", &[("kind", kind)])
}

#[test]
fn heads_that_never_end_do_not_take_the_memory_of_others() {
    let attack = Attack { most: 1_500, at_once: 20, pause: Duration::from_millis(5) };
    let backend = Backend::http().start();
    let builder = Weir::new().service("hello", &[backend.addr()]);
    let Some(mut weir) = limited(builder, 64) else { return };
    let to = weir.outgoing();
    let head = format!("GET http://hello/ HTTP/1.1\r\nHost: hello\r\nX: {}", "x".repeat(63 * 1024));
    let told = victim_during(&weir, SPAN, is_resisted, |over| {
        let feeds = |it: &mut Attacker, _| it.writes(head.as_bytes()) && !it.is_over();
        attack.run(over, || Attacker::to(to), feeds);
    });
    assert_harmless(&mut weir, told);
}

#[test]
fn who_does_not_read_big_answers_does_not_take_the_memory_of_others() {
    let attack = Attack { most: 400, at_once: 10, pause: Duration::from_millis(20) };
    let backend = Backend::http().start();
    let big = Backend::http().answer(Answer::stream(1 << 30)).start();
    let builder = Weir::new().service("hello", &[backend.addr()]).service("big", &[big.addr()]);
    let Some(mut weir) = limited(builder, 64) else { return };
    let to = weir.outgoing();
    let request = b"GET http://big/ HTTP/1.1\r\nHost: big\r\n\r\n";
    let told = victim_during(&weir, SPAN, is_resisted, |over| {
        let open = || {
            let mut reader = Attacker::to(to)?;
            let _ = SockRef::from(&reader.stream).set_recv_buffer_size(4096);
            reader.writes(request).then_some(reader)
        };
        // A byte now and then: slow, and never silent.
        attack.run(over, open, |it, _| it.reads(&mut [0]).is_some());
    });
    assert_harmless(&mut weir, told);
}

#[test]
fn tunnels_that_nobody_uses_do_not_take_the_memory_of_others() {
    let backend = Backend::http().start();
    let echo = TcpServer::echo(raw::listen(raw::loopback()).unwrap());
    let builder = Weir::new()
        .service("hello", &[backend.addr()])
        .service("echo", &[echo.addr()])
        .set("limits", "{ copyBuffer: 256KiB }");
    let Some(mut weir) = limited(builder, 64) else { return };
    let to = weir.outgoing();
    let are_closed = |weir: &Weir| shed(weir, "tunnel") > 0.0;
    let told = victim_during(&weir, SPAN, are_closed, |over| open_tunnels(to, 300, over));
    assert!(are_closed(&weir));
    assert_harmless(&mut weir, told);
}

/// Keeps so many tunnels open, each used once and then idle.
fn open_tunnels(to: std::net::SocketAddr, count: usize, over: &AtomicBool) {
    let request =
        [b"CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n".as_slice(), &[b'x'; 200_000]].concat();
    let mut piece = vec![0; 65_536];
    let attack = Attack { most: count, at_once: count, pause: Duration::from_millis(5) };
    let uses = |it: &mut Attacker, _| it.writes(&request) && it.reads(&mut piece).is_some();
    attack.run(over, || Attacker::to(to), uses);
}

fn misses(weir: &Weir) -> f64 {
    weir.metric("weir_binding_misses_total", &[])
}

#[test]
fn ever_new_names_do_not_take_the_memory_of_others() {
    const CONNECTIONS: usize = 12;
    let attack = Attack { most: CONNECTIONS, at_once: CONNECTIONS, pause: Duration::from_millis(1) };
    let backend = Backend::http().start();
    let Some(mut weir) = limited(Weir::new().service("hello", &[backend.addr()]), 48) else { return };
    let (to, mut names) = (weir.outgoing(), 0_usize..);
    let label = "x".repeat(60);
    let are_new = |weir: &Weir| misses(weir) > CONNECTIONS as f64;
    let told = victim_during(&weir, SPAN, are_new, |over| {
        let mut piece = vec![0; 65_536];
        let asks = |(it, request): &mut (Attacker, String), _| {
            if request.is_empty() {
                let name = names.next().unwrap_or(0);
                *request = format!("GET / HTTP/1.1\r\nHost: n{name}.{label}.{label}.{label}\r\n\r\n");
                it.written = 0;
            }
            let read = it.writes(request.as_bytes()).then(|| it.reads(&mut piece)).flatten();
            if read.is_some_and(|read| read > 0) {
                // Answered: the next one.
                request.clear();
            }
            read.is_some()
        };
        attack.run(over, || Some((Attacker::to(to)?, String::new())), asks);
    });
    let misses = misses(&weir);
    assert!(misses > CONNECTIONS as f64, "the attack was none: {misses}");
    assert_unfelt(&mut weir, told);
}

#[test]
fn a_setting_is_a_budget_without_any_cgroup_and_says_what_it_does() {
    more_descriptors();
    let backend = Backend::http().start();
    let weir = Weir::new()
        .service("hello", &[backend.addr()])
        .set("limits", "{ memory: 64MiB, headerRead: 1h }")
        .start();
    assert_eq!(weir.metric("weir_memory_budget_bytes", &[]), f64::from(64 << 20));
    let head = format!("GET http://hello/ HTTP/1.1\r\nHost: hello\r\nX: {}", "x".repeat(60 * 1024));
    let heads: Vec<TcpStream> = (0..1_200)
        .map(|_| raw::connect_as(super::ATTACKER, weir.outgoing()).unwrap())
        .inspect(|stream| {
            let _ = feed(stream, head.as_bytes());
        })
        .collect();
    eventually("heads to be closed", || shed(&weir, "head") + refused(&weir, "head") > 0.0);
    weir.expect_log("(limits.memory) in use");
    let state = weir.state();
    assert_eq!(state["memory"]["budgetBytes"], 64 << 20, "{}", state["memory"]);
    weir.get("http://hello/").expect_body("ok");
    drop(heads);
    eventually("the level to fall", || weir.metric("weir_memory_level", &[]) == 0.0);
    weir.expect_log("to=\"normal\"");
    let status = weir.admin_get("/ready").text();
    assert!(!status.contains("memory"), "{status}");
}

#[test]
fn at_ninety_percent_the_greedy_one_is_told_so_and_the_others_are_served() {
    more_descriptors();
    let backend = Backend::http().start();
    let weir = Weir::new()
        .service("hello", &[backend.addr()])
        .set("limits", "{ memory: 64MiB, headerRead: 1h }")
        .start();
    let (to, head) = (weir.outgoing(), format!("GET http://hello/ HTTP/1.1\r\nX: {}", "x".repeat(60 * 1024)));
    let (over, told) = (AtomicBool::new(false), Mutex::new(String::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let attack = Attack { most: 1_500, at_once: 20, pause: Duration::from_millis(5) };
            let feeds = |it: &mut Attacker, _| {
                let (fed, mut answer) = (it.writes(head.as_bytes()), [0; 1024]);
                if let Some(read @ 1..) = it.reads(&mut answer) {
                    *told.lock().unwrap() = String::from_utf8_lossy(&answer[..read]).to_lowercase();
                }
                fed && !it.is_over()
            };
            attack.run(&over, || Attacker::to(to), feeds);
        });
        let _over = Over(&over);
        eventually("a refusal", || told.lock().unwrap().starts_with("http/1.1 503 "));
        weir.get("http://hello/").expect_body("ok");
    });
    let told = told.into_inner().unwrap();
    assert!(told.contains("retry-after: 1\r\n") && told.contains("limits.memory"), "{told}");
    assert!(weir.faults("memory") > 0.0);
    assert!(weir.turned_away("outgoing", "memory") > 0.0);
}
