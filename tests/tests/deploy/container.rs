//! The whole of it short of a cluster: the image's files as a container's root, run by runc with the very security
//! context and mounts of the DaemonSet, on a pretend node with pods. What the manifests leave out is missing here too.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::net::mounts::NetnsFolder;
use e2e::net::{NODE_V4, NODE_V6, Net, Pod};
use e2e::weir::folder::{self, Folder};
use e2e::{Backend, Client, eventually};
use serde_json::{Value, json};

use crate::image;
use crate::objects::{find, kustomize, list};

const SERVICE: &str = "10.96.0.10:80";

/// A container of the DaemonSet, ended and removed when dropped.
struct Container {
    name: String,
    /// The kustomization that has the DaemonSet.
    folder: &'static str,
    bundle: tempfile::TempDir,
    /// The pod's emptyDir.
    _empty: tempfile::TempDir,
    program: String,
    child: Child,
}

/// What a pod has of the node and of its own.
struct Volumes<'a> {
    /// In place of the ConfigMap, its configuration and services.
    config: &'a Path,
    /// In place of the node's /run/weir.
    handover: &'a Path,
    /// In place of its emptyDir.
    empty: &'a Path,
    /// In place of the node's /run/netns.
    netns: &'a Path,
}

impl Container {
    /// Starts weir in a pod with this UID on the node, its configuration and services in place of the ConfigMap.
    fn start(net: &Net, netns: &Path, folder: &'static str, uid: &str, config: &Path) -> Self {
        let empty = tempfile::tempdir().unwrap();
        let volumes = Volumes { config, handover: net.folder(), empty: empty.path(), netns };
        let bundle = tempfile::tempdir().unwrap();
        let archive = bundle.path().join("image.tar");
        image::make(&archive);
        let program = image::unpack(&archive, &bundle.path().join("root"));
        let program = program.to_str().unwrap().to_owned();
        let name = format!("weir-e2e-{}-{uid}", std::process::id());
        let spec = spec(&net.node(), &volumes, folder, &program, &name);
        std::fs::write(bundle.path().join("config.json"), spec.to_string()).unwrap();
        let log = std::fs::File::create(bundle.path().join("log")).unwrap();
        let mut command = runc(bundle.path());
        command.args(["run", "--bundle"]).arg(bundle.path()).arg(&name).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let child = child.expect("runc (Debian: apt-get install runc)");
        Self { name, folder, bundle, _empty: empty, program, child }
    }

    /// What kubelet does for this probe of the DaemonSet.
    fn probe(&self, probe: &str) -> (bool, String) {
        let objects = kustomize(self.folder);
        let container = &find(&objects, "DaemonSet", "weir")["spec"]["template"]["spec"]["containers"][0];
        let command = list(&container[probe], "/exec/command").iter().map(|it| it.as_str().unwrap());
        let mut exec = runc(self.bundle.path());
        exec.args(["exec", &self.name]).arg(&self.program).args(command.skip(1));
        let output = exec.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.bundle.path().join("log")).unwrap_or_default()
    }

    /// What kubelet does when the pod is to go; the container's exit code.
    fn terminate(&mut self) -> Option<i32> {
        assert!(runc(self.bundle.path()).args(["kill", &self.name, "TERM"]).status().unwrap().success());
        eventually("the container to end", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = runc(self.bundle.path()).args(["delete", "--force", &self.name]).output();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the container said:\n{}", self.log());
        }
    }
}

fn runc(bundle: &Path) -> Command {
    let mut command = Command::new("runc");
    command.arg("--root").arg(bundle.join("state"));
    command
}

/// What a kubelet and its runtime make of the DaemonSet's container (OCI runtime specification 1.0). The node's network
/// namespace is the host's.
fn spec(node: &Pod, volumes: &Volumes<'_>, folder: &str, program: &str, name: &str) -> Value {
    let objects = kustomize(folder);
    let pod = &find(&objects, "DaemonSet", "weir")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let context = &container["securityContext"];
    let words =
        |list: &[Value]| list.iter().map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let capabilities: Vec<_> =
        words(list(context, "/capabilities/add")).iter().map(|name| format!("CAP_{name}")).collect();
    let mut arguments = vec![program.to_owned()];
    arguments.extend(words(list(container, "/args")));
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }),
    ];
    mounts.extend(list(container, "/volumeMounts").iter().map(|mount| {
        let volume = list(pod, "/volumes").iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let source = match volume["hostPath"]["path"].as_str() {
            Some("/run/weir") => volumes.handover,
            Some("/run/netns") => volumes.netns,
            Some(path) => Path::new(path),
            None if volume["emptyDir"].is_object() => volumes.empty,
            None => volumes.config,
        };
        let access = if mount["readOnly"] == true { "ro" } else { "rw" };
        let options = ["rbind", access, "rslave"];
        json!({ "destination": mount["mountPath"], "type": "bind", "source": source, "options": options })
    }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": context["runAsUser"], "gid": 0 },
            "args": arguments,
            "cwd": "/",
            "env": ["NODE_NAME=node-1", format!("NODE_IP={NODE_V4}"), "POD_NAMESPACE=weir", format!("POD_UID={name}")],
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": context["allowPrivilegeEscalation"] == false,
        },
        "root": { "path": "root", "readonly": context["readOnlyRootFilesystem"] },
        "mounts": mounts,
        "linux": {
            "cgroupsPath": format!("/{name}-container"),
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "network", "path": node.namespace() },
            ],
            "seccomp": seccomp(context, &capabilities),
        },
    })
}

/// What a runtime makes of `RuntimeDefault` for a container with these capabilities. The profile is that of
/// github.com/containers/common 0.50.1 (Apache License 2.0), which CRI-O and Podman have. It does not know CAP_BPF, so that
/// without CAP_SYS_ADMIN the component `unconfined` is needed there.
fn seccomp(context: &Value, capabilities: &[String]) -> Value {
    assert_eq!(context["seccompProfile"], json!({ "type": "RuntimeDefault" }));
    if !capabilities.iter().any(|name| name == "CAP_SYS_ADMIN") {
        return Value::Null;
    }
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/seccomp/containers-common-0.50.1.json");
    let profile: Value = serde_json::from_str(&std::fs::read_to_string(fixture).unwrap()).unwrap();
    let has = |rules: &Value, all: bool| {
        let known = list(rules, "/caps").iter().map(|it| capabilities.iter().any(|name| it == name));
        let own = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let arches = list(rules, "/arches").iter().map(|it| it == own);
        let (known, arches) = (known.collect::<Vec<_>>(), arches.collect::<Vec<_>>());
        match all {
            true => known.iter().all(|it| *it) && (arches.is_empty() || arches.contains(&true)),
            false => known.contains(&true) || arches.contains(&true),
        }
    };
    let rules = list(&profile, "/syscalls").iter();
    let rules = rules.filter(|it| has(&it["includes"], true) && !has(&it["excludes"], false)).map(|it| {
        let mut rule = json!({ "names": it["names"], "action": it["action"] });
        for key in ["args", "errnoRet"] {
            if !it[key].is_null() && it[key] != json!([]) {
                rule[key] = it[key].clone();
            }
        }
        rule
    });
    let (action, errno) = (&profile["defaultAction"], &profile["defaultErrnoRet"]);
    json!({ "defaultAction": action, "defaultErrnoRet": errno, "syscalls": rules.collect::<Vec<_>>() })
}

#[test]
fn the_daemon_sets_container_diverts_within_pods_and_leaves_nothing_behind() {
    runs(".", "", true);
}

#[test]
fn with_sockets_on_the_node_two_capabilities_are_enough_for_the_container() {
    runs("overlays/sockets-on-node", "sockets: node, ", false);
}

/// Runs the container of this kustomization, and another one that takes over.
fn runs(deployment: &'static str, sockets: &str, in_pods: bool) {
    if !e2e::net::is_root() {
        return;
    }
    let mut net = Net::new();
    let (client, a) = (net.pod("client"), net.pod("a"));
    let beyond = net.beyond(&["10.96.0.10"]);
    let netns = NetnsFolder::new();
    netns.add(&client);
    let folder = Folder::new();
    folder.kubernetes(&folder::service("hello", &["10.96.0.10"]).port("http", 80, 8080).endpoints(&[a.v4()]));
    folder.config(&format!(
        "transparent: {{ {sockets}addresses: [{NODE_V4}, \"{NODE_V6}\"], cgroup: {} }}\n\
         probes: {{ socket: /run/probes/weir.sock }}\ndrain: {{ handover: {{}} }}\nworkers: 2\n\
         discovery: {{ files: {{ path: ./services }} }}\n",
        net.pods_cgroup().display()
    ));
    let backend = Backend::http().answers("a").inside(&a).on(a.at(8080)).start();
    let _direct = Backend::http().answers("direct").inside(&beyond).on(SERVICE.parse().unwrap()).start();
    // As a NetworkPolicy that permits the client alone, or the node alone.
    let permitted = if in_pods { client.v4().to_string() } else { NODE_V4.to_owned() };
    a.nft(&format!(
        "table ip plugin {{\n chain input {{\n type filter hook input priority 0;\n \
         ip saddr {permitted} accept\n tcp dport 8080 drop\n }}\n}}\n"
    ));
    let get = |from: &Pod, to: &str, path: &str| {
        let stream = from.connect(to.parse().unwrap()).ok()?;
        let answer = Client::over(stream).get(path);
        Some((answer.status, answer.text()))
    };
    let is_diverted = || get(&client, SERVICE, "/").unwrap().1 == "a";
    assert_eq!(get(&client, SERVICE, "/").unwrap().1, "direct", "weir is not there yet");

    let mut weir = Container::start(&net, netns.path(), deployment, "1", folder.path());
    let is_up = |weir: &mut Container| {
        eventually("the readiness probe", || {
            weir.child.try_wait().unwrap().is_some() || weir.probe("readinessProbe").0
        });
        assert!(weir.child.try_wait().unwrap().is_none(), "weir is gone:\n{}", weir.log());
        assert_eq!(weir.probe("livenessProbe"), (true, "live\n".to_owned()));
    };
    is_up(&mut weir);
    let (status, said) = get(&net.node(), &format!("{NODE_V4}:9991"), "/ready").unwrap();
    assert_eq!(status, 200, "{said}\n{}", weir.log());
    eventually("the connection to be diverted", is_diverted);
    assert!(backend.count() >= 1);
    // A pod that comes later: its namespace is mounted in the container, too.
    let late = net.pod("late");
    if in_pods {
        let file = netns.add(&late);
        eventually("weir in the new pod", || {
            weir.log().matches("listening in a pod's network namespace").count() == 2
        });
        netns.remove(&file);
        eventually("weir's end in that pod", || {
            weir.log().contains("not listening in a pod's network namespace")
        });
    }

    // The next version's container: the capabilities and volumes are enough to take over.
    let mut next = Container::start(&net, netns.path(), deployment, "2", folder.path());
    is_up(&mut next);
    assert!(next.log().contains("serving in place of the weir before this one"), "{}", next.log());
    eventually("the old one to be unready", || !weir.probe("readinessProbe").0);
    assert!(is_diverted(), "the connection is not diverted");
    assert_eq!(weir.terminate(), Some(0), "{}", weir.log());
    assert!(is_diverted(), "the connection is not diverted");

    assert_eq!(next.terminate(), Some(0), "{}", next.log());
    assert_eq!(get(&client, SERVICE, "/").unwrap().1, "direct", "programs are left on the pods' cgroup");
}
