//! As many pods as a node has by kubelet's default, and more of them than weir has descriptors for.

use super::{Stage, V4, V6, address, answered};
use e2e::{Client, Pod, Weir, eventually};

/// kubelet's `maxPods`.
const PODS: usize = 110;

/// Descriptors of each pod that weir keeps some for: its listeners with two workers' duplicates of them, a program, and two more.
const EACH: usize = 12;

/// What else may come and go meanwhile.
const SLACK: usize = 16;

fn pods(stage: &mut Stage, name: &str, count: usize) -> Vec<Pod> {
    (0..count).map(|number| stage.net.pod(&format!("{name}{number}"))).collect()
}

/// The node's ends of the links of its pods.
fn links(stage: &Stage) -> usize {
    let shown = stage.net.node().command("ip").args(["-oneline", "link", "show", "type", "veth"]).output();
    String::from_utf8(shown.unwrap().stdout).unwrap().lines().count()
}

#[test]
fn a_hundred_and_ten_pods_come_and_go_under_load_and_nothing_of_them_stays() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let _backends = stage.backends();
    super::loopback_in_pods::until_served(&mut stage, 4);
    let (before, links_before) = (stage.weir().descriptors(), links(&stage));
    let all = pods(&mut stage, "many", PODS);
    super::loopback_in_pods::until_served(&mut stage, 4 + PODS);
    stage.until_listening(4 + PODS);
    let made = stage.weir().descriptors();
    assert!(made <= before + PODS * EACH + SLACK, "{before} descriptors, and {made} with the pods");
    // Each keeps a connection of either family, and so connections to endpoints from its own namespace.
    let open: Vec<_> = all
        .iter()
        .flat_map(|pod| [V4, V6].map(|to| Client::over(pod.connect(address(to)).unwrap())))
        .map(|mut client| {
            let body = client.get("/").text();
            assert!(["a", "b"].contains(&body.as_str()), "{body}");
            client
        })
        .collect();
    for pod in all {
        stage.net.end(pod);
    }
    // Those are the test's own, which keep the namespaces; weir's end with the pods.
    for mut client in open {
        client.closed();
    }
    eventually("the end of every namespace, with its link", || links(&stage) == links_before);
    stage.until_listening(4);
    let mut after = 0;
    eventually("the descriptors that weir had before", || {
        after = stage.weir().descriptors();
        after <= before + SLACK
    });
    for state in ["failed", "busy", "no_room"] {
        assert_eq!(stage.weir().metric("weir_interception_netns", &[("state", state)]), 0.0, "{state}");
    }
    assert!(["a", "b"].contains(&answered(&stage.client).as_str()));
}

#[test]
fn pods_beyond_those_that_weir_has_descriptors_for_go_direct_and_its_probes_answer() {
    /// Half of 700 descriptors suffice for so many.
    const ROOM: usize = 700 / 2 / EACH;
    let Some(mut stage) = Stage::set() else { return };
    let mut all = pods(&mut stage, "more", ROOM + 4);
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello()).with_descriptors(700, 700);
    stage.start(builder);
    let (_backends, _direct) = (stage.backends(), stage.direct());
    stage.until_listening(ROOM);
    let left = |stage: &mut Stage| stage.weir().metric("weir_interception_netns", &[("state", "no_room")]);
    eventually("the others to be left", || left(&mut stage) == 8.0);
    let seen = &stage.weir().state()["interception"]["netns"];
    let why = format!("weir has no descriptors for more than {ROOM} (RLIMIT_NOFILE)");
    assert!(seen.as_array().unwrap().iter().any(|it| it["why"] == why), "{seen}");
    all.push(stage.client.clone());
    let answers: Vec<_> = all.iter().map(answered).collect();
    assert!(answers.iter().all(|it| ["a", "b", "direct"].contains(&it.as_str())), "{answers:?}");
    assert!(
        answers.iter().any(|it| it == "direct") && answers.iter().any(|it| it != "direct"),
        "{answers:?}"
    );
    stage.weir().admin_get("/ready").expect_status(200);
    // The place of one that ends is the next one's.
    let ended = all.remove(0);
    stage.net.end(ended);
    eventually("one less", || left(&mut stage) == 7.0);
    stage.until_listening(ROOM);
}
