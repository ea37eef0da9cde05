//! What a weir is to be, before it starts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::resource::Resource;
use test_support::process::Running;

use super::folder::{Folder, Pod, Service};
use super::output::{self, Reader};
use super::{Bound, Log, Weir, binary};
use crate::net::Net;
use crate::net::cgroup::MemoryCgroup;
use crate::net::gate::Gate;
use crate::net::place::{self, Capability, Place};
use crate::time::PATIENCE;

/// A weir that is not started yet.
pub struct Builder {
    sections: BTreeMap<String, String>,
    config: Option<String>,
    folder: Folder,
    place: Place,
    capabilities: Capabilities,
    environment: Vec<(String, String)>,
    account: Option<PathBuf>,
    reader: Reader,
    descriptors: Option<Descriptors>,
    memory: Option<MemoryCgroup>,
    gate: Option<Gate>,
}

/// Bounds on open descriptors: the one in force, and the one it may be raised to.
type Descriptors = (u64, u64);

/// Mounts the folder `$0` where pods find their service account, seen by nobody but the program `$@` that it becomes.
const WITH_ACCOUNT: &str = r#"mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount &&
mount --bind "$0" /run/secrets/kubernetes.io/serviceaccount && exec "$@""#;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Capabilities {
    Inherited,
    None,
    /// These only, in a process that can gain no more.
    Only(&'static [Capability]),
}

/// How a weir ended that was not meant to serve.
#[derive(Debug)]
pub struct Exit {
    /// Its exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Builder {
    pub(super) fn new() -> Self {
        let builder = Self {
            sections: BTreeMap::new(),
            config: None,
            folder: Folder::new(),
            place: Place::Here,
            capabilities: Capabilities::Inherited,
            environment: Vec::new(),
            account: None,
            reader: Reader::Test,
            descriptors: None,
            memory: None,
            gate: None,
        };
        builder
            .set("outgoing", "{ listen: 127.0.0.1:0 }")
            .set("admin", "{ listen: 127.0.0.1:0 }")
            .set("probes", "{ listen: 127.0.0.1:0 }")
            .set("workers", "2")
            .set("discovery", "{ files: { path: ./services } }")
    }

    /// Sets a top-level section of the configuration, instead of what it was.
    pub fn set(mut self, section: &str, yaml: &str) -> Self {
        self.sections.insert(section.into(), yaml.into());
        self
    }

    /// Adds a key to a section that is written in braces.
    pub fn set_in(mut self, section: &str, key: &str, yaml: &str) -> Self {
        let text = self.sections.get_mut(section).expect("a section to add to");
        let end = text.rfind('}').expect("a section in braces");
        text.insert_str(end, &format!(", {key}: {yaml} "));
        self
    }

    /// Changes the folder of network namespaces.
    pub fn set_netns(mut self, folder: &str) -> Self {
        let text = self.sections.get_mut("transparent").expect("interception");
        let (before, rest) = text.split_once("netns: ").expect("a folder to change");
        let after = rest.split_once(',').map_or("", |it| it.1);
        *text = format!("{before}netns: {folder},{after}");
        self
    }

    /// Removes a top-level section.
    pub fn unset(mut self, section: &str) -> Self {
        self.sections.remove(section);
        self
    }

    /// Uses this text as the whole configuration.
    pub fn config(mut self, yaml: &str) -> Self {
        self.config = Some(yaml.into());
        self
    }

    /// Writes a service in linkerd's file format.
    pub fn service(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.folder.service(name, endpoints);
        self
    }

    /// Writes a service as Kubernetes objects.
    pub fn kubernetes(self, service: &Service) -> Self {
        self.folder.kubernetes(service);
        self
    }

    /// Writes a pod of this node.
    pub fn pod(self, pod: &Pod) -> Self {
        self.folder.pod(pod);
        self
    }

    /// Writes a file into the folder of services.
    pub fn file(self, name: &str, text: &str) -> Self {
        self.folder.file(name, text);
        self
    }

    /// Runs in the node's namespace without diverting anything.
    pub fn beside(mut self, net: &Net) -> Self {
        self.place = net.weir_place();
        self
    }

    /// Runs in this pod, without diverting anything.
    pub fn inside(mut self, pod: &crate::net::Pod) -> Self {
        self.place = pod.into();
        self
    }

    /// Runs on this node, with interception of its pods, and all its sockets on the node, where pods can reach them.
    pub fn on_node(self, net: &Net) -> Self {
        self.intercepting(net, "sockets: node")
    }

    /// Runs on this node with interception of its pods, and its sockets where weir puts them if nothing else is written.
    pub fn by_default(self, net: &Net) -> Self {
        self.intercepting(net, &format!("netns: {}", net.netns().display()))
    }

    fn intercepting(mut self, net: &Net, sockets: &str) -> Self {
        self.place = net.weir_place();
        let cgroup = net.pods_cgroup();
        let transparent = format!(
            "{{ {sockets}, listen: \"[::]:4142\", ports: 8, addresses: [{}, \"{}\"], cgroup: {}, required: true }}",
            net.node().v4(),
            net.node().v6(),
            cgroup.display()
        );
        self.set("transparent", &transparent).set("outgoing", "{ listen: \"[::]:4140\" }")
    }

    /// As [`Self::on_node`], with its sockets in the pods' network namespaces.
    pub fn in_pods(self, net: &Net) -> Self {
        self.in_pods_of(net, net.netns())
    }

    /// As [`Self::in_pods`], with the network namespaces in this folder.
    pub fn in_pods_of(self, net: &Net, netns: &Path) -> Self {
        self.intercepting(net, &format!("sockets: pod, netns: {}", netns.display()))
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs with this folder as the one of its pod's service account, which is at the same path in every pod. Needs root.
    pub fn with_account(mut self, folder: &Path) -> Self {
        self.account = Some(folder.into());
        self
    }

    /// Runs without the capabilities that interception needs, whoever runs the test.
    pub fn without_capabilities(mut self) -> Self {
        self.capabilities = Capabilities::None;
        self
    }

    /// Runs as the container of a DaemonSet would: root with no capabilities but these, and no way to gain one.
    pub fn with_only(mut self, capabilities: &'static [Capability]) -> Self {
        self.capabilities = Capabilities::Only(capabilities);
        self
    }

    /// What it says goes to a pipe that nobody reads, once it is ready.
    pub fn with_its_log_unread(mut self) -> Self {
        self.reader = Reader::Nobody;
        self
    }

    /// Its log goes to a disk that is full.
    pub fn with_its_log_on_a_full_disk(mut self) -> Self {
        self.reader = Reader::FullDisk;
        self
    }

    /// Its standard output is a pipe that is full already and that nobody reads; the test learns from the log where it listens.
    pub fn with_its_output_unread(mut self) -> Self {
        self.reader = Reader::OnlyOfTheLog;
        self
    }

    /// Runs with `soft` descriptors at most, which it may raise to `hard`.
    pub fn with_descriptors(mut self, soft: u64, hard: u64) -> Self {
        self.descriptors = Some((soft, hard));
        self
    }

    /// Runs in a cgroup of its own, which may use so much memory.
    pub fn with_memory(mut self, cgroup: MemoryCgroup) -> Self {
        self.memory = Some(cgroup);
        self
    }

    /// Enters only those network namespaces that `gate` permits.
    pub fn asking(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Starts it and waits until it says that it is ready.
    #[track_caller]
    pub fn start(self) -> Weir {
        let mut command = self.command();
        let unread = self.reader.open(&mut command);
        let mut child = Running::spawn("weir", &mut command).expect("the weir binary");
        if let Some(gate) = &self.gate {
            gate.opened(child.child());
        }
        let log = Log::default();
        let heard = self.reader.read(child.child(), unread.as_ref(), &log);
        let mut weir = Weir {
            child,
            place: self.place,
            bound: Bound::default(),
            log,
            unread,
            folder: self.folder,
            _memory: self.memory,
        };
        // Its log is shown when this fails, by `Drop`.
        weir.bound = output::ready(&heard).unwrap_or_else(|e| panic!("weir did not get ready: {e}"));
        weir
    }

    /// Runs `weir` with these arguments until it ends by itself; `CONFIG` stands for the configuration's file.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Exit {
        self.run_with(arguments, "")
    }

    /// The same with this on its standard input.
    #[track_caller]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Exit {
        let config = self.write_config();
        let config = config.to_str().unwrap();
        let mut command = self.program();
        command.args(arguments.iter().map(|a| if *a == "CONFIG" { config } else { a }));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        finish(command.current_dir(self.folder.path()), input)
    }

    /// Runs `weir run` until it ends by itself.
    #[track_caller]
    pub fn fails(&self) -> Exit {
        self.run(&["run", "--config", "CONFIG"])
    }

    /// The folder with its configuration and services.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn command(&self) -> Command {
        let config = self.write_config();
        let mut command = self.program();
        command.args(["run", "--config"]).arg(config).stdin(Stdio::null());
        match self.capabilities {
            Capabilities::Inherited => {}
            Capabilities::None => place::drop_capabilities(&mut command),
            Capabilities::Only(kept) => place::keep_capabilities(&mut command, kept),
        }
        if self.gate.is_some() {
            Gate::guard(&mut command);
        }
        command
    }

    /// The program, to be run where this weir is to be.
    fn program(&self) -> Command {
        let mut command = match &self.account {
            None => self.place.command(binary::weir()),
            Some(folder) => {
                let mut command = self.place.command("unshare");
                command.args(["--mount", "sh", "-c", WITH_ACCOUNT]).arg(folder).arg(binary::weir());
                command
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some((soft, hard)) = self.descriptors {
            place::limit(&mut command, Resource::RLIMIT_NOFILE, soft, hard);
        }
        if let Some(cgroup) = &self.memory {
            test_support::cgroup::hold(cgroup.path(), &mut command)
                .expect("the cgroup with a limit of memory");
        }
        command
    }

    fn write_config(&self) -> PathBuf {
        let mut text = String::new();
        for (section, yaml) in &self.sections {
            let _ = writeln!(text, "{section}: {yaml}");
        }
        self.folder.config(self.config.as_deref().unwrap_or(&text))
    }
}

#[track_caller]
fn finish(command: &mut Command, input: &str) -> Exit {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the weir binary");
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // It may end without having read it.
    std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || text(&mut stdout));
    let err = std::thread::spawn(move || text(&mut stderr));
    let deadline = std::time::Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if std::time::Instant::now() > deadline {
            let _ = child.kill();
            panic!("weir still runs, and said:\n{}{}", out.join().unwrap(), err.join().unwrap());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Exit { code: child.wait().unwrap().code(), stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn text(source: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = source.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Bound {
    /// Reads `outgoing=127.0.0.1:1 admin=127.0.0.1:2 probes=127.0.0.1:3 transparent=127.0.0.1:4-6`.
    pub fn parse(text: &str) -> Self {
        let word = |name: &str| text.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        // A router may have several addresses, with commas between.
        let first = |addresses: &str| addresses.split(',').next()?.parse::<SocketAddr>().ok();
        let one = |name| word(name).and_then(first);
        let range = word("transparent").and_then(|range| {
            let (first, last) = range.rsplit_once('-')?;
            let first: SocketAddr = first.parse().ok()?;
            Some((first.port()..=last.parse().ok()?).map(move |port| SocketAddr::new(first.ip(), port)))
        });
        let routers = text.split(' ').filter_map(|word| {
            let (label, addresses) = word.strip_prefix("outgoing.")?.split_once('=')?;
            Some((label.to_owned(), first(addresses)?))
        });
        Self {
            outgoing: one("outgoing"),
            routers: routers.collect(),
            admin: one("admin"),
            probes: one("probes"),
            transparent: range.into_iter().flatten().collect(),
        }
    }
}
