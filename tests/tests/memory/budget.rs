//! One memory budget: what is idle or slow is closed, and who holds more than a share gets nothing new.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::raw::TcpServer;
use e2e::{Answer, Backend, Weir, eventually, raw};
use socket2::SockRef;

use super::{Over, attacker, feed, is_over, limited, more_descriptors, victim_during};

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
    const HEADS: usize = 1_500;
    let backend = Backend::http().start();
    let builder = Weir::new().service("hello", &[backend.addr()]);
    let Some(mut weir) = limited(builder, 64) else { return };
    let to = weir.outgoing();
    let head = format!("GET http://hello/ HTTP/1.1\r\nHost: hello\r\nX: {}", "x".repeat(63 * 1024));
    let told = victim_during(&weir, SPAN, is_resisted, |over| {
        let mut open: Vec<(TcpStream, usize)> = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let more = open.len()..HEADS.min(open.len() + 20);
            open.extend(more.map_while(|_| Some((attacker(to)?, 0))));
            open.retain_mut(|(stream, at)| {
                feed(stream, head.as_bytes(), *at).is_some_and(|now| {
                    *at = now;
                    !is_over(stream)
                })
            });
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert_harmless(&mut weir, told);
}

#[test]
fn who_does_not_read_big_answers_does_not_take_the_memory_of_others() {
    const READERS: usize = 400;
    let backend = Backend::http().start();
    let big = Backend::http().answer(Answer::stream(1 << 30)).start();
    let builder = Weir::new().service("hello", &[backend.addr()]).service("big", &[big.addr()]);
    let Some(mut weir) = limited(builder, 64) else { return };
    let to = weir.outgoing();
    let request = b"GET http://big/ HTTP/1.1\r\nHost: big\r\n\r\n";
    let told = victim_during(&weir, SPAN, is_resisted, |over| {
        let mut open: Vec<TcpStream> = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let more = open.len()..READERS.min(open.len() + 10);
            open.extend(more.map_while(|_| {
                let stream = attacker(to)?;
                let _ = SockRef::from(&stream).set_recv_buffer_size(4096);
                feed(&stream, request, 0).map(|_| stream)
            }));
            // A byte now and then: slow, and never silent.
            let mut byte = [0];
            open.retain_mut(|stream| match stream.read(&mut byte) {
                Ok(read) => read > 0,
                Err(why) => why.kind() == std::io::ErrorKind::WouldBlock,
            });
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert_harmless(&mut weir, told);
}

#[test]
fn tunnels_that_nobody_uses_do_not_take_the_memory_of_others() {
    const TUNNELS: usize = 300;
    let backend = Backend::http().start();
    let echo = TcpServer::echo(raw::listen(raw::loopback()).unwrap());
    let builder = Weir::new()
        .service("hello", &[backend.addr()])
        .service("echo", &[echo.addr()])
        .set("limits", "{ copyBuffer: 256KiB }");
    let Some(mut weir) = limited(builder, 64) else { return };
    let to = weir.outgoing();
    let are_closed = |weir: &Weir| shed(weir, "tunnel") > 0.0;
    let told = victim_during(&weir, SPAN, are_closed, |over| open_tunnels(to, TUNNELS, over));
    assert!(are_closed(&weir));
    assert_harmless(&mut weir, told);
}

/// Keeps so many tunnels open, each used once and then idle.
fn open_tunnels(to: std::net::SocketAddr, count: usize, over: &AtomicBool) {
    let request =
        [b"CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n".as_slice(), &[b'x'; 200_000]].concat();
    let mut open: Vec<(TcpStream, usize)> = Vec::new();
    let mut piece = vec![0; 65_536];
    while !over.load(Ordering::SeqCst) {
        open.extend((open.len()..count).map_while(|_| Some((attacker(to)?, 0))));
        open.retain_mut(|(stream, at)| {
            if *at < request.len() {
                let Some(now) = feed(stream, &request, *at) else { return false };
                *at = now;
            }
            match stream.read(&mut piece) {
                Ok(read) => read > 0,
                Err(why) => why.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn misses(weir: &Weir) -> f64 {
    weir.metric("weir_binding_misses_total", &[])
}

#[test]
fn ever_new_names_do_not_take_the_memory_of_others() {
    const CONNECTIONS: usize = 12;
    let backend = Backend::http().start();
    let Some(mut weir) = limited(Weir::new().service("hello", &[backend.addr()]), 48) else { return };
    let (to, mut names) = (weir.outgoing(), 0_usize..);
    let label = "x".repeat(60);
    let are_new = |weir: &Weir| misses(weir) > CONNECTIONS as f64;
    let told = victim_during(&weir, SPAN, are_new, |over| {
        let mut open: Vec<(TcpStream, Vec<u8>, usize)> = Vec::new();
        let mut piece = vec![0; 65_536];
        while !over.load(Ordering::SeqCst) {
            open.extend((open.len()..CONNECTIONS).map_while(|_| Some((attacker(to)?, Vec::new(), 0))));
            open.retain_mut(|(stream, requests, at)| {
                if requests.is_empty() {
                    let name = names.next().unwrap_or(0);
                    let request = format!("GET / HTTP/1.1\r\nHost: n{name}.{label}.{label}.{label}\r\n\r\n");
                    (*requests, *at) = (request.into(), 0);
                }
                if *at < requests.len() {
                    let Some(now) = feed(stream, requests, *at) else { return false };
                    *at = now;
                }
                match stream.read(&mut piece) {
                    Ok(0) => false,
                    Ok(_) => {
                        // Answered: the next one.
                        (*requests, *at) = (Vec::new(), 0);
                        true
                    }
                    Err(why) => why.kind() == std::io::ErrorKind::WouldBlock,
                }
            });
            std::thread::sleep(Duration::from_millis(1));
        }
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
            let _ = feed(stream, head.as_bytes(), 0);
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
            let mut open: Vec<(TcpStream, usize)> = Vec::new();
            while !over.load(Ordering::SeqCst) {
                let more = open.len()..1_500.min(open.len() + 20);
                open.extend(more.map_while(|_| Some((attacker(to)?, 0))));
                open.retain_mut(|(stream, at)| {
                    let fed = feed(stream, head.as_bytes(), *at);
                    *at = fed.unwrap_or(*at);
                    let mut answer = [0; 1024];
                    if let Ok(read @ 1..) = stream.read(&mut answer) {
                        *told.lock().unwrap() = String::from_utf8_lossy(&answer[..read]).to_lowercase();
                    }
                    fed.is_some() && !is_over(stream)
                });
                std::thread::sleep(Duration::from_millis(5));
            }
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
