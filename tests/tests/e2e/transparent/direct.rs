//! Connections that were opened while nothing diverted them: they are counted pod by pod, and ended if that is wanted.

use std::time::{Duration, Instant};

use super::pods::{by_pod, pod};
use super::{MAPPED, Stage, V4, V6, address, until_diverted};
use e2e::backend::Received;
use e2e::net::place::Capability::{Bpf, NetAdmin, SysAdmin};
use e2e::time::holds_for;
use e2e::weir::builder::Builder;
use e2e::{Answer, Backend, Client, Pod, Request, Weir, eventually};
use serde_json::Value;

/// A weir that looks for direct connections each second, with its sockets on the node or in the pods.
fn counting(stage: &Stage, in_pods: bool) -> Builder {
    let builder = match in_pods {
        true => Weir::new().in_pods(&stage.net),
        false => {
            let netns = stage.net.netns().display().to_string();
            Weir::new().on_node(&stage.net).set_in("transparent", "netns", &netns)
        }
    };
    builder.kubernetes(&stage.hello()).set_in("transparent", "adoptEvery", "1s")
}

/// A connection on which one request was answered by the Service's own address.
fn kept(pod: &Pod, to: &str) -> Client {
    let mut client = Client::over(pod.connect(address(to)).unwrap());
    client.get("/").expect_body("direct");
    client
}

fn reported(stage: &mut Stage) -> Value {
    stage.weir().state()["interception"]["direct"].clone()
}

/// Waits until so many of each pod are shown.
#[track_caller]
fn shows(stage: &mut Stage, pods: &[(&str, u64)]) {
    let is = |direct: &Value| {
        let shown = direct["pods"].as_array().into_iter().flatten();
        let shown: Vec<_> =
            shown.map(|it| (it["pod"].as_str().unwrap(), it["connections"].as_u64().unwrap())).collect();
        shown == pods && direct["looked"].as_u64() > Some(0)
    };
    eventually(&format!("{pods:?}"), || is(&reported(stage)));
    let sum: u64 = pods.iter().map(|(_, count)| count).sum();
    assert_eq!(reported(stage)["connections"], sum);
}

/// Waits until every namespace has been looked into once more.
#[track_caller]
fn until_looked_again(stage: &mut Stage) {
    let looks = |stage: &mut Stage| stage.weir().metric("weir_interception_direct_looks_total", &[]);
    let before = looks(stage);
    eventually("two more rounds", || looks(stage) >= before + 8.0);
}

#[test]
fn connections_opened_without_weir_are_counted_by_pod_until_they_end() {
    for in_pods in [false, true] {
        let Some(mut stage) = Stage::set() else { return };
        let (_backends, _direct) = (stage.backends(), stage.direct());
        let mut of_client = [V4, V4, V6, MAPPED].map(|to| kept(&stage.client, to));
        let mut of_b = kept(&stage.b, V4);
        let elsewhere = stage.client.connect(stage.a.at(super::TARGET)).unwrap();
        let builder = counting(&stage, in_pods);
        stage.start(builder);
        shows(&mut stage, &[("b", 1), ("client", 4)]);
        let admin = stage.weir().admin().to_string();
        let status = Weir::new().on_node(&stage.net).run(&["status", "--admin", &admin]).stdout;
        let said =
            "direct connections, opened while nothing diverted them: 5 of 2 pods\n  b: 1\n  client: 4\n";
        assert!(status.contains(said), "{status}");
        // Those that weir diverts are none, and neither are its own to endpoints.
        until_diverted(&stage);
        let mut diverted = [V4, V6, MAPPED].map(|to| stage.dial(to));
        for client in &mut diverted {
            assert_ne!(client.get("/").text(), "direct");
        }
        until_looked_again(&mut stage);
        shows(&mut stage, &[("b", 1), ("client", 4)]);
        // What is counted is not touched.
        for client in of_client.iter_mut().chain([&mut of_b]) {
            client.get("/").expect_body("direct");
        }
        drop((of_client, elsewhere));
        shows(&mut stage, &[("b", 1)]);
        assert_eq!(stage.weir().metric("weir_interception_direct_connections", &[]), 1.0);
        assert_eq!(stage.weir().metric("weir_interception_direct_closed_total", &[]), 0.0);
    }
}

#[test]
fn only_what_would_be_diverted_now_is_counted() {
    let Some(mut stage) = Stage::set() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let netns = stage.net.netns().display().to_string();
    let builder = by_pod(&stage).set_in("transparent", "netns", &netns);
    let mut builder = builder.set_in("transparent", "adoptEvery", "1s");
    let mut held = Vec::new();
    for (number, annotation) in [
        (1, None),
        (2, Some(("weir.dev/divert", "disabled"))),
        (3, Some(("weir.dev/skip-ports", "80"))),
        (4, Some(("weir.dev/skip-ports", "81"))),
    ] {
        let (pod, told) = pod(&mut stage.net, number);
        let told = annotation.iter().fold(told, |told, (key, value)| told.annotate(key, value));
        builder = builder.pod(&told.spec("nodeName: n1"));
        held.push(kept(&pod, V4));
    }
    // Nobody tells of this pod.
    held.push(kept(&stage.client, V4));
    stage.start(builder);
    shows(&mut stage, &[("default/pod-1", 1), ("default/pod-4", 1)]);
    drop(held);
    shows(&mut stage, &[]);
}

#[test]
fn close_idle_ends_connections_that_nobody_uses_and_no_other() {
    for in_pods in [false, true] {
        let Some(mut stage) = Stage::set() else { return };
        let _backends = stage.backends();
        // Some clock ticks after the request, so that the kernel tells which was the last.
        let answer = |request: &Received| {
            let held = request.head.target() == "/held";
            Answer::ok("direct").after(Duration::from_millis(if held { 20_000 } else { 100 }))
        };
        let _direct =
            [V4, V6].map(|to| Backend::http().script(answer).inside(&stage.beyond).on(address(to)).start());
        let mut waiting = kept(&stage.client, V4);
        waiting.start(&Request::get("/held"));
        let mut idle = [V4, V6].map(|to| kept(&stage.client, to));
        let mut used = kept(&stage.client, V4);
        // To no Service, and of nobody who is enrolled.
        let elsewhere = stage.client.connect(stage.a.at(super::TARGET)).unwrap();
        let mut of_node = kept(&stage.net.node(), V4);
        let builder = counting(&stage, in_pods);
        let builder = builder.set_in("transparent", "adopt", "close-idle");
        stage.start(builder.set_in("transparent", "adoptIdle", "4s"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while stage.weir().metric("weir_interception_direct_closed_total", &[]) < 2.0 {
            used.get("/").expect_body("direct");
            assert!(Instant::now() < deadline, "{}", reported(&mut stage));
            std::thread::sleep(Duration::from_millis(100));
        }
        used.get("/").expect_body("direct");
        of_node.get("/").expect_body("direct");
        assert!(idle.iter_mut().all(Client::is_closed));
        assert!(Client::over(elsewhere).silent_for(Duration::from_millis(100)), "still open");
        shows(&mut stage, &[("client", 2)]);
        assert_eq!(reported(&mut stage)["closed"], 2);
        waiting.response().expect_body("direct");
    }
}

#[test]
fn what_cannot_be_counted_is_said_with_its_reason() {
    for (settings, capabilities, why) in [
        ("/nowhere", &[Bpf, NetAdmin, SysAdmin][..], "/nowhere cannot be listed"),
        ("", &[Bpf, NetAdmin], "CAP_SYS_ADMIN"),
    ] {
        let Some(mut stage) = Stage::set() else { return };
        let folder =
            if settings.is_empty() { stage.net.netns().display().to_string() } else { settings.into() };
        let builder = Weir::new().on_node(&stage.net).kubernetes(&stage.hello()).with_only(capabilities);
        let builder = builder.set_in("transparent", "netns", &folder);
        stage.start(builder.set_in("transparent", "adoptEvery", "1s"));
        let admin = stage.weir().admin().to_string();
        let status = || Weir::new().on_node(&stage.net).run(&["status", "--admin", &admin]).stdout;
        eventually(why, || {
            status()
                .lines()
                .any(|it| it.starts_with("direct connections are not counted: ") && it.contains(why))
        });
    }
}

#[test]
fn nobody_looks_for_connections_where_that_is_off() {
    for (adopt, looks) in [("count", true), ("off", false)] {
        let Some(mut stage) = Stage::set() else { return };
        let (_backends, _direct) = (stage.backends(), stage.direct());
        let _kept = kept(&stage.client, V4);
        let builder = counting(&stage, false).set_in("transparent", "adopt", adopt);
        stage.start(builder);
        if looks {
            shows(&mut stage, &[("client", 1)]);
            continue;
        }
        // Time for several looks.
        let none = || stage.weir().metric("weir_interception_direct_looks_total", &[]) == 0.0;
        assert!(holds_for(Duration::from_secs(4), none));
        let admin = stage.weir().admin().to_string();
        let status = Weir::new().on_node(&stage.net).run(&["status", "--admin", &admin]).stdout;
        assert!(!status.contains("direct connections"), "{status}");
    }
}
