//! The folder in which the container runtime mounts the pods' network namespaces: what weir finds there, and what it cannot enter.

use super::{Stage, V4, address, answered};
use e2e::net::place::Capability;
use e2e::{Weir, eventually};

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
