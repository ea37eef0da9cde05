//! weir's sockets in the pods' own network namespaces, when a weir or a pod ends.

use std::io::{Read, Write};

use super::{MAPPED, Stage, TARGET, V4, V6, address, dialler};
use e2e::load::Reuse;
use e2e::net::links::HeldLinks;
use e2e::raw::TcpServer;
use e2e::{Client, Load, Pod, Request, Weir, eventually, folder};

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
