//! weir's sockets in the pods' own network namespaces: endpoints see the pod.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{MAPPED, Stage, TARGET, V4, V6, address, answered, dialler};
use e2e::load::Reuse;
use e2e::net::links::HeldLinks;
use e2e::net::place::Capability;
use e2e::raw::TcpServer;
use e2e::{Backend, Client, Load, Pod, Request, Weir, eventually, folder};

/// A server at `at` in `pod` that says, after one byte, who connected and where to.
pub(super) fn says_who(pod: &Pod, at: SocketAddr) -> TcpServer {
    TcpServer::on(pod.listen(at).unwrap(), |mut stream| {
        if stream.read(&mut [0]).is_ok_and(|n| n == 1) {
            let (peer, own) = (stream.peer_addr().unwrap().ip(), stream.local_addr().unwrap());
            let _ = write!(stream, "{} at {own}", peer.to_canonical());
        }
    })
}

/// What [`says_who`] says to this pod; empty if the connection ends without a word.
pub(super) fn who(pod: &Pod, to: &str) -> String {
    let stream = pod.connect(address(to)).unwrap_or_else(|e| panic!("no connection to {to}: {e}"));
    let mut client = Client::over(stream);
    String::from_utf8_lossy(&client.send([0]).rest().0).into_owned()
}

#[test]
fn in_pods_a_get_is_answered_by_an_endpoint_whatever_the_family() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    for to in [V4, V6, MAPPED] {
        for _ in 0..5 {
            let mut client = stage.dial(to);
            let body = client.get("/").text();
            assert!(body == "a" || body == "b", "{to} was answered by {body:?}");
            assert_eq!(client.stream().peer_addr().unwrap(), address(to));
            let own = client.stream().local_addr().unwrap().ip().to_canonical();
            assert_eq!(own, if to == V6 { stage.client.v6() } else { stage.client.v4() });
        }
    }
    assert_eq!(stage.diverted(), 15.0);
    assert_eq!(stage.weir().accepted("transparent"), 15.0);
}

#[test]
fn an_endpoint_sees_the_pod_and_not_the_node() {
    let Some(stage) = Stage::in_pods() else { return };
    let _servers = [&stage.a, &stage.b]
        .map(|pod| [pod.v4(), pod.v6()].map(|ip| says_who(pod, SocketAddr::new(ip, TARGET))));
    for _ in 0..6 {
        let said = who(&stage.client, V4);
        let from = said.split(' ').next().unwrap().parse::<IpAddr>().unwrap();
        assert!(from == stage.client.v4() || from == stage.client.v6(), "{said}");
    }
}

#[test]
fn two_pods_share_no_connection_to_an_endpoint() {
    let Some(mut stage) = Stage::set() else { return };
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    // A worker uses only its own connections.
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello).set("workers", "1");
    stage.start(builder);
    stage.until_listening(4);
    let backend = Backend::http().answers("a").inside(&stage.a).on(stage.a.at(TARGET)).start();
    for (pod, connections) in [(&stage.client, 1), (&stage.b, 2), (&stage.client, 2), (&stage.b, 2)] {
        for _ in 0..3 {
            assert_eq!(answered(pod), "a");
        }
        assert_eq!(backend.connections(), connections, "after {}", pod.name());
    }
}

#[test]
fn a_pods_idle_connections_take_no_place_of_another_pods() {
    let Some(mut stage) = Stage::set() else { return };
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello).set("workers", "1");
    stage.start(builder.set("limits", "{ poolConnections: 1 }"));
    stage.until_listening(4);
    let backend = Backend::http().answers("a").inside(&stage.a).on(stage.a.at(TARGET)).start();
    // The first one has the only place; the other gets it, and uses its connection again.
    for (pod, connections) in [(&stage.client, 1), (&stage.b, 2)] {
        for _ in 0..4 {
            assert_eq!(answered(pod), "a");
        }
        assert_eq!(backend.connections(), connections, "after {}", pod.name());
    }
}

#[test]
fn a_pod_that_adds_its_neighbours_address_is_still_itself() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let thief = stage.net.pod("thief");
    stage.until_listening(5);
    thief.ip(&format!("addr add {}/32 dev lo\n", stage.client.v4()));
    let _servers = [&stage.a, &stage.b].map(|pod| says_who(pod, pod.at(TARGET)));
    let _servers6 = [&stage.a, &stage.b].map(|pod| says_who(pod, SocketAddr::new(pod.v6(), TARGET)));
    for (pod, other) in [(&thief, &stage.client), (&stage.client, &thief)] {
        for _ in 0..5 {
            let said = who(pod, V4);
            assert!(!said.starts_with(&format!("{} ", other.v4())), "{said}");
            assert!(!said.is_empty());
        }
    }
}

#[test]
fn a_pod_calls_a_service_of_which_it_is_an_endpoint() {
    let Some(mut stage) = Stage::set() else { return };
    let hello =
        folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.client.v4()]);
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello);
    stage.start(builder);
    stage.until_listening(4);
    let _server = says_who(&stage.client, stage.client.at(TARGET));
    let own = stage.client.v4();
    assert_eq!(who(&stage.client, V4), format!("{own} at {own}:{TARGET}"));
}

#[test]
fn in_pods_after_a_sigkill_the_next_connect_goes_direct() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let load = Load::start(2, Reuse::Never, &get, dialler(&stage.client, V4));
    load.answered(50);
    let links = HeldLinks::on(&stage.net.pods_cgroup());
    assert!(links.len() >= 6, "only {} links on the pods' cgroup", links.len());
    stage.take_weir().kill();
    for to in [V4, V6, MAPPED] {
        assert_eq!(stage.get(to), "direct");
    }
    load.answered(50);
    assert!(load.stop().from("direct") > 0);
}

#[test]
fn a_weir_that_stops_leaves_no_route_and_loses_no_connect() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let route = |pod: &Pod| {
        let shown = pod.command("ip").args(["-6", "route", "show", "table", "local"]).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).contains("fd6a:9c1e:57b4:4136::/64")
    };
    assert!(route(&stage.client), "the route is there while weir is");
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let load = Load::start(2, Reuse::Never, &get, dialler(&stage.client, V4));
    load.answered(50);
    let mut weir = stage.take_weir();
    weir.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(weir.wait(std::time::Duration::from_secs(60)).success());
    load.answered(50);
    let end = load.stop();
    end.expect_no_failure();
    assert!(!route(&stage.client), "the route is left");
}

#[test]
fn two_weirs_at_a_time_lose_no_connect_and_the_second_serves_on() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let loads = [V4, V6].map(|to| Load::start(1, Reuse::Never, &get, dialler(&stage.client, to)));
    let next = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    let next = next.set("outgoing", "{ listen: 127.0.0.1:0 }").start();
    eventually("the next weir in every pod", || {
        next.metric("weir_interception_netns", &[("state", "listening")]) == 4.0
    });
    let mut first = stage.take_weir();
    first.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(first.wait(std::time::Duration::from_secs(60)).success());
    for load in loads {
        load.answered(50);
        let end = load.stop();
        end.expect_no_failure();
        assert_eq!(end.from("direct"), 0, "there was a weir all the time");
    }
    for to in [V4, V6, MAPPED] {
        assert!(["a", "b"].contains(&stage.get(to).as_str()), "{to}");
    }
    assert!(next.decisions("diverted") > 3.0);
}

#[test]
fn after_a_sigkill_the_next_weir_listens_where_the_last_one_did() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    stage.take_weir().kill();
    assert_eq!(stage.get(V6), "direct");
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    stage.start(builder);
    stage.until_listening(4);
    for to in [V4, V6] {
        assert!(["a", "b"].contains(&stage.get(to).as_str()), "{to}");
    }
}

#[test]
fn pods_come_and_go_under_load_and_nothing_of_them_stays() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let _backends = stage.backends();
    let get = Request::get("/").with("Host", "hello").with("Connection", "close");
    let load = Load::start(1, Reuse::Never, &get, dialler(&stage.client, V4));
    let before = stage.weir().descriptors();
    for round in 0..5 {
        let pod = stage.net.pod(&format!("brief{round}"));
        stage.until_listening(5);
        // An open connection, with one to an endpoint behind it.
        let mut client = Client::over(pod.connect(address(V4)).unwrap());
        client.get("/").expect_status(200);
        let link = format!("veth{}", pod.v4().to_string().rsplit('.').next().unwrap());
        stage.net.end(pod);
        drop(client);
        stage.until_listening(4);
        let node = stage.net.node();
        eventually("the pod's link goes with its namespace", || {
            !node.command("ip").args(["link", "show", &link]).output().unwrap().status.success()
        });
    }
    load.answered(20);
    let end = load.stop();
    end.expect_no_failure();
    eventually("weir's descriptors", || stage.weir().descriptors() <= before + 8);
}

/// A connection from `pod` that stays open, through weir.
fn stays_open(pod: &Pod) -> std::net::TcpStream {
    let mut stream = pod.connect(address(V4)).unwrap();
    stream.write_all(&[0]).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

#[test]
fn a_pod_that_ends_while_weir_drains_is_let_go() {
    let Some(mut stage) = Stage::set() else { return };
    let brief = stage.net.pod("brief");
    let hello = folder::service("hello", &["10.96.0.10"]).port("x", 80, TARGET).endpoints(&[stage.a.v4()]);
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello);
    stage.start(builder.set("drain", "{ grace: 2m }"));
    stage.until_listening(5);
    let _server = TcpServer::on(stage.a.listen(stage.a.at(TARGET)).unwrap(), |mut stream| {
        while stream.read_exact(&mut [0]).is_ok() && stream.write_all(&[0]).is_ok() {}
    });
    let (mut stays, ends) = (stays_open(&stage.client), stays_open(&brief));
    let mut weir = stage.take_weir();
    weir.signal(nix::sys::signal::Signal::SIGTERM);
    let drains = |weir: &Weir| weir.admin_get("/ready").text().contains("draining");
    eventually("the drain", || drains(&weir));
    let link = format!("veth{}", brief.v4().to_string().rsplit('.').next().unwrap());
    stage.net.end(brief);
    drop(ends);
    let node = stage.net.node();
    eventually("the pod's link goes with its namespace", || {
        !node.command("ip").args(["link", "show", &link]).output().unwrap().status.success()
    });
    assert!(drains(&weir), "weir has ended, so that this says nothing");
    stays.write_all(&[0]).unwrap();
    stays.read_exact(&mut [0]).expect("the other pod's connection");
    drop(stays);
    assert!(weir.wait(std::time::Duration::from_secs(60)).success());
}

#[test]
fn a_look_without_descriptors_ends_no_pod() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let _backends = stage.backends();
    let mut stays = stage.dial(V4);
    stays.get("/").expect_status(200);
    let (pid, touched) = (stage.weir().pid().to_string(), stage.net.netns().join("touched"));
    let allow = |descriptors: usize| {
        let limit = format!("--nofile={descriptors}:");
        let set = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(set.success());
    };
    let open = stage.weir().descriptors();
    eventually("a look that can list the folder, and open no file of it", || {
        // Somewhere between, one descriptor is left.
        for descriptors in open.saturating_sub(3)..open + 8 {
            allow(descriptors);
            std::fs::write(&touched, "").unwrap();
            std::fs::remove_file(&touched).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        allow(10_000);
        stage.weir().log().contains("cannot be opened, so nothing is known")
    });
    stage.until_listening(4);
    let log = stage.weir().log();
    assert!(!log.contains("not listening in a pod's network namespace any more"), "{log}");
    stays.get("/").expect_status(200);
}

/// What weir shows of the network namespace of this name: its state.
fn shown(stage: &mut Stage, name: &str) -> String {
    let state = stage.weir().state();
    let all = state["interception"]["netns"].as_array().cloned().unwrap_or_default();
    let one = all.iter().find(|it| it["name"] == name).cloned().unwrap_or_default();
    one["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_weir_cannot_listen_in_is_left_alone_and_shows_with_its_reason() {
    let Some(mut stage) = Stage::set() else { return };
    let (taken, v4_only) = (stage.net.pod("taken"), stage.net.pod("v4-only"));
    let port = taken.listen(address("127.127.255.254:4136")).unwrap();
    v4_only.sysctl("net/ipv6/conf/all/disable_ipv6", "1");
    let folder = stage.net.netns().to_owned();
    std::fs::write(folder.join("file"), "not a namespace").unwrap();
    std::fs::create_dir(folder.join("folder")).unwrap();
    std::os::unix::fs::symlink("/proc/0/ns/net", folder.join("dangling")).unwrap();
    std::os::unix::fs::symlink("/proc/self/ns/uts", folder.join("uts")).unwrap();
    std::os::unix::fs::symlink(stage.net.node().namespace(), folder.join("node")).unwrap();
    nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    stage.start(builder);
    stage.until_listening(5);
    let (_backends, _direct) = (stage.backends(), stage.direct());
    for (name, state) in [
        ("taken", "port_taken"),
        ("v4-only", "listening"),
        ("client", "listening"),
        ("file", "no_namespace"),
        ("folder", "no_namespace"),
        ("uts", "no_namespace"),
        ("pipe", "no_namespace"),
        ("node", "node"),
        ("dangling", ""),
    ] {
        assert_eq!(shown(&mut stage, name), state, "{name}");
    }
    assert_eq!(answered(&taken), "direct");
    for pod in [&stage.client, &v4_only] {
        assert!(["a", "b"].contains(&&*answered(pod)), "{}", pod.name());
    }
    // Once the port is free, weir listens there too.
    drop(port);
    stage.until_listening(6);
    assert!(["a", "b"].contains(&&*answered(&taken)));
}

/// A bind mount that is undone when dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn bind(from: &std::path::Path, to: std::path::PathBuf) -> Self {
        let mounted = std::process::Command::new("mount").arg("--bind").args([from, &to]).status().unwrap();
        assert!(mounted.success(), "mount --bind {} {}", from.display(), to.display());
        Self(to)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_namespace_is_found_once_it_is_mounted_with_no_more_capabilities_than_documented() {
    let Some(mut stage) = Stage::set() else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = ["client", "a"].map(|name| folder.path().join(name));
    // As a runtime does: first the file, then the mount.
    std::fs::write(&files[0], "").unwrap();
    let builder = Weir::new().in_pods_of(&stage.net, folder.path()).kubernetes(&stage.hello());
    stage.start(builder.with_only(&[Capability::SysAdmin, Capability::NetAdmin]));
    let (_backends, _direct) = (stage.backends(), stage.direct());
    eventually("the file", || shown(&mut stage, "client") == "no_namespace");
    assert_eq!(answered(&stage.client), "direct");
    let client = Mounted::bind(&stage.client.namespace(), files[0].clone());
    stage.until_listening(1);
    assert!(["a", "b"].contains(&&*answered(&stage.client)));
    std::fs::write(&files[1], "").unwrap();
    let _a = Mounted::bind(&stage.a.namespace(), files[1].clone());
    stage.until_listening(2);
    assert!(["a", "b"].contains(&&*answered(&stage.a)), "an endpoint that is a client as well");
    // Unmounted, as at a pod's end.
    drop(client);
    stage.until_listening(1);
    assert_eq!(answered(&stage.client), "direct");
}

#[test]
fn without_the_right_to_enter_namespaces_weir_says_so_and_serves_explicit_clients() {
    let Some(stage) = Stage::set() else { return };
    let weir = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    let weir = weir.with_only(&[Capability::Bpf, Capability::NetAdmin]).start();
    let ready = weir.admin_get("/ready");
    ready.expect_status(503);
    assert!(ready.text().contains("CAP_SYS_ADMIN"), "{}", ready.text());
    drop(weir);
    let gone =
        Weir::new().in_pods_of(&stage.net, std::path::Path::new("/nowhere")).kubernetes(&stage.hello());
    let ready = gone.start().admin_get("/ready");
    ready.expect_status(503);
    assert!(ready.text().contains("/nowhere is no folder"), "{}", ready.text());
}

#[test]
fn random_destinations_in_pods_reach_exactly_what_was_dialled() {
    const SERVICES: u16 = 40;
    const CONNECTS: usize = 2_000;
    let Some(mut stage) = Stage::set() else { return };
    let mut builder = Weir::new().in_pods(&stage.net);
    let at = |number: u16| SocketAddr::new(format!("10.96.7.{number}").parse().unwrap(), 1000 + number);
    for number in 1..=SERVICES {
        let to = at(number);
        let service = folder::service(&format!("s{number}"), &[&to.ip().to_string()]);
        builder = builder.kubernetes(&service.port("x", to.port(), 7000 + number).endpoints(&[stage.a.v4()]));
    }
    stage.start(builder);
    stage.until_listening(4);
    let _servers: Vec<_> = (1..=SERVICES).map(|it| says_who(&stage.a, stage.a.at(7000 + it))).collect();
    let next = Arc::new(AtomicUsize::new(0));
    let pods = [stage.client.clone(), stage.b.clone()];
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (next, pod, endpoint) = (next.clone(), pods[thread % 2].clone(), stage.a.v4());
            std::thread::spawn(move || {
                let mut wrong = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CONNECTS {
                        return wrong;
                    }
                    let service = u16::try_from(number * 7919 % usize::from(SERVICES)).unwrap() + 1;
                    let mut client = Client::over(pod.connect(at(service)).unwrap());
                    let peer = client.stream().peer_addr().unwrap();
                    let said = String::from_utf8_lossy(&client.send([0]).rest().0).into_owned();
                    let expected = format!("{} at {endpoint}:{}", pod.v4(), 7000 + service);
                    if said != expected || peer != at(service) {
                        wrong.push(format!("{} as {peer}: {said}", at(service)));
                    }
                }
            })
        })
        .collect();
    let wrong: Vec<_> = threads.into_iter().flat_map(|it| it.join().unwrap()).collect();
    assert!(wrong.is_empty(), "{} wrong: {:?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    assert_eq!(stage.diverted(), CONNECTS as f64);
}
