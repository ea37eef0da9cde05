//! Whose connections are diverted: this node's pods, as they are told of and annotated.

use std::time::Duration;

use super::{Stage, TARGET, V4, address};
use e2e::client::Client;
use e2e::net::NODE_V4;
use e2e::raw::TcpServer;
use e2e::weir::builder::Builder;
use e2e::weir::folder::Pod as Told;
use e2e::{Backend, Clock, Net, Pod, Weir, eventually, folder};

/// The UID of the pod of this number, and that as systemd's cgroups have it.
pub(super) fn uid(number: u8) -> String {
    format!("0b7f1c1e-0000-4000-8000-0000000000{number:02}")
}

/// A burstable pod of this number, with the cgroupfs driver, and what is told of it.
pub(super) fn pod(net: &mut Net, number: u8) -> (Pod, Told) {
    let pod = net.pod(&format!("burstable/pod{}", uid(number)));
    (pod, folder::pod(&format!("pod-{number}"), &uid(number)))
}

/// A weir that enrols pods one by one.
pub(super) fn by_pod(stage: &Stage) -> Builder {
    let builder = Weir::new().on_node(&stage.net).kubernetes(&stage.hello());
    builder.set_in("transparent", "enrol", "pods").env("POD_NAMESPACE", "weir").env("NODE_NAME", "n1")
}

/// What a pod is answered at [`V4`]: `direct`, or the name of an endpoint.
#[track_caller]
fn answered(pod: &Pod) -> String {
    Client::over(pod.connect(address(V4)).unwrap()).get("/").text()
}

/// Waits until what weir shows of the pod says this.
#[track_caller]
fn shows(stage: &mut Stage, number: u8, state: &str, why: &str) {
    let name = format!("pod-{number}");
    eventually(&format!("{name}: {state}, {why}"), || {
        let enrolment = &stage.weir().state()["enrolment"];
        enrolment["pods"].as_array().into_iter().flatten().any(|it| {
            let has = |key: &str, part: &str| it[key].as_str().is_some_and(|text| text.contains(part));
            has("pod", &name) && has("why", why) && it["state"] == state
        })
    });
}

#[test]
fn pods_are_diverted_by_default_and_annotations_and_namespaces_decide_otherwise() {
    let Some(mut stage) = Stage::set() else { return };
    let mut pods = Vec::new();
    let mut builder = by_pod(&stage);
    let off = ("weir.dev/divert", "disabled");
    let on = ("weir.dev/divert", "enabled");
    for (number, namespace, annotation, state, why) in [
        (1, "default", None, "enrolled", "by default"),
        (2, "default", Some(off), "direct", "disabled by annotation on the pod"),
        (3, "quiet", None, "direct", "disabled by annotation on namespace quiet"),
        (4, "quiet", Some(on), "enrolled", "enabled by annotation on the pod"),
        (5, "kube-system", None, "direct", "namespace kube-system is in transparent.excludeNamespaces"),
        (6, "weir", None, "direct", "weir's own namespace"),
        (7, "weir", Some(on), "enrolled", "enabled by annotation on the pod"),
        (8, "default", Some((off.0, "false")), "direct", "disabled by annotation on the pod"),
        (9, "quiet", Some((off.0, "True")), "enrolled", "enabled by annotation on the pod"),
        (10, "quiet", Some((off.0, "perhaps")), "direct", "disabled by annotation on namespace quiet"),
    ] {
        let (pod, told) = pod(&mut stage.net, number);
        let told =
            annotation.iter().fold(told.namespace(namespace), |told, (key, value)| told.annotate(key, value));
        builder = builder.pod(&told.spec("nodeName: n1"));
        pods.push((pod, number, state, why));
    }
    let (stranger, _) = pod(&mut stage.net, 20);
    let (elsewhere, told) = pod(&mut stage.net, 21);
    builder = builder.pod(&told.spec("nodeName: n2"));
    stage.start(builder.file("quiet.yaml", &folder::namespace("quiet", off.0, off.1)));
    let (_backends, _direct) = (stage.backends(), stage.direct());
    for (pod, number, state, why) in pods {
        shows(&mut stage, number, state, why);
        assert_eq!(answered(&pod) == "direct", state == "direct", "pod {number}");
    }
    for pod in [stranger, elsewhere, stage.client.clone()] {
        assert_eq!(answered(&pod), "direct", "nobody told of {}", pod.name());
    }
    assert_eq!(stage.weir().metric("weir_enrolment_pods", &[("state", "enrolled")]), 4.0);
    assert_eq!(stage.weir().metric("weir_enrolment_pods", &[("state", "direct")]), 6.0);
    stage.weir().expect_log("weir.dev/divert on the pod is `perhaps`");
    let log = stage.weir().log();
    let warning = log.lines().find(|line| line.contains("`perhaps`")).unwrap();
    assert!(warning.contains("WARN") && warning.contains("quiet/pod-10"), "{warning}");
    assert!(stage.weir().decisions("direct_not_enrolled") > 0.0);
    let admin = stage.weir().admin().to_string();
    let status = Weir::new().on_node(&stage.net).run(&["status", "--admin", &admin]).stdout;
    assert!(
        status.contains("\npods: 4 diverted, 6 direct, 1 with annotations that were ignored\n"),
        "{status}"
    );
}

#[test]
fn a_pod_in_the_nodes_network_is_never_enrolled_and_weir_says_why() {
    let Some(mut stage) = Stage::set() else { return };
    let host = stage.net.host_pod(&format!("pod{}", uid(1)));
    let told = folder::pod("pod-1", &uid(1)).annotate("weir.dev/divert", "enabled").spec("hostNetwork: true");
    let builder = by_pod(&stage).pod(&folder::pod("x", &uid(2)).spec("nodeName: n2"));
    stage.start(builder.env("NODE_NAME", "").pod(&told));
    let _direct = stage.direct();
    shows(&mut stage, 1, "direct", "hostNetwork");
    assert_eq!(answered(&host), "direct");
}

#[test]
fn an_annotation_that_changes_counts_from_the_next_connection_on() {
    let Some(mut stage) = Stage::set() else { return };
    let (pod, told) = pod(&mut stage.net, 1);
    let told = told.spec("nodeName: n1");
    let builder = by_pod(&stage).pod(&told);
    stage.start(builder);
    let (_backends, _direct) = (stage.backends(), stage.direct());
    eventually("diversion", || answered(&pod) != "direct");
    let mut before = Client::over(pod.connect(address(V4)).unwrap());
    stage.weir().folder().pod(&told.clone().annotate("weir.dev/divert", "disabled"));
    eventually("no diversion", || answered(&pod) == "direct");
    assert_ne!(before.get("/").text(), "direct", "what was diverted stays with weir");
    stage.weir().folder().pod(&told.clone().annotate("weir.dev/divert", "perhaps"));
    eventually("diversion again", || answered(&pod) != "direct");
    shows(&mut stage, 1, "enrolled", "by default");
    assert_eq!(stage.weir().metric("weir_enrolment_mistakes", &[]), 1.0);
    let state = stage.weir().state();
    assert!(state["enrolment"]["pods"][0]["mistakes"][0].as_str().unwrap().contains("`perhaps`"), "{state}");
    stage
        .weir()
        .folder()
        .replace("default.yaml", &folder::namespace("default", "weir.dev/divert", "disabled"));
    eventually("the namespace's wish", || answered(&pod) == "direct");
}

#[test]
fn a_pod_is_diverted_once_it_has_its_cgroup_and_again_when_that_is_made_anew() {
    let Some(mut stage) = Stage::set() else { return };
    let told = folder::pod("pod-1", &uid(1)).spec("nodeName: n1");
    let builder = by_pod(&stage).pod(&told);
    stage.start(builder);
    let (_backends, _direct) = (stage.backends(), stage.direct());
    shows(&mut stage, 1, "not_found", "by default");
    // systemd's driver, guaranteed.
    let name = format!("kubepods-pod{}.slice", uid(1).replace('-', "_"));
    let path = stage.net.pods_cgroup().join(&name);
    std::fs::create_dir(&path).unwrap();
    shows(&mut stage, 1, "enrolled", "by default");
    std::fs::remove_dir(&path).unwrap();
    shows(&mut stage, 1, "not_found", "by default");
    let pod = stage.net.pod(&name);
    eventually("diversion", || answered(&pod) != "direct");
}

#[test]
fn a_pod_that_appears_is_diverted_within_100_ms_of_its_event() {
    let Some(mut stage) = Stage::set() else { return };
    let builder = by_pod(&stage);
    stage.start(builder);
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let mut took: Vec<Duration> = (1..=7)
        .map(|number| {
            let (pod, told) = pod(&mut stage.net, number);
            assert_eq!(answered(&pod), "direct");
            stage.weir().folder().pod(&told.spec("nodeName: n1"));
            let event = Clock::start();
            eventually("diversion", || answered(&pod) != "direct");
            event.elapsed()
        })
        .collect();
    took.sort();
    // Other tests take the machine's cores meanwhile, so not each counts.
    assert!(took[3] < Duration::from_millis(100), "{took:?}");
}

#[test]
fn pods_are_diverted_again_when_their_parent_cgroup_is_made_anew() {
    let Some(mut stage) = Stage::set() else { return };
    let root = stage.net.pods_cgroup().join("kubepods");
    std::fs::create_dir(&root).unwrap();
    let settings = format!(
        "{{ sockets: node, listen: \"[::]:4142\", ports: 8, addresses: [{NODE_V4}], cgroup: {}, enrol: pods }}",
        root.display()
    );
    let told = folder::pod("pod-1", &uid(1)).spec("nodeName: n1");
    let builder = by_pod(&stage).set("transparent", &settings).pod(&told);
    stage.start(builder);
    let (_backends, _direct) = (stage.backends(), stage.direct());
    std::fs::remove_dir(&root).unwrap();
    eventually("the report", || stage.weir().admin_get("/ready").status == 503);
    let pod = stage.net.pod(&format!("kubepods/pod{}", uid(1)));
    eventually("diversion", || answered(&pod) != "direct");
    eventually("readiness", || stage.weir().admin_get("/ready").status == 200);
    stage.weir().expect_log("made anew");
}

#[test]
fn ports_that_a_pod_skips_go_direct_and_its_opaque_ones_are_not_parsed() {
    let Some(mut stage) = Stage::set() else { return };
    let (skips, told_skips) = pod(&mut stage.net, 1);
    let (opaque, told_opaque) = pod(&mut stage.net, 2);
    let builder = by_pod(&stage)
        .pod(&told_skips.spec("nodeName: n1").annotate("weir.dev/skip-ports", "79-80,x"))
        .pod(&told_opaque.spec("nodeName: n1").annotate("weir.dev/opaque-ports", "80"));
    stage.start(builder);
    let _direct = stage.direct();
    shows(&mut stage, 1, "enrolled", "by default");
    shows(&mut stage, 2, "enrolled", "by default");
    assert_eq!(answered(&skips), "direct");
    assert_eq!(stage.weir().decisions("direct_skipped_port"), 1.0);
    assert_eq!(stage.weir().metric("weir_enrolment_mistakes", &[]), 1.0);
    let _echo = [&stage.a, &stage.b].map(|pod| TcpServer::echo(pod.listen(pod.at(TARGET)).unwrap()));
    let odd = "GET / HTTP/1.1\nContent-Length: 1\nContent-Length: 2\n\n";
    Client::over(opaque.connect(address(V4)).unwrap()).send(odd).expect(odd);
    assert_eq!(stage.diverted(), 1.0);
}

#[test]
fn a_service_says_which_of_its_ports_are_skipped_and_which_are_opaque() {
    let Some(mut stage) = Stage::set() else { return };
    let bare = folder::service("web", &["10.96.0.10"])
        .port("http", 80, TARGET)
        .port("raw", 81, TARGET)
        .endpoints(&[stage.a.v4()]);
    let web = bare.clone();
    let web = web.annotate("weir.dev/skip-ports", "80").annotate("weir.dev/opaque-ports", "81,nonsense");
    let builder = Weir::new().on_node(&stage.net).kubernetes(&web);
    stage.start(builder);
    let _direct = Backend::http().answers("direct").inside(&stage.beyond).on(address(V4)).start();
    let _echo = TcpServer::echo(stage.a.listen(stage.a.at(TARGET)).unwrap());
    let odd = "GET / HTTP/1.1\nContent-Length: 1\nContent-Length: 2\n\n";
    stage.dial("10.96.0.10:81").send(odd).expect(odd);
    assert_eq!(stage.get(V4), "direct");
    assert_eq!(stage.diverted(), 1.0);
    // What the Service says changes, and so does what is diverted.
    stage.weir().folder().kubernetes(&bare);
    eventually("diversion of port 80", || {
        let before = stage.diverted();
        drop(stage.dial(V4));
        stage.diverted() > before
    });
    stage.weir().folder().kubernetes(&web);
    eventually("port 80 left alone again", || {
        let before = stage.diverted();
        drop(stage.dial(V4));
        stage.diverted() == before
    });
    assert!(stage.weir().reports("`nonsense` is neither"), "{:#}", stage.weir().state()["fileProblems"]);
}
