//! Upgrades under load, with connections that stay open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::load::Reuse;
use e2e::time::holds_for;
use e2e::weir::builder::Builder;
use e2e::{Answer, Backend, Client, Load, Pod, Request, Weir, eventually};
use nix::sys::signal::Signal;

use super::http2::gated;
use super::{
    DATABASE, PROXY, database, echoes, ends, exec_probe, follows, is_ready, next, next_in_pods, probe,
    tunnel, upgrade, waiting,
};
use crate::transparent::{Stage, TARGET, V4, V6, dialler};

/// How often one weir follows another.
const UPGRADES: usize = 10;

/// What stays open all the time: each names itself when it does not say back what it is told.
struct Long(Vec<(&'static str, Client)>);

impl Long {
    /// A tunnel, an upgraded connection, and a diverted one to a database.
    #[track_caller]
    fn open(stage: &Stage) -> Self {
        let mut upgraded = Client::over(dialler(&stage.client, PROXY)().unwrap());
        let request = Request::get("http://chat/").with("Connection", "Upgrade").with("Upgrade", "chat");
        upgraded.start(&request);
        assert_eq!(upgraded.head().status(), Some(101));
        let mut all =
            Self(vec![("tunnel", tunnel(stage)), ("upgraded", upgraded), ("database", stage.dial(DATABASE))]);
        all.go_on("begun");
        all
    }

    #[track_caller]
    fn go_on(&mut self, word: &str) {
        for (what, client) in &mut self.0 {
            let word = format!("{what} {word}");
            client.send(&word).expect(&word);
        }
    }
}

/// Upgrades `stage`'s weir again and again by what `following` makes, under diverted load, and explicit at `proxies` too.
#[track_caller]
fn upgrades(stage: &mut Stage, proxies: &[&'static str], following: impl Fn(&Stage, &Backend) -> Builder) {
    let (_backends, _direct, _database) = (stage.backends(), stage.direct(), database(&stage.b));
    let chat =
        Backend::http().answer(Answer::upgrade("chat")).inside(&stage.a).on(stage.a.at(TARGET + 2)).start();
    stage.start(following(stage, &chat));
    let mut current = stage.take_weir();
    let explicit = Request::get("http://hello/");
    let diverted = Request::get("/").with("Host", "hello").with("Connection", "close");
    let to = |to: &'static str| dialler(&stage.client, to);
    for proxy in proxies {
        eventually("the explicit proxy in the pod", || dialler(&stage.client, proxy)().is_ok());
    }
    let in_pods = proxies.iter().map(|proxy| Load::start(1, Reuse::Never, &explicit, to(proxy)));
    let loads: Vec<_> = in_pods.collect();
    let loads = loads.into_iter().chain([
        Load::start(1, Reuse::KeepAlive, &explicit, to(PROXY)),
        Load::start(1, Reuse::Never, &explicit, to(PROXY)),
        Load::start(1, Reuse::Never, &diverted, to(V4)),
        Load::start(1, Reuse::Never, &diverted, to(V6)),
    ]);
    let loads: Vec<_> = loads.collect();
    let mut long = Long::open(stage);
    let (mut old, mut reigns) = (Vec::new(), vec![directs(&current, &loads)]);
    for number in 1..=UPGRADES {
        for load in &loads {
            load.answered(20);
        }
        let next = upgrade(&current, following(stage, &chat));
        old.push(std::mem::replace(&mut current, next));
        reigns.push(directs(&current, &loads));
        long.go_on(&format!("after {number}"));
        assert_eq!(probe(&stage.net, "/ready"), 200, "the old one answered");
    }
    for load in &loads {
        load.answered(20);
    }
    assert!(current.decisions("diverted") > 0.0, "the last one diverts");
    for load in loads {
        let tally = load.stop();
        tally.expect_no_failure();
        // Where a busy machine leaves a weir without a turn for two seconds, connections go direct meanwhile: none fails.
        assert!(tally.from("direct") * 100 <= tally.ok(), "{tally:?}, after each upgrade: {reigns:#?}");
    }
    long.go_on("to the end");
    // Each of those before it has drained for all that time, and ends now.
    let open = || current.metric("weir_handover_draining_connections", &[]);
    eventually("word of what is open", || open() >= 3.0);
    drop(long);
    old.into_iter().for_each(ends);
    eventually("the end of the drain", || open() == 0.0);
    assert_eq!(current.turned_away("transparent", "no_original"), 0.0);
}

/// How many answers came directly so far, and why the programs let connections go.
fn directs(weir: &Weir, loads: &[Load]) -> String {
    let direct: u64 = loads.iter().map(|load| load.tally().from("direct")).sum();
    let all = weir.metrics().into_iter().filter(|it| it.name == "weir_interception_decisions_total");
    let why: Vec<_> =
        all.filter(|it| it.value > 0.0).map(|it| (it.labels["decision"].clone(), it.value)).collect();
    format!("{direct} direct, {why:?}")
}

/// With a service whose connections are upgraded.
fn with_chat(builder: Builder, chat: &Backend) -> Builder {
    builder.service("chat", &[chat.addr()])
}

#[test]
fn ten_upgrades_in_a_row_fail_no_request_and_cut_no_connection() {
    let Some(mut stage) = Stage::set() else { return };
    upgrades(&mut stage, &[], |stage, chat| next(stage, |builder| with_chat(builder, chat)));
}

#[test]
fn ten_upgrades_with_sockets_in_the_pods_fail_no_request_and_cut_no_connection() {
    let Some(mut stage) = Stage::set() else { return };
    upgrades(&mut stage, &["127.0.0.1:4140", "[::1]:4140"], |stage, chat| {
        next_in_pods(stage, |builder| with_chat(builder, chat))
    });
}

/// As when the default changes with a version, and when that is taken back.
#[test]
fn sockets_move_into_the_pods_and_back_without_a_request_or_connection_lost() {
    let Some(mut stage) = Stage::set() else { return };
    let made = std::cell::Cell::new(0);
    upgrades(&mut stage, &[], |stage, chat| {
        made.set(made.get() + 1);
        let database = e2e::folder::service("database", &["10.96.0.11"]).port("sql", 5432, TARGET + 1);
        let builder = match made.get() % 2 {
            1 => Weir::new().on_node(&stage.net),
            _ => Weir::new().by_default(&stage.net),
        };
        let builder = builder.kubernetes(&stage.hello()).kubernetes(&database.endpoints(&[stage.b.v4()]));
        with_chat(follows(builder, &stage.net), chat)
    });
}

#[test]
fn an_old_weir_answers_with_connection_close_and_is_told_of_by_the_next() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    let may = Arc::<AtomicBool>::default();
    let slow = gated(stage.a.listen(stage.a.at(TARGET + 2)).unwrap(), may.clone());
    let following = |stage: &Stage| next(stage, |builder| builder.service("slow", &[slow.addr()]));
    stage.start(following(&stage));
    let old = stage.take_weir();
    let connect = |pod: &Pod| Client::over(dialler(pod, PROXY)().unwrap());
    let (mut idle, mut waits, mut open) = (connect(&stage.client), connect(&stage.client), tunnel(&stage));
    idle.get("http://hello/").expect_status(200);
    waits.start(&Request::get("http://slow/"));
    eventually("the request at its endpoint", || slow.accepted() == 1);
    let current = upgrade(&old, following(&stage));
    idle.closed();
    may.store(true, Ordering::SeqCst);
    let answer = waits.response();
    answer.expect_body("ok");
    assert!(answer.head.lists("connection", "close"), "{:?}", answer.head);
    echoes(&mut open, "still");
    eventually("one connection", || current.state()["handover"]["draining"]["open"].as_u64() == Some(1));
    assert_eq!(current.metric("weir_handovers_total", &[("result", "taken")]), 1.0);
    assert!(current.metric("weir_handover_draining_seconds", &[]) > 0.0);
    let shown = Weir::new().beside(&stage.net).run(&["status", "--admin", super::ADMIN]).stdout;
    assert!(shown.contains("an earlier weir of this node has been draining for "), "{shown}");
    assert!(shown.contains(": 1 connections open\n"), "{shown}");
    drop(open);
    ends(old);
    eventually("its end", || current.state()["handover"]["draining"].is_null());
}

#[test]
fn an_old_weir_that_nobody_stops_stays_and_takes_nothing_back() {
    let Some(mut stage) = Stage::set() else { return };
    let _backends = stage.backends();
    stage.start(next(&stage, |builder| builder));
    let mut old = stage.take_weir();
    let current = next(&stage, |builder| builder).start();
    current.expect_log("serving in place of the weir before this one");
    old.expect_log("nothing is open any more: waiting for SIGTERM");
    let connect = || Client::over(dialler(&stage.client, PROXY)().unwrap());
    for _ in 0..20 {
        connect().get("http://hello/").expect_status(200);
    }
    assert!(current.accepted("outgoing") >= 20.0, "the old one accepts no more");
    old.signal(Signal::SIGTERM);
    assert_eq!(old.wait(Duration::from_secs(10)).code(), Some(0));
    connect().get("http://hello/").expect_status(200);
}

#[test]
fn each_weir_answers_exec_probes_for_itself_and_the_probes_listener_is_of_the_one_that_serves() {
    let Some(mut stage) = Stage::set() else { return };
    stage.start(next(&stage, |builder| builder));
    let old = stage.take_weir();
    assert!(is_ready(&old) && exec_probe(&old, "live") == (true, "live\n".to_owned()));
    let unready = waiting(&old, next(&stage, super::unready));
    // Neither answers for the other, at any time.
    assert!(holds_for(Duration::from_secs(2), || {
        is_ready(&old) && !is_ready(&unready) && probe(&stage.net, "/ready") == 200
    }));
    assert_eq!(exec_probe(&unready, "live"), (true, "live\n".to_owned()));
    let said = exec_probe(&unready, "ready").1;
    assert!(said.starts_with("not ready\n") && said.contains("\ninterception: "), "{said}");
    drop(unready);
    let current = upgrade(&old, next(&stage, |builder| builder));
    assert!(is_ready(&current));
    eventually("the old one's end", || exec_probe(&old, "live").1.contains("no weir answers at"));
    assert_eq!(probe(&stage.net, "/ready"), 200);
    // One that drains is not ready, and says why.
    let (_database, open) = (database(&stage.b), tunnel(&stage));
    let last = next(&stage, |builder| builder).start();
    last.expect_log("serving in place of the weir before this one");
    eventually("the one that drains", || !is_ready(&current));
    let (live, said) = (exec_probe(&current, "live").0, exec_probe(&current, "ready").1);
    assert!(live && said.contains("drain: weir is draining: the next one of this node"), "{said}");
    drop(open);
}

#[test]
fn weirs_that_drain_at_the_same_time_are_told_of_by_the_one_that_serves() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _database) = (stage.backends(), database(&stage.b));
    stage.start(next(&stage, |builder| builder));
    let first = stage.take_weir();
    let mut one = tunnel(&stage);
    // In quick succession: no weir waits for the end of the one before it.
    let second = upgrade(&first, next(&stage, |builder| builder));
    let mut two = tunnel(&stage);
    let third = upgrade(&second, next(&stage, |builder| builder));
    eventually("both", || third.metric("weir_handover_draining_weirs", &[]) == 2.0);
    eventually("their connections", || third.metric("weir_handover_draining_connections", &[]) == 2.0);
    assert_eq!(third.state()["handover"]["draining"]["weirs"].as_u64(), Some(2));
    let shown = Weir::new().beside(&stage.net).run(&["status", "--admin", super::ADMIN]).stdout;
    assert!(shown.contains("2 earlier weirs of this node drain, the first for "), "{shown}");
    echoes(&mut one, "still");
    echoes(&mut two, "still");
    // One that has drained stays for as long as one before it drains, and tells of that.
    drop(two);
    eventually("one connection", || third.metric("weir_handover_draining_connections", &[]) == 1.0);
    assert_eq!(third.metric("weir_handover_draining_weirs", &[]), 2.0);
    echoes(&mut one, "and still");
    drop(one);
    ends(first);
    ends(second);
    eventually("none", || third.metric("weir_handover_draining_weirs", &[]) == 0.0);
}
