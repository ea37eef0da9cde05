//! Where weir's sockets are if nothing is written: in the pods where weir may enter their network namespaces, else on the
//! node, which is said.

use super::explicit_in_pods::{node, says_who};
use super::{Stage, TARGET, address, answered};
use e2e::net::NODE_V4;
use e2e::net::gate::Gate;
use e2e::net::mounts::NetnsFolder;
use e2e::net::place::Capability::{Bpf, NetAdmin, SysAdmin};
use e2e::weir::builder::Builder;
use e2e::{Client, Pod, Weir, eventually, folder};

/// The node with weir as it is by default, `hello` with one endpoint in pod `a`, and a server there that says who connects.
fn by_default(settings: impl FnOnce(Builder) -> Builder) -> Option<(Stage, e2e::raw::TcpServer)> {
    let mut stage = Stage::set()?;
    let hello = folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
    let builder = settings(Weir::new().by_default(&stage.net).kubernetes(&hello));
    stage.start(builder);
    let server = says_who(&stage.a, stage.a.at(TARGET));
    Some((stage, server))
}

/// Where weir says that its sockets are, by its metric, its state and `weir status`, with the reason.
fn place(stage: &mut Stage) -> (String, String) {
    let admin = stage.weir().admin().to_string();
    let status = Weir::new().on_node(&stage.net).run(&["status", "--admin", &admin]).stdout;
    let weir = stage.weir();
    let is_at = |name: &&&str| weir.metric("weir_interception_sockets", &[("place", **name)]) == 1.0;
    let by_metric: Vec<_> = ["pod", "node", "fallback"].iter().filter(is_at).copied().collect();
    let state = &weir.state()["interception"];
    assert_eq!(by_metric, [state["sockets"].as_str().unwrap()]);
    let why = state["socketsWhy"].as_str().unwrap_or_default().to_owned();
    let line = format!("sockets: on the node, and not in the pods ({why})");
    assert_eq!(status.lines().any(|it| it == line), !why.is_empty(), "{status}");
    let ready = weir.admin_get("/ready");
    ready.expect_status(200);
    assert_eq!(ready.text().contains("sockets: on the node"), !why.is_empty(), "{}", ready.text());
    (by_metric[0].to_owned(), why)
}

#[test]
fn where_weir_may_enter_namespaces_its_sockets_are_in_the_pods() {
    let Some((mut stage, _server)) = by_default(|builder| builder) else { return };
    stage.until_listening(4);
    assert_eq!(place(&mut stage), ("pod".to_owned(), String::new()));
    assert_eq!(answered(&stage.client), stage.client.v4().to_string());
    assert!(stage.weir().transparent().is_empty(), "nothing listens on the node for diverted connections");
}

#[test]
fn where_it_may_not_they_are_on_the_node_and_that_is_said() {
    for (settings, why) in [
        (without_right as fn(Builder) -> Builder, "give it CAP_SYS_ADMIN"),
        (without_folder, "/nowhere is no folder: mount the one"),
        (|it| it.set_in("transparent", "divert", "[10.96.0.0/16]"), "transparent.divert is set"),
        (|it| it.set_in("transparent", "host", "true"), "transparent.host is set"),
        (
            |it| it.set_in("transparent", "sourceAddresses", "[10.1.0.1]"),
            "transparent.sourceAddresses is set",
        ),
    ] {
        let Some((mut stage, _server)) = by_default(settings) else { return };
        let (at, said) = place(&mut stage);
        assert!(at == "fallback" && said.contains(why), "{at}: {said}");
        // Once, in one sentence that says what it costs.
        let log = stage.weir().log();
        let lines: Vec<_> = log.lines().filter(|it| it.contains("weir's sockets are on the node")).collect();
        assert!(lines.len() == 1 && lines[0].contains(why) && lines[0].contains("NetworkPolicies"), "{log}");
        assert_eq!(answered(&stage.client), NODE_V4);
        let explicit = |pod: &Pod| Client::over(pod.connect(node(false)).unwrap()).get("http://hello/");
        assert_eq!(explicit(&stage.client).text(), NODE_V4);
        assert!(stage.client.connect(address("127.0.0.1:4140")).is_err(), "nothing is in the pods");
    }
}

fn without_right(builder: Builder) -> Builder {
    builder.with_only(&[Bpf, NetAdmin])
}

fn without_folder(builder: Builder) -> Builder {
    builder.set_in("transparent", "adopt", "off").set_netns("/nowhere")
}

/// It may enter its own, as a security module may have it.
#[test]
fn where_it_may_enter_none_of_the_pods_namespaces_they_are_on_the_node() {
    let Some(mut stage) = Stage::set() else { return };
    let gate = Gate::default();
    for pod in [&stage.client, &stage.a, &stage.b, &stage.beyond] {
        gate.refuse(pod);
    }
    let builder = Weir::new().by_default(&stage.net).kubernetes(&stage.hello()).asking(&gate);
    stage.start(builder);
    let (at, said) = place(&mut stage);
    assert!(at == "fallback" && said.contains("may enter none of the pods' network namespaces"), "{said}");
    let _backends = stage.backends();
    assert!(["a", "b"].contains(&answered(&stage.client).as_str()));
    assert!(stage.diverted() >= 1.0);
}

/// Where the programs cannot be attached, weir's sockets are in no pod, whatever was chosen.
#[test]
fn sockets_in_pods_are_not_claimed_where_interception_is_off() {
    let Some(stage) = Stage::set() else { return };
    let transparent =
        format!("{{ netns: {}, cgroup: /sys/fs/cgroup/none/such }}", stage.net.netns().display());
    let weir =
        Weir::new().beside(&stage.net).kubernetes(&stage.hello()).set("transparent", &transparent).start();
    for name in ["pod", "node", "fallback"] {
        assert_eq!(weir.metric("weir_interception_sockets", &[("place", name)]), 0.0, "{name}");
    }
    let state = &weir.state()["interception"];
    assert!(state["on"] == false && state["sockets"].is_null(), "{state}");
    let ready = weir.admin_get("/ready").text();
    assert!(ready.contains("sockets: in no pod"), "{ready}");
}

/// As with a runtime that has its namespaces elsewhere: on which side of the node's start weir looks must decide nothing.
#[test]
fn a_folder_without_namespaces_is_no_reason_to_go_to_the_node_and_shows() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("netns");
    std::fs::create_dir(&empty).unwrap();
    let Some((mut stage, _server)) = by_default(|it| it.set_netns(&empty.display().to_string())) else {
        return;
    };
    let _direct = stage.direct();
    assert_eq!(place(&mut stage).0, "pod");
    let note = format!("netns: no network namespace is in {}, so no pod is diverted", empty.display());
    eventually("a word in /ready", || stage.weir().admin_get("/ready").text().contains(&note));
    assert_eq!(answered(&stage.client), "direct");
    // Once they are there, they are found; one that cannot be listed is said, too.
    std::os::unix::fs::symlink(stage.client.namespace(), empty.join("client")).unwrap();
    stage.until_listening(1);
    assert_eq!(answered(&stage.client), stage.client.v4().to_string());
    std::fs::rename(&empty, folder.path().join("elsewhere")).unwrap();
    let note = format!("netns: {} cannot be listed", empty.display());
    eventually("a word in /ready", || stage.weir().admin_get("/ready").text().contains(&note));
    assert_eq!(answered(&stage.client), stage.client.v4().to_string(), "what is joined stays");
    stage.weir().admin_get("/ready").expect_status(200);
}

#[test]
fn the_node_is_chosen_without_a_word_where_that_is_written() {
    let Some(mut stage) = Stage::running() else { return };
    assert_eq!(place(&mut stage), ("node".to_owned(), String::new()));
    let log = stage.weir().log();
    assert!(!log.contains("weir's sockets are on the node"), "{log}");
}

#[test]
fn what_is_only_there_on_the_node_waits_for_a_restart_where_the_sockets_are_in_the_pods() {
    let Some((mut stage, _server)) = by_default(|builder| builder) else { return };
    stage.until_listening(4);
    let file = stage.weir().folder().path().join("weir.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let with = text.replace("required: true", "required: true, divert: [10.96.0.0/16]");
    assert_ne!(with, text);
    stage.weir().folder().config(&with);
    stage.weir().signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the change to wait", || stage.weir().metric("weir_config_waiting", &[]) == 1.0);
    assert_eq!(answered(&stage.client), stage.client.v4().to_string());
    stage.weir().folder().config(&text);
    stage.weir().signal(nix::sys::signal::Signal::SIGHUP);
    eventually("nothing to wait", || stage.weir().metric("weir_config_waiting", &[]) == 0.0);
}

/// For clients outside the cluster, which are no pods of this node: what is open to everybody serves them.
#[test]
fn a_router_that_everybody_may_use_serves_clients_that_are_no_pods_of_the_node() {
    let outgoing = "[{ label: mesh, listen: \"[::]:4140\" }, { label: edge, listen: \"[::]:8080\", \
                    allow: [0.0.0.0/0, \"::/0\"] }, { label: closed, listen: \"[::]:8081\", clients: node, \
                    allow: [0.0.0.0/0, \"::/0\"] }]";
    let Some((mut stage, _server)) = by_default(|it| it.set("outgoing", outgoing)) else { return };
    stage.until_listening(4);
    let outside = stage.net.pod("outside");
    std::fs::remove_file(stage.net.netns().join("outside")).unwrap();
    stage.until_listening(4);
    let ask = |port: u16| {
        let to = address(&format!("{NODE_V4}:{port}"));
        let answer = Client::over(outside.connect(to).unwrap()).get("http://hello/");
        (answer.status, answer.text())
    };
    assert_eq!((ask(4140).0, ask(8080), ask(8081).0), (403, (200, NODE_V4.to_owned()), 403));
}

#[test]
fn only_the_port_of_the_explicit_proxy_is_taken_in_pods_unless_another_one_is_asked_for() {
    let outgoing = "[{ label: mesh, listen: \"[::]:4140\" }, { label: edge, listen: \"[::]:8080\" }, \
                    { label: both, listen: \"[::]:8081\", inPods: true }]";
    let Some((mut stage, _server)) = by_default(|it| it.set("outgoing", outgoing)) else { return };
    stage.until_listening(4);
    super::loopback_in_pods::until_served(&mut stage, 4);
    for port in [4140, 8081] {
        let to = address(&format!("127.0.0.1:{port}"));
        let answer = Client::over(stage.client.connect(to).unwrap()).get("http://hello/");
        assert_eq!((answer.status, answer.text()), (200, stage.client.v4().to_string()), "{port}");
    }
    // A program of the pod has the port of an edge to itself.
    for own in ["0.0.0.0:8080", "[::]:8080"] {
        stage.client.listen(address(own)).unwrap_or_else(|why| panic!("{own}: {why}"));
    }
}

/// The deployed capabilities, and nothing written about sockets.
#[test]
fn the_deployed_capabilities_are_enough_for_sockets_in_the_pods() {
    if !e2e::net::is_root() {
        return;
    }
    let netns = NetnsFolder::new();
    let folder = netns.path().display().to_string();
    let deployed = |it: Builder| it.with_only(&[Bpf, NetAdmin, SysAdmin]).set_netns(&folder);
    let Some((mut stage, _server)) = by_default(deployed) else { return };
    netns.add(&stage.client);
    stage.until_listening(1);
    assert_eq!(place(&mut stage).0, "pod");
    assert_eq!(answered(&stage.client), stage.client.v4().to_string());
    let explicit = stage.client.connect(address("127.0.0.1:4140"));
    let explicit = explicit.or_else(|_| stage.client.connect(node(false))).unwrap();
    assert_eq!(Client::over(explicit).get("http://hello/").text(), stage.client.v4().to_string());
}
