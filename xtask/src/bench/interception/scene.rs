//! A node with a client, an endpoint, an address that the node translates to it, and weir.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use test_support::{metrics, process, server};

use crate::bench::target;
use crate::launch::{self, Weir};
use crate::node::{ADDRESS, Node};
use crate::os::cpu::{self, Cores};
use crate::os::interrupt;
use crate::process::Running;

/// Where the endpoint listens.
const TARGET: u16 = 8080;

/// The Service that the node translates, and that which weir takes over: as HTTP at port 80, as bytes at 81.
const TRANSLATED: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
const DIVERTED: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9990);

/// Where weir's sockets are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sockets {
    InPods,
    OnNode,
}

impl Sockets {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InPods => "in the pods",
            Self::OnNode => "on the node",
        }
    }
}

/// What weir has cost so far.
pub(super) struct Cost {
    /// Its own memory that no file is behind, in bytes.
    pub(super) own: u64,
    /// The kernel's memory for it, in bytes: tables, programs, sockets. None without a memory controller.
    pub(super) kernel: Option<u64>,
    pub(super) cpu: Duration,
}

/// The node, with weir on it.
pub(super) struct Scene {
    // Dropped in this order.
    weir: Running,
    memory: Option<MemoryCgroup>,
    node: Node,
    endpoint: SocketAddr,
    core: usize,
}

/// A cgroup whose memory the kernel counts, removed when dropped.
struct MemoryCgroup(PathBuf);

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        test_support::cgroup::remove(&self.0);
    }
}

impl Scene {
    /// A node with so many pods `more` than the client and the endpoint; weir diverts.
    pub(super) fn set(weir: &Path, cores: Cores, sockets: Sockets, more: usize) -> Result<Self> {
        let mut node = Node::create("weir-bench")?;
        let folder = target::scratch("interception")?;
        let netns = folder.join("netns");
        let _ = fs::remove_dir_all(&netns);
        fs::create_dir_all(&netns)?;
        let names = ["client".to_owned(), "endpoint".to_owned()].into_iter();
        for name in names.chain((0..more).map(|number| format!("pod-{number}"))) {
            let pod = node.add_pod(&name)?;
            std::os::unix::fs::symlink(node.pods[pod].netns.path(), netns.join(&name))?;
        }
        let endpoint = SocketAddr::new(node.pods[1].address, TARGET);
        let listener = node.pods[1].netns.inside(|| TcpListener::bind(endpoint))??;
        std::thread::spawn(move || {
            let _ = cpu::pin_thread(cores.proxy);
            server::accept(&listener, |stream| drop(server::answer_each(stream, Duration::ZERO, ANSWER)));
        });
        translate(&node, endpoint)?;
        let memory = MemoryCgroup::make();
        let weir = start(weir, cores, &node, (sockets, &netns, endpoint), memory.as_ref(), &folder)?;
        let mut scene = Self { weir, memory, node, endpoint, core: cores.load };
        scene.wait(sockets, more)?;
        Ok(scene)
    }

    /// Waits until weir diverts, and listens in every pod.
    fn wait(&mut self, sockets: Sockets, more: usize) -> Result<()> {
        let page = || self.node.netns.inside(|| launch::page(ADMIN, "/metrics"))?;
        let ready = || -> Result<()> {
            let samples = metrics::parse(&page()?);
            let listening = metrics::sum(&samples, "weir_interception_netns", &[("state", "listening")]);
            let is_everywhere = sockets == Sockets::OnNode || listening >= (2 + more) as f64;
            ensure!(is_everywhere, "weir listens in {listening} pods");
            ensure!(metrics::sum(&samples, "weir_interception_armed", &[]) > 0.0, "weir diverts nothing");
            Ok(())
        };
        let pause = || interrupt::sleep(Duration::from_millis(20));
        self.weir.wait_until(Duration::from_secs(60), ready, pause)
    }

    pub(super) fn pid(&self) -> u32 {
        self.weir.pid()
    }

    /// The medians of the addresses of [`super::NAMES`], each of connect() and of connect() with a first answer.
    pub(super) fn dial(&self, count: usize) -> Result<Vec<[f64; 2]>> {
        let service = |ip: Ipv4Addr, port| SocketAddr::from((ip, port));
        self.dialled(
            count,
            &[self.endpoint, service(TRANSLATED, 80), service(DIVERTED, 80), service(DIVERTED, 81)],
        )
    }

    /// Connects to the endpoint itself.
    pub(super) fn dial_directly(&self, count: usize) -> Result<()> {
        self.dialled(count, &[self.endpoint]).map(drop)
    }

    fn dialled(&self, count: usize, addresses: &[SocketAddr]) -> Result<Vec<[f64; 2]>> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["dials", &count.to_string(), &self.core.to_string()]).stdin(Stdio::null());
        command.args(addresses.iter().map(ToString::to_string));
        self.node.pods[0].hold(&mut command)?;
        let printed = crate::process::output(&mut command)?;
        let line = |line: &str| -> Result<[f64; 2]> {
            let (connect, answered) = line.split_once(' ').context("two medians")?;
            Ok([connect.parse()?, answered.parse()?])
        };
        printed.lines().map(line).collect()
    }

    pub(super) fn cost(&self) -> Result<Cost> {
        Ok(Cost {
            own: process::memory(self.pid(), "RssAnon")?,
            kernel: self.memory.as_ref().and_then(MemoryCgroup::of_kernel),
            cpu: cpu::of_process(self.pid())?,
        })
    }
}

impl MemoryCgroup {
    /// None where this machine has no memory controller for it.
    fn make() -> Option<Self> {
        let root = [Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup")];
        let root = root.into_iter().find(|it| {
            it.join("memory.kmem.usage_in_bytes").exists()
                || fs::read_to_string(it.join("cgroup.subtree_control"))
                    .is_ok_and(|all| all.contains("memory"))
        })?;
        let own = root.join(format!("weir-bench-{}", std::process::id()));
        fs::create_dir(&own).ok()?;
        Some(Self(own))
    }

    /// What is charged to it of the kernel's memory.
    fn of_kernel(&self) -> Option<u64> {
        let number = |file: &str| fs::read_to_string(self.0.join(file)).ok();
        if let Some(text) = number("memory.kmem.usage_in_bytes") {
            return text.trim().parse().ok();
        }
        let stat = number("memory.stat")?;
        stat.lines().find_map(|line| line.strip_prefix("kernel ")?.trim().parse().ok())
    }
}

/// The node translates [`TRANSLATED`] to the endpoint, as kube-proxy has nftables do.
fn translate(node: &Node, endpoint: SocketAddr) -> Result<()> {
    let rule = format!(
        "add table ip bench; add chain ip bench services {{ type nat hook prerouting priority -100; }}; \
         add rule ip bench services ip daddr {TRANSLATED} tcp dport 80 dnat to {endpoint}"
    );
    let mut command = Command::new("nft");
    command.arg(rule);
    node.netns.hold(&mut command);
    crate::process::output(&mut command).context("no address translation (nf_nat, nft_nat)")?;
    Ok(())
}

fn start(
    weir: &Path,
    cores: Cores,
    node: &Node,
    (sockets, netns, endpoint): (Sockets, &Path, SocketAddr),
    memory: Option<&MemoryCgroup>,
    folder: &Path,
) -> Result<Running> {
    let place = match sockets {
        Sockets::InPods => format!("  sockets: pod\n  netns: {}\n", netns.display()),
        Sockets::OnNode => "  sockets: node\n".to_owned(),
    };
    let sections = format!(
        "transparent:\n  listen: \"[::]:4142\"\n  addresses: [{ADDRESS}]\n  cgroup: {}\n  enrol: all\n{place}",
        node.pods_cgroup().display()
    );
    let services = [("bench.yaml", document(endpoint))];
    let listen = SocketAddr::from((ADDRESS, 4140));
    let setting = Weir { listen, admin: ADMIN, sections, services: &services, ..Weir::before(&[]) };
    let mut command = launch::command(weir, &setting.write(folder)?, folder)?;
    node.netns.hold(cpu::pinned(&mut command, cores.proxy));
    if let Some(memory) = memory {
        test_support::cgroup::hold(&memory.0, &mut command)?;
    }
    let log = folder.join("weir.log");
    Running::start("weir", &mut command).with_context(|| format!("its log is {}", log.display()))
}

/// The Service that weir takes over.
fn document(endpoint: SocketAddr) -> String {
    let ip = endpoint.ip();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: bench, namespace: default }}\n\
         spec:\n  clusterIP: {DIVERTED}\n  ports:\n  - {{ name: http, port: 80, targetPort: {TARGET}, protocol: TCP }}\n\
         \x20 - {{ name: bytes, port: 81, targetPort: {TARGET}, protocol: TCP, appProtocol: tcp }}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{ name: bench-1, namespace: default, labels: {{ kubernetes.io/service-name: bench }} }}\n\
         addressType: IPv4\nports:\n- {{ name: http, port: {TARGET}, protocol: TCP }}\n\
         - {{ name: bytes, port: {TARGET}, protocol: TCP }}\n\
         endpoints: [{{ addresses: [{ip}], conditions: {{ ready: true }} }}]\n"
    )
}
