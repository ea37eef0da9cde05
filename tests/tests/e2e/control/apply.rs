//! What of a changed configuration takes effect while weir runs: nearly everything, and nobody is cut off for it.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use e2e::backend::Then;
use e2e::client::Closed;
use e2e::kube::{self, ApiServer};
use e2e::raw::{TcpServer, loopback};
use e2e::time::holds_for;
use e2e::{Answer, Backend, Client, Load, Request, Weir, eventually};
use nix::sys::signal::Signal;

/// Writes a top-level section of the running weir's configuration anew; without `yaml` it goes. weir has read it then.
#[track_caller]
pub(crate) fn change(weir: &Weir, section: &str, yaml: Option<&str>) {
    let before = std::fs::read_to_string(weir.folder().path().join("weir.yaml")).unwrap();
    let others = before.lines().filter(|line| !line.starts_with(&format!("{section}:")));
    let line = yaml.map(|yaml| format!("{section}: {yaml}"));
    let lines: Vec<_> = others.map(str::to_owned).chain(line).collect();
    let read = |log: &str| log.matches("configuration reloaded").count();
    let count = read(&weir.log());
    weir.folder().config(&(lines.join("\n") + "\n"));
    weir.signal(Signal::SIGHUP);
    eventually("the reload", || read(&weir.log()) > count);
}

/// What weir says waits for its next start.
pub(crate) fn waits(weir: &Weir) -> Vec<String> {
    let waits = weir.state()["reload"]["waitForRestart"].as_array().unwrap().clone();
    waits.iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

/// Where weir listens at this IP address.
fn listening(weir: &Weir, ip: &str) -> Option<SocketAddr> {
    let state = weir.state();
    let all = state["listening"].as_array().unwrap().iter();
    all.filter_map(|it| it.as_str()?.parse::<SocketAddr>().ok()).find(|it| it.ip().to_string() == ip)
}

/// The admin answers on this connection.
#[track_caller]
fn live(admin: &mut Client) {
    admin.ask(&Request::get("/live").with("Host", "localhost")).expect_status(200);
}

fn refuses(address: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err()
}

#[test]
fn a_listener_that_moves_keeps_its_connections_and_loses_no_request() {
    let backend = Backend::http().answers("hello").start();
    let echo = TcpServer::echo(e2e::raw::listen(loopback()).unwrap());
    let weir = Weir::new().service("hello", &[backend.addr()]).service("echo", &[echo.addr()]).start();
    let (old, mut kept, mut tunnel) = (weir.outgoing(), weir.client(), weir.client());
    kept.get("http://hello/").expect_body("hello");
    tunnel.start(&Request::new("CONNECT", "echo:80"));
    assert_eq!(tunnel.head().status(), Some(200));
    let mut admin = Client::to(weir.admin());
    live(&mut admin);
    let load = Load::get(old, "http://hello/");
    load.answered(20);

    change(&weir, "outgoing", Some("{ listen: 127.0.0.2:0 }"));
    let new = listening(&weir, "127.0.0.2").expect("the new address");
    Client::to(new).get("http://hello/").expect_body("hello");
    eventually("the end of the old listener", || refuses(old));
    assert_eq!(waits(&weir), [""; 0]);
    // Those that were open are served on, at every listener.
    kept.get("http://hello/").expect_body("hello");
    tunnel.send("still here").expect("still here");
    live(&mut admin);
    let tally = load.stop();
    for why in tally.failures.keys() {
        assert!(
            why.contains("efused"),
            "a request failed otherwise than by finding nobody: {:?}",
            tally.failures
        );
    }
    // Its own listeners are no destinations, wherever they are.
    eventually("the refusal", || Client::to(new).get(&format!("http://{new}/")).status == 403);
}

#[test]
fn a_listener_that_cannot_be_had_stays_where_it_is_and_weir_says_why() {
    let backend = Backend::http().answers("hello").start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let taken = TcpListener::bind("127.0.0.2:0").unwrap();
    let to = taken.local_addr().unwrap();
    let mut kept = weir.client();
    kept.get("http://hello/").expect_body("hello");
    for (section, yaml) in [
        ("outgoing", format!("{{ listen: \"{to}\", via: false }}")),
        ("admin", format!("{{ listen: \"{to}\" }}")),
        ("probes", format!("{{ listen: \"{to}\" }}")),
    ] {
        change(&weir, section, Some(&yaml));
        let said = waits(&weir);
        assert!(
            said[0].starts_with(&format!("{section}: cannot listen on {to}: another process")),
            "{said:?}"
        );
        assert_eq!(weir.metric("weir_config_waiting", &[]), 1.0);
        weir.expect_log(&format!("{section}: cannot listen on {to}"));
        // What else is in the section is in force.
        assert_eq!(kept.get("http://hello/").get("via").is_some(), section != "outgoing");
        weir.get("http://hello/").expect_body("hello");
        assert_eq!(weir.get_from(weir.probes(), "/live").status, 200);
        change(&weir, section, Some("{ listen: 127.0.0.1:0 }"));
        assert_eq!(waits(&weir), [""; 0]);
    }
    change(&weir, "outgoing", Some(&format!("{{ listen: \"{to}\" }}")));
    drop(taken);
    weir.signal(Signal::SIGHUP);
    eventually("the listener that can be had now", || !refuses(to) && waits(&weir).is_empty());
    Client::to(to).get("http://hello/").expect_body("hello");
}

#[test]
fn the_admins_and_the_probes_listeners_come_move_and_go() {
    let weir = Weir::new().unset("probes").start();
    let mut kept = Client::to(weir.admin());
    live(&mut kept);
    change(&weir, "probes", Some("{ listen: 127.0.0.3:0 }"));
    let probes = listening(&weir, "127.0.0.3").expect("the probes");
    assert_eq!(weir.get_from(probes, "/live").status, 200);
    change(&weir, "probes", None);
    eventually("their end", || refuses(probes));
    change(&weir, "probes", Some("{ listen: 127.0.0.3:0 }"));
    let probes = listening(&weir, "127.0.0.3").expect("the probes again");
    change(&weir, "admin", Some("{ listen: 127.0.0.4:0 }"));
    eventually("the old admin's end", || refuses(weir.admin()));
    let state = kept.ask(&Request::get("/api/state.json").with("Host", "localhost")).text();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let listening: Vec<_> =
        state["listening"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let admin: SocketAddr =
        listening.iter().find(|it| it.starts_with("127.0.0.4:")).unwrap().parse().unwrap();
    assert_eq!(weir.get_from(admin, "/ready").status, 200);
    assert_eq!(weir.get_from(probes, "/ready").status, 200, "it did not change");
}

#[test]
fn who_may_come_in_and_how_many_changes_for_the_next_who_connects() {
    let backend = Backend::http().script(|request| match request.head.target() {
        "/hang" => Answer::raw("").then(Then::Hang),
        _ => Answer::ok("hello"),
    });
    let backend = backend.start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let outgoing = weir.outgoing();
    // Idle connections would make room.
    let hang = |client: &mut Client| {
        let before = backend.count();
        client.start(&Request::get("http://hello/hang"));
        backend.wait_for(before + 1);
    };
    let listen = |rest: &str| format!("{{ listen: 127.0.0.1:0{rest} }}");
    let mut kept = weir.client();
    assert!(kept.get("http://hello/").get("via").is_some());
    change(&weir, "outgoing", Some(&listen(", allow: [192.0.2.0/24], via: false")));
    assert_eq!(weir.client().closed(), Closed::End);
    assert_eq!(weir.turned_away("outgoing", "not_allowed"), 1.0);
    let answer = kept.get("http://hello/");
    assert!(answer.status == 200 && answer.get("via").is_none(), "{answer:?}");
    change(&weir, "outgoing", Some(&listen("")));
    weir.get("http://hello/").expect_body("hello");
    assert_eq!(weir.outgoing(), outgoing);

    hang(&mut kept);
    change(&weir, "limits", Some("{ connections: 1 }"));
    let mut waiting = weir.client();
    waiting.start(&Request::get("http://hello/"));
    assert!(waiting.silent_for(Duration::from_millis(300)), "there is room for the one that is open");
    kept.vanish();
    waiting.response().expect_body("hello");
    hang(&mut waiting);
    let mut second = weir.client();
    second.start(&Request::get("http://hello/"));
    assert!(second.silent_for(Duration::from_millis(300)));
    change(&weir, "limits", Some("{ connections: 100 }"));
    second.response().expect_body("hello");
    assert_eq!(waits(&weir), [""; 0]);
}

#[test]
fn settings_that_only_count_from_the_next_use_are_in_force_at_once() {
    let backend = Backend::http().answers("hello").start();
    let dns = e2e::Dns::start(&e2e::Place::Here, "127.0.0.1".parse().unwrap());
    dns.says("out.test", e2e::Said::addresses(&["127.0.0.1"], 60));
    let mut weir = Weir::new().service("hello", &[backend.addr()]).set("names", "{ dns: false }").start();
    weir.get("http://out.test/").expect_status(502);
    change(&weir, "names", Some(&dns.setting()));
    // Loopback is refused; that it is says that DNS was asked.
    eventually("DNS", || weir.get("http://out.test/").status == 403);
    assert_eq!(dns.questions("out.test"), 2);
    weir.get("http://other.test/").expect_status(502);

    assert!(!weir.log().contains("DEBUG"));
    change(&weir, "log", Some("{ level: debug }"));
    eventually("a line of the new level", || {
        change(&weir, "names", Some("{ dns: false }"));
        change(&weir, "names", Some(&dns.setting()));
        weir.log().contains("DEBUG")
    });

    let mut tunnel = weir.client();
    tunnel.start(&Request::new("CONNECT", "hello:80"));
    assert_eq!(tunnel.head().status(), Some(200));
    change(&weir, "drain", Some("{ grace: 1ms }"));
    change(&weir, "workers", Some("1"));
    assert_eq!(waits(&weir), ["workers"]);
    weir.signal(Signal::SIGTERM);
    // The default is 10 s, for which the tunnel would have been kept.
    assert_eq!(weir.wait(Duration::from_secs(8)).code(), Some(0));
}

#[test]
fn a_reload_while_requests_run_loses_none() {
    let backend = Backend::http().answers("hello").start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let load = Load::get(weir.outgoing(), "http://hello/");
    load.answered(20);
    for round in 0..5 {
        change(
            &weir,
            "limits",
            Some(&format!(
                "{{ connections: {}, keepAlive: {}s, unacknowledged: 9s }}",
                100 + round,
                20 + round
            )),
        );
        change(&weir, "probes", if round % 2 == 0 { None } else { Some("{ listen: 127.0.0.1:0 }") });
        load.answered(load.tally().ok() + 20);
    }
    assert!(holds_for(Duration::from_millis(100), || waits(&weir).is_empty()));
    load.stop().expect_no_failure();
}

#[test]
fn services_come_from_another_folder_once_that_is_read() {
    let (old, new) = (Backend::http().answers("old").start(), Backend::http().answers("new").start());
    let weir = Weir::serving("hello", &[old.addr()]);
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("hello"), format!("{} {}\n", new.addr().ip(), new.addr().port()))
        .unwrap();
    let load = Load::get(weir.outgoing(), "http://hello/");
    load.answered(20);
    let folder = |path: &std::path::Path| format!("{{ files: {{ path: {} }} }}", path.display());
    change(&weir, "discovery", Some(&folder(&other.path().join("none"))));
    let said = waits(&weir);
    assert!(said[0].starts_with("discovery: ") && said[0].contains("none"), "{said:?}");
    weir.get("http://hello/").expect_body("old");
    change(&weir, "discovery", Some(&folder(other.path())));
    assert_eq!(waits(&weir), [""; 0]);
    eventually("the other folder's endpoint", || weir.get("http://hello/").text() == "new");
    // It is the one that is watched now.
    std::fs::write(other.path().join("more"), format!("{} {}\n", old.addr().ip(), old.addr().port()))
        .unwrap();
    eventually("a file that comes", || weir.get("http://more/").status == 200);
    load.stop().expect_no_failure();
    change(&weir, "discovery", None);
    eventually("the end of its services", || weir.get("http://hello/").status == 502);
    assert_eq!(weir.metric("weir_catalog_services", &[]), 0.0);
}

#[test]
fn another_api_server_is_followed_and_the_first_ones_services_stay_until_its_are_known() {
    let (old, new) = (Backend::http().answers("old").start(), Backend::http().answers("new").start());
    let serving = |backend: &Backend| {
        let server = ApiServer::start();
        server.put(kube::service("hello", "10.96.0.10", &[("http", 80)]));
        server.serve("hello", &[backend.addr()]);
        server
    };
    let (first, second) = (serving(&old), serving(&new));
    let homes = [&first, &second].map(|server| {
        let home = tempfile::tempdir().unwrap();
        server.kubeconfig(home.path());
        home
    });
    let discovery = |home: &tempfile::TempDir, more: &str| {
        format!(
            "{{ kubernetes: {{ kubeconfig: {}/kubeconfig, node: node-1, jitter: 0s{more} }} }}",
            home.path().display()
        )
    };
    let weir = Weir::new().set("discovery", &discovery(&homes[0], "")).start();
    eventually("readiness", || weir.admin_get("/ready").status == 200);
    let answers = || weir.get("http://hello/");
    eventually("a refusal of loopback", || answers().status == 403);
    assert!(weir.knows(old.addr()));
    // Nothing is known of the second yet, and the first one's services serve on.
    second.faults(|faults| faults.hangs = true);
    change(&weir, "discovery", Some(&discovery(&homes[1], ", readTimeout: 1s")));
    assert_eq!(waits(&weir), [""; 0]);
    assert!(holds_for(Duration::from_millis(500), || weir.knows(old.addr())));
    weir.admin_get("/ready").expect_status(200);
    second.heal();
    eventually("the second one's services", || weir.knows(new.addr()) && !weir.knows(old.addr()));
    let (lists, watched) = (first.count("list", "services"), first.count("watch", "services"));
    assert!(lists == 1 && watched == 1, "the first is not asked any more: {lists}, {watched}");
    change(&weir, "discovery", None);
    assert_eq!(waits(&weir), ["discovery"], "whether there is a cluster at all is decided at start");
    assert!(weir.knows(new.addr()));
}
