//! Pods in which weir cannot listen, or is not to: each is left alone, is counted, and shows with its reason; and the others go
//! on.

use std::net::SocketAddr;

use super::loopback_in_pods::until_served;
use super::{Stage, TARGET, V4, V6, address, answered, pods};
use e2e::net::gate::Gate;
use e2e::raw::TcpServer;
use e2e::weir::builder::Builder;
use e2e::weir::folder::Pod as Told;
use e2e::{Backend, Client, Pod, Weir, eventually, folder};

/// A weir in the pods that enrols those that are told of.
fn by_pod(stage: &Stage) -> Builder {
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
    builder.set_in("transparent", "enrol", "pods").env("NODE_NAME", "n1")
}

/// A pod of this number, told of with its addresses.
fn pod(stage: &mut Stage, number: u8) -> (Pod, Told) {
    let (pod, told) = pods::pod(&mut stage.net, number);
    let told = told.at(pod.v4()).at(pod.v6()).spec("nodeName: n1");
    (pod, told)
}

/// Whether an endpoint has answered, and not the Service's own address beyond the node.
fn is_diverted(pod: &Pod) -> bool {
    ["a", "b"].contains(&answered(pod).as_str())
}

/// How many network namespaces are in this state.
fn counted(stage: &mut Stage, state: &str) -> f64 {
    stage.weir().metric("weir_interception_netns", &[("state", state)])
}

/// Waits until `weir status` says this of pods without a listener, and the metric counts so many for that reason.
#[track_caller]
fn shows(stage: &mut Stage, pod: &str, reason: &str, why: &str, count: usize) {
    let admin = stage.weir().admin().to_string();
    let is_it = |line: &str| {
        line.starts_with(&format!("  {pod}: without weir's listener for "))
            && line.ends_with(&format!("{reason} ({why})"))
    };
    let mut status = String::new();
    eventually(&format!("{pod} without a listener"), || {
        status = Weir::new().on_node(&stage.net).run(&["status", "--admin", &admin]).stdout;
        status.lines().any(is_it)
    });
    let name = "weir_interception_pods_without_listener";
    assert_eq!(stage.weir().metric(name, &[("reason", reason)]), count as f64, "{status}");
    let one = Weir::new().on_node(&stage.net).run(&["status", "--admin", &admin, "--pod", pod]).stdout;
    assert!(one.contains("  without weir's listener for ") && one.contains(why), "{one}");
}

#[test]
fn a_pod_whose_loopback_interface_is_down_goes_direct_until_it_is_up() {
    let Some(mut stage) = Stage::set() else { return };
    let (down, told) = pod(&mut stage, 1);
    down.ip("link set lo down\n");
    let (other, told_too) = pod(&mut stage, 2);
    let builder = by_pod(&stage).pod(&told).pod(&told_too);
    stage.start(builder);
    let (_backends, _direct) = (stage.backends(), stage.direct());
    shows(&mut stage, "default/pod-1", "loopback_down", "its loopback interface is down", 1);
    assert_eq!(counted(&mut stage, "loopback_down"), 1.0);
    assert_eq!(answered(&down), "direct");
    assert!(is_diverted(&other));
    down.ip("link set lo up\n");
    eventually("diversion", || is_diverted(&down));
    for to in [V4, V6] {
        let body = Client::over(down.connect(address(to)).unwrap()).get("/").text();
        assert!(["a", "b"].contains(&body.as_str()), "{to}: {body}");
    }
    eventually("no pod without a listener", || counted(&mut stage, "loopback_down") == 0.0);
    down.ip("link set lo down\n");
    // A connection that is opened before weir has seen it leads nowhere.
    eventually("weir to see it", || counted(&mut stage, "loopback_down") == 1.0);
    assert_eq!(answered(&down), "direct");
}

#[test]
fn two_pods_in_one_network_namespace_go_direct_and_a_third_one_is_diverted() {
    let Some(mut stage) = Stage::set() else { return };
    let (one, told) = pod(&mut stage, 1);
    let within = stage.net.pod_within(&one, &format!("burstable/pod{}", pods::uid(2)));
    let told_within = folder::pod("pod-2", &pods::uid(2)).at(one.v4()).spec("nodeName: n1");
    let (third, told_third) = pod(&mut stage, 3);
    let builder = by_pod(&stage).pod(&told).pod(&told_within).pod(&told_third);
    stage.start(builder);
    let (_backends, _direct) = (stage.backends(), stage.direct());
    eventually("diversion of the first", || is_diverted(&one));
    // From its first connection on it is neither's.
    assert_eq!(answered(&within), "direct");
    assert_eq!(answered(&one), "direct");
    assert!(is_diverted(&third));
    assert!(stage.weir().decisions("direct_shared_netns") >= 2.0);
    let why = "processes of several pods connect from its network namespace";
    shows(&mut stage, "default/pod-1", "shared", why, 2);
}

/// Docker in Docker, or whatever makes networks of its own: what a pod's file leads to is not where these connect from.
#[test]
fn a_network_namespace_that_a_pod_makes_itself_is_left_alone_and_counted() {
    let Some(mut stage) = Stage::set() else { return };
    let (own, told) = pod(&mut stage, 1);
    stage.start(by_pod(&stage).pod(&told));
    let (_backends, _direct) = (stage.backends(), stage.direct());
    eventually("diversion", || is_diverted(&own));
    let before = stage.weir().decisions("direct_no_listener");
    // It has no route anywhere: what counts is that its connect() is none of the pod's.
    let script = "exec 3<>/dev/tcp/10.96.0.10/80";
    let nested = own.command("unshare").args(["--net", "bash", "-c", script]).output().unwrap();
    assert!(!nested.status.success());
    assert!(stage.weir().decisions("direct_no_listener") > before, "the connect was not counted");
    assert!(is_diverted(&own), "the pod's own connections");
}

#[test]
fn a_pod_with_a_user_namespace_of_its_own_is_served_as_any_other() {
    let Some(mut stage) = Stage::set() else { return };
    let name = format!("burstable/pod{}", pods::uid(1));
    let pod = stage.net.pod_of_other_users(&name);
    let told = folder::pod("pod-1", &pods::uid(1)).at(pod.v4()).at(pod.v6()).spec("nodeName: n1");
    stage.start(by_pod(&stage).pod(&told));
    let _backends = stage.backends();
    until_served(&mut stage, 1);
    for to in [V4, V6] {
        let mut client = Client::over(pod.connect(address(to)).unwrap());
        client.get("/").expect_status(200);
        let own = client.stream().local_addr().unwrap().ip().to_canonical();
        assert_eq!(own, if to == V6 { pod.v6() } else { pod.v4() });
    }
    for to in ["127.0.0.1:4140", "[::1]:4140"] {
        Client::over(pod.connect(address(to)).unwrap()).get("http://hello/").expect_status(200);
    }
    assert!(stage.diverted() >= 2.0);
}

#[test]
fn enrolled_pods_without_a_listener_show_with_their_reason_and_for_how_long() {
    let Some(mut stage) = Stage::set() else { return };
    let (taken, told) = pod(&mut stage, 1);
    let port = taken.listen(address("127.127.255.254:4136")).unwrap();
    // As with gVisor, or a runtime that has its namespaces elsewhere.
    let (nowhere, told_nowhere) = pod(&mut stage, 2);
    std::fs::remove_file(stage.net.netns().join(format!("burstable-pod{}", pods::uid(2)))).unwrap();
    let (served, told_served) = pod(&mut stage, 3);
    let builder = by_pod(&stage).pod(&told).pod(&told_nowhere).pod(&told_served);
    stage.start(builder);
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let folder = stage.net.netns().display().to_string();
    let why = format!("no file in {folder} is its network namespace");
    shows(&mut stage, "default/pod-2", "no_namespace", &why, 1);
    shows(&mut stage, "default/pod-1", "port_taken", "port 4136 is taken there", 1);
    for pod in [&taken, &nowhere] {
        assert_eq!(answered(pod), "direct");
    }
    assert!(is_diverted(&served));
    let note = "netns: weir does not listen in 2 enrolled pods";
    eventually("a word in /ready", || stage.weir().admin_get("/ready").text().contains(note));
    stage.weir().admin_get("/ready").expect_status(200);
    assert!(stage.weir().metric("weir_interception_without_listener_seconds", &[]) >= 10.0);
    stage.weir().expect_log("an enrolled pod is without weir's listener");
    drop(port);
    eventually("diversion", || is_diverted(&taken));
    let note = "netns: weir does not listen in 1 enrolled pods";
    eventually("one less", || stage.weir().admin_get("/ready").text().contains(note));
}

/// The kernel of a virtual machine makes its connections, and this node's sees none of them.
#[test]
fn pods_of_a_runtime_with_a_kernel_of_its_own_show_as_such_unless_they_are_diverted() {
    let Some(mut stage) = Stage::set() else { return };
    let (machine, told) = pod(&mut stage, 1);
    let (_taken_out, told_too) = pod(&mut stage, 2);
    std::fs::remove_file(stage.net.netns().join(format!("burstable-pod{}", pods::uid(2)))).unwrap();
    let told = told.spec("nodeName: n1, runtimeClassName: kata-qemu");
    let told_too = told_too.spec("nodeName: n1, runtimeClassName: gvisor");
    let builder = by_pod(&stage).pod(&told).pod(&told_too);
    stage.start(builder);
    let why = |class: &str| {
        format!(
            "by its runtime class {class} it has a kernel of its own, and this one does not see its connections"
        )
    };
    shows(&mut stage, "default/pod-1", "other_kernel", &why("kata-qemu"), 2);
    shows(&mut stage, "default/pod-2", "other_kernel", &why("gvisor"), 2);
    let _backends = stage.backends();
    // A class of such a name that runs pods as any other.
    eventually("diversion", || is_diverted(&machine));
    let name = "weir_interception_pods_without_listener";
    eventually("only the other one", || stage.weir().metric(name, &[("reason", "other_kernel")]) == 1.0);
}

/// As when a security module refuses it while weir runs.
#[test]
fn a_pod_that_weir_may_not_enter_any_more_goes_direct_and_what_is_open_goes_on() {
    let Some(mut stage) = Stage::set() else { return };
    let gate = Gate::default();
    let (refused, told) = pod(&mut stage, 1);
    let (other, told_other) = pod(&mut stage, 2);
    let database = folder::service("database", &["10.96.0.11"]).port("sql", 5432, TARGET + 1);
    let builder = by_pod(&stage).kubernetes(&database.endpoints(&[stage.b.v4()]));
    stage.start(builder.pod(&told).pod(&told_other).asking(&gate));
    let (_backends, _direct) = (stage.backends(), stage.direct());
    let _database = TcpServer::echo(stage.b.listen(stage.b.at(TARGET + 1)).unwrap());
    eventually("diversion", || is_diverted(&refused) && is_diverted(&other));
    let mut open = Client::over(refused.connect(address("10.96.0.11:5432")).unwrap());
    open.send("before").expect("before");
    gate.refuse(&refused);
    let why = "weir may not enter it: Operation not permitted (os error 1)";
    shows(&mut stage, "default/pod-1", "refused", why, 1);
    assert_eq!(answered(&refused), "direct");
    assert!(is_diverted(&other));
    open.send("after").expect("after");
    stage.weir().expect_log("its pod's connections go direct");
    gate.permit(&refused);
    eventually("diversion again", || is_diverted(&refused));
    eventually("no pod without a listener", || counted(&mut stage, "refused") == 0.0);
    open.send("again").expect("again");
}

#[test]
fn where_weir_may_enter_only_some_namespaces_the_others_pods_go_direct_with_the_reason() {
    let Some(mut stage) = Stage::set() else { return };
    let gate = Gate::default();
    let (refused, told) = pod(&mut stage, 1);
    let (other, told_other) = pod(&mut stage, 2);
    gate.refuse(&refused);
    let builder = Weir::new().by_default(&stage.net).kubernetes(&stage.hello()).asking(&gate);
    let builder = builder.set_in("transparent", "enrol", "pods").env("NODE_NAME", "n1");
    stage.start(builder.pod(&told).pod(&told_other));
    let (_backends, _direct) = (stage.backends(), stage.direct());
    assert_eq!(stage.weir().metric("weir_interception_sockets", &[("place", "pod")]), 1.0);
    let (file, folder) = (format!("burstable-pod{}", pods::uid(1)), stage.net.netns().display().to_string());
    let why = format!(
        "perhaps {file} in {folder} is its network namespace: weir may not enter it: Operation not permitted (os error 1)"
    );
    shows(&mut stage, "default/pod-1", "refused", &why, 1);
    assert_eq!(answered(&refused), "direct");
    eventually("diversion of the other", || is_diverted(&other));
    gate.permit(&refused);
    eventually("diversion", || is_diverted(&refused));
}

#[test]
fn a_pod_with_a_sidecar_is_left_to_it_and_its_ports_are_free() {
    let Some(mut stage) = Stage::set() else { return };
    let mut builder = by_pod(&stage);
    let mut made = Vec::new();
    for (number, annotation) in [(1, "sidecar.istio.io/status"), (2, "linkerd.io/proxy-version"), (3, "x")] {
        let (pod, told) = pod(&mut stage, number);
        builder = builder.pod(&told.annotate(annotation, "1"));
        made.push(pod);
    }
    stage.start(builder);
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_served(&mut stage, 1);
    eventually("diversion of the one without", || is_diverted(&made[2]));
    for (pod, mesh) in made.iter().zip(["Istio", "Linkerd"]) {
        assert_eq!(answered(pod), "direct");
        // Linkerd's has this port.
        drop(pod.listen(address("127.0.0.1:4140")).expect("the port of the sidecar"));
        let why = format!("it has {mesh}'s sidecar, which catches its connections");
        let pods = &stage.weir().state()["enrolment"]["pods"];
        let said =
            pods.as_array().into_iter().flatten().any(|it| it["why"] == why && it["state"] == "direct");
        assert!(said, "{pods}");
    }
}

#[test]
fn destinations_beyond_the_table_go_direct_and_are_counted() {
    const SERVICES: u16 = 60;
    let Some(mut stage) = Stage::set() else { return };
    let at = |number: u16| SocketAddr::new(format!("10.96.1.{number}").parse().unwrap(), 80);
    let mut builder = Weir::new().in_pods(&stage.net).set("limits", "{ destinations: 40 }");
    for number in 1..=SERVICES {
        let service = folder::service(&format!("s{number}"), &[&at(number).ip().to_string()]);
        builder = builder.kubernetes(&service.port("http", 80, TARGET).endpoints(&[stage.a.v4()]));
        stage.beyond.ip(&format!("addr add {}/32 dev lo\n", at(number).ip()));
    }
    stage.start(builder);
    stage.until_listening(4);
    let _endpoint = Backend::http().answers("a").inside(&stage.a).on(stage.a.at(TARGET)).start();
    let _direct = Backend::http().answers("direct").inside(&stage.beyond).on(address("0.0.0.0:80")).start();
    let ask = |number| Client::over(stage.client.connect(at(number)).unwrap()).get("/").text();
    let answers: Vec<_> = (1..=SERVICES).map(ask).collect();
    let diverted = answers.iter().filter(|it| *it == "a").count();
    assert!(answers.iter().all(|it| it == "a" || it == "direct"), "{answers:?}");
    assert!((1..=40).contains(&diverted), "{answers:?}");
    let left_out = stage.weir().metric("weir_interception_left_out", &[]);
    assert!(left_out >= f64::from(SERVICES) - diverted as f64, "{left_out} left out, {diverted} diverted");
}

#[test]
fn pods_that_end_while_weir_enters_them_leave_nothing_and_disturb_nobody() {
    let Some(mut stage) = Stage::in_pods() else { return };
    let _backends = stage.backends();
    let before = stage.weir().descriptors();
    let node = stage.net.node();
    for round in 0..25_u32 {
        let pod = stage.net.pod(&format!("brief{round}"));
        // At another point of what weir does there each time.
        std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 300));
        let link = format!("veth{}", pod.v4().to_string().rsplit('.').next().unwrap());
        stage.net.end(pod);
        assert!(is_diverted(&stage.client));
        eventually("the pod's link goes with its namespace", || {
            !node.command("ip").args(["link", "show", &link]).output().unwrap().status.success()
        });
    }
    stage.until_listening(4);
    assert_eq!(counted(&mut stage, "failed"), 0.0);
    eventually("weir's descriptors", || stage.weir().descriptors() <= before + 8);
}
