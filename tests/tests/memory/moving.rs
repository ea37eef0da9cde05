//! Clients that hold much and never stand still, beside one that has many requests under way and is within its share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::http2::{PREFACE, encode, field};
use e2e::raw::TcpServer;
use e2e::{Answer, Backend, Weir, raw};

use super::budget::{assert_harmless, is_resisted, shed};
use super::{Attack, Attacker, Over, VICTIM, ask_once, feed, goes_on, limited};

/// How long an attack lasts.
pub(super) const SPAN: Duration = Duration::from_secs(5);

/// How many requests the honest client has under way: more than anybody may have whatever the others hold.
const TOGETHER: usize = 20;

/// Asks from this address for `http://slow/` over so many connections, again and again on each, while `attack` goes on: for `span`, and until
/// it `is_seen`. Returns how many requests there were, and what was not a 200. A connection that was closed between two
/// requests is opened again.
pub(super) fn honest_during(
    weir: &Weir,
    (from, together): (IpAddr, usize),
    span: Duration,
    is_seen: impl Fn(&Weir) -> bool + Sync,
    attack: impl FnOnce(&AtomicBool) + Send,
) -> (usize, Vec<String>) {
    let (over, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let attacking = scope.spawn(|| attack(&over));
        let ends = Over(&over);
        let honest: Vec<_> = (0..together)
            .map(|_| {
                scope.spawn(|| {
                    let clock = Instant::now();
                    while goes_on(clock, span, || !failed.lock().unwrap().is_empty() || is_seen(weir)) {
                        asked.fetch_add(1, Ordering::SeqCst);
                        let error = ask_once(weir, from, "slow").err();
                        failed.lock().unwrap().extend(error);
                    }
                })
            })
            .collect();
        honest.into_iter().for_each(|it| it.join().expect("the honest client"));
        drop(ends);
        attacking.join().expect("the attacker");
    });
    (asked.into_inner(), failed.into_inner().unwrap())
}

/// A weir with 64 MiB whose service `slow` answers after a while.
fn little(services: &[(&str, SocketAddr)], slow: &Backend) -> Option<Weir> {
    let builder = Weir::new().service("slow", &[slow.addr()]).set("limits", "{ copyBuffer: 256KiB }");
    let builder = services.iter().fold(builder, |builder, (name, at)| builder.service(name, &[*at]));
    limited(builder, 64)
}

pub(super) fn slow() -> Backend {
    Backend::http().answer(Answer::ok("ok").after(Duration::from_millis(200))).start()
}

#[test]
fn tunnels_that_drip_end_and_who_has_many_requests_under_way_loses_none() {
    let attack = Attack { most: 300, at_once: 20, pause: Duration::from_millis(20) };
    let (slow, echo) = (slow(), TcpServer::echo(raw::listen(raw::loopback()).unwrap()));
    let Some(mut weir) = little(&[("echo", echo.addr())], &slow) else { return };
    let to = weir.outgoing();
    let told = honest_during(&weir, (VICTIM, TOGETHER), SPAN, is_resisted, |over| {
        drip(&attack, over, || Attacker::to(to));
    });
    assert_harmless(&mut weir, told);
}

/// Keeps tunnels to `echo` open whose buffers have grown, and on which a byte passes now and then: they are never silent.
pub(super) fn drip(attack: &Attack, over: &AtomicBool, open: impl FnMut() -> Option<Attacker>) {
    let head = b"CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n".as_slice();
    // Enough to make the buffers of both directions grow.
    let request = [head, &[b'x'; 400_000]].concat();
    let (began, mut grows, mut piece) = (Instant::now(), false, vec![0; 65_536]);
    let drips = |it: &mut Attacker, count| {
        // First all are opened; then all grow at once.
        grows |= count == attack.most || began.elapsed() > SPAN / 3;
        let rest = match request.get(it.written..) {
            _ if it.written < head.len() => &head[it.written..],
            _ if !grows => &[],
            Some([]) | None => b"x",
            Some(rest) => rest,
        };
        let Some(written) = feed(&it.stream, rest) else { return false };
        it.written += written;
        it.reads(&mut piece).is_some()
    };
    attack.run(over, open, drips);
}

/// The frames of so many uploads whose bodies are as large as a stream's window: those that open them, and then all bodies.
fn uploads(count: u32) -> [Vec<u8>; 2] {
    let fields: [(&str, &[u8]); 4] =
        [(":method", b"POST"), (":scheme", b"http"), (":authority", b"deaf"), (":path", b"/")];
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    let streams = || (0..count).map(|number| 2 * number + 1);
    let heads = streams().flat_map(|stream| encode(1, 0x4, stream, &block));
    let bodies = streams().flat_map(|stream| encode(0, 0, stream, &[b'x'; 16 * 1024 - 1]).repeat(4));
    [[PREFACE.to_vec(), encode(4, 0, 0, &[])].concat().into_iter().chain(heads).collect(), bodies.collect()]
}

#[test]
fn uploads_of_http2_that_nobody_takes_do_not_take_the_memory_of_others() {
    const CONNECTIONS: usize = 12;
    let slow = slow();
    // It accepts, and reads nothing: no window is opened, so all bodies stay in weir.
    let deaf = TcpServer::on(raw::listen(raw::loopback()).unwrap(), |_stream| {
        loop {
            std::thread::park();
        }
    });
    let Some(mut weir) = little(&[("deaf", deaf.addr())], &slow) else { return };
    let (to, [heads, bodies]) = (weir.outgoing(), uploads(100));
    let are_cut = |weir: &Weir| shed(weir, "exchange") > 0.0;
    let told = honest_during(&weir, (VICTIM, TOGETHER), SPAN, are_cut, |over| {
        let mut open: Vec<(Attacker, Instant)> = Vec::new();
        let mut piece = vec![0; 65_536];
        while !over.load(Ordering::SeqCst) {
            let more = open.len()..CONNECTIONS;
            open.extend(more.map_while(|_| Some((Attacker::to(to)?, Instant::now()))));
            // First all heads of all connections; then all bodies at once.
            let all_open = open.iter().all(|(it, _)| it.written >= heads.len());
            open.retain_mut(|(it, began)| {
                let _ = it.reads(&mut piece);
                let rest = match it.written.checked_sub(heads.len()) {
                    None => &heads[it.written..],
                    Some(from) if from < bodies.len() && (all_open || began.elapsed() > SPAN / 4) => {
                        &bodies[from..]
                    }
                    Some(_) => return !it.is_over(),
                };
                let Some(written) = feed(&it.stream, rest) else { return false };
                it.written += written;
                true
            });
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(are_cut(&weir));
    assert_harmless(&mut weir, told);
}
