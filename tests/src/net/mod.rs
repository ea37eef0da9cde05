//! A pretend node: a network namespace for the node, one per pod, veth pairs through a bridge, a cgroup per pod.
//!
//! A namespace lives as long as its agent process, and an agent as long as its standard input, so a crashed test
//! leaves no namespace behind. Its cgroups carry the process id in their name; the next run sweeps them.
//! Every node is a world of its own, so all of them use the same addresses.

pub mod agent;
pub mod capture;
pub mod cgroup;
pub mod gate;
pub mod links;
pub mod mounts;
pub mod place;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use cgroup::Cgroup;
use place::Place;
use test_support::bridge::Bridge;
use test_support::netns::{self, Netns};
use test_support::process::Running;

use crate::weir::binary;

/// The node's IPv4 address.
pub const NODE_V4: &str = "10.1.0.1";
/// The node's IPv6 address.
pub const NODE_V6: &str = "fd00:1::1";
/// The IPv4 range of services. Packets for it that nobody diverts reach the pod made by [`Net::beyond`].
pub const SERVICES_V4: &str = "10.96.0.0/16";
/// The IPv6 range of services.
pub const SERVICES_V6: &str = "fd00:96::/64";

/// Whether this process may make namespaces and load BPF programs. Where it may not, it says once that the tests
/// which need them are left out, past the test runner, which would swallow the word of a test that passes.
pub fn is_root() -> bool {
    static SAID: std::sync::Once = std::sync::Once::new();
    let root = nix::unistd::geteuid().is_root();
    if !root {
        SAID.call_once(|| {
            let _ = writeln!(
                std::io::stderr(),
                "left out: every test with namespaces, BPF or socket filters, because they need root"
            );
        });
    }
    root
}

/// A node with its pods.
pub struct Net {
    /// Which node it is, from 0: its pods are in networks of this number.
    number: u8,
    bridge: Bridge,
    node: Pod,
    pods: Vec<Pod>,
    /// Where the pods' network namespaces are, as a container runtime has them in /run/netns.
    netns: tempfile::TempDir,
    folder: tempfile::TempDir,
    // Dropped last: the agents must have left their cgroups.
    cgroup: Cgroup,
}

/// A namespace, a cgroup, and the agent that keeps both.
#[derive(Clone)]
pub struct Pod(Arc<Inner>);

struct Inner {
    name: String,
    addresses: Vec<IpAddr>,
    cgroup: PathBuf,
    agent: Running,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Net {
    /// Makes the node; fails the test with the command that did not work.
    #[track_caller]
    pub fn new() -> Self {
        Self::of_number(0)
    }

    /// Makes a second node beside this one, with pods of its own, and routes between the pods of both.
    #[track_caller]
    pub fn second(&self) -> Self {
        let (first, second) = (&self.node, Self::of_number(self.number + 1));
        let pid = second.node.0.agent.pid();
        first.ip(&format!("link add nodes type veth peer name nodes netns {pid}\n"));
        for (node, number, other) in [(first, 1, &second), (&second.node, 2, self)] {
            let (to, [v4, v6]) = (3 - number, networks(other.number));
            node.ip(&format!(
                "addr add 10.2.0.{number}/24 dev nodes\naddr add fd00:2::{number}/64 dev nodes nodad\nlink set nodes up\n\
                 route add {v4}0/24 via 10.2.0.{to}\nroute add {v6}/64 via fd00:2::{to}\n"
            ));
        }
        for (node, number) in [(first, 1), (&second.node, 2)] {
            let own = ["10.2.0.", "fd00:2::"].map(|network| parse(&format!("{network}{number}")));
            node.netns().inside(|| netns::wait_for(&own)).unwrap().unwrap();
        }
        second
    }

    #[track_caller]
    fn of_number(number: u8) -> Self {
        cgroup::sweep();
        let cgroup = Cgroup::new();
        let networks = networks(number);
        let networks = networks.each_ref().map(String::as_str);
        let addresses = networks.map(|network| parse(&format!("{network}1")));
        let node = Pod::new("node", &cgroup.child("host"), addresses.to_vec());
        cgroup.child("pods");
        cgroup.child("weir");
        let bridge = Bridge::create(&node.netns(), &networks).unwrap();
        let [netns, folder] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        Self { number, bridge, node, pods: Vec::new(), netns, folder, cgroup }
    }

    /// Adds a pod with an IPv4 and an IPv6 address and routes through the node.
    #[track_caller]
    pub fn pod(&mut self, name: &str) -> Pod {
        self.numbered(name, self.pods.len() + 10)
    }

    /// Ends a pod, all that runs in it and its cgroup, and makes another of the same name and addresses.
    #[track_caller]
    pub fn anew(&mut self, pod: &mut Pod) {
        let place = self.pods.iter().position(|it| it.v4() == pod.v4()).expect("a pod of this node");
        let (name, number) = (pod.name().to_owned(), place + 10);
        std::fs::remove_file(self.netns_of(&name)).unwrap();
        self.bridge.part(number).unwrap();
        test_support::cgroup::remove(pod.cgroup());
        let new = self.numbered(&name, number);
        self.pods.swap_remove(place);
        *pod = new;
    }

    #[track_caller]
    fn numbered(&mut self, name: &str, number: usize) -> Pod {
        self.made(name, number, "unshare")
    }

    #[track_caller]
    fn made(&mut self, name: &str, number: usize, how: &str) -> Pod {
        let addresses = self.bridge.addresses(number).unwrap();
        let pod = Pod::made(name, &self.cgroup.child(&format!("pods/{name}")), addresses, how);
        self.bridge.join(number, &pod.netns()).unwrap();
        std::os::unix::fs::symlink(pod.namespace(), self.netns_of(name)).unwrap();
        self.pods.push(pod.clone());
        pod
    }

    /// Ends a pod and all that runs in it. Its namespace ends when nobody else holds it.
    pub fn end(&mut self, pod: Pod) {
        std::fs::remove_file(self.netns_of(pod.name())).unwrap();
        self.pods.retain(|it| it.v4() != pod.v4());
        let cgroup = pod.cgroup().to_owned();
        drop(pod);
        test_support::cgroup::remove(&cgroup);
    }

    /// The file of a pod's network namespace. A pod's name may be a path.
    fn netns_of(&self, name: &str) -> PathBuf {
        self.netns.path().join(name.replace('/', "-"))
    }

    /// The folder of the pods' network namespaces.
    pub fn netns(&self) -> &Path {
        self.netns.path()
    }

    /// A folder of the node, for what several weirs share.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Adds the pod that stands for everything beyond the node: it answers at the service addresses themselves,
    /// so that a connection which was not diverted can be told from one that was.
    #[track_caller]
    pub fn beyond(&mut self, addresses: &[&str]) -> Pod {
        let pod = self.pod("beyond");
        let (v4, v6) = (pod.v4(), pod.v6());
        for address in addresses {
            // Without `nodad` nobody may listen at an address of IPv6 before the kernel's worker has come to it, on `lo` too.
            let rest = if address.contains(':') { "128 dev lo nodad" } else { "32 dev lo" };
            pod.ip(&format!("addr add {address}/{rest}\n"));
        }
        let own: Vec<_> = addresses.iter().map(|address| parse(address)).collect();
        pod.netns().inside(|| netns::wait_for(&own)).unwrap().unwrap();
        self.node.ip(&format!("route add {SERVICES_V4} via {v4}\nroute add {SERVICES_V6} via {v6}\n"));
        pod
    }

    /// Adds a pod of the host's network: a pod's cgroup in the node's own namespace.
    #[track_caller]
    pub fn host_pod(&mut self, name: &str) -> Pod {
        self.pod_within(&self.node.clone(), name)
    }

    /// Adds a pod whose network namespace belongs to a user namespace of its own (`hostUsers: false`).
    #[track_caller]
    pub fn pod_of_other_users(&mut self, name: &str) -> Pod {
        self.made(name, self.pods.len() + 10, "unshare-users")
    }

    /// Adds a pod whose processes are in the network namespace of another one.
    #[track_caller]
    pub fn pod_within(&mut self, other: &Pod, name: &str) -> Pod {
        let cgroup = self.cgroup.child(&format!("pods/{name}"));
        let place = Place::Pod(other.clone(), cgroup.clone());
        let pod =
            Pod::start(name, &cgroup, other.0.addresses.clone(), place.command(binary::helper()), "stay");
        self.pods.push(pod.clone());
        pod
    }

    /// Takes the pod, which then stands for a node, from the network without a word to anyone: no packet from or to it
    /// arrives any more.
    pub fn cut(&self, pod: &Pod) {
        self.bridge.cut(number(pod)).unwrap();
    }

    /// Gives it back.
    pub fn mend(&self, pod: &Pod) {
        self.bridge.mend(number(pod)).unwrap();
    }

    /// The node itself: where weir runs.
    pub fn node(&self) -> Pod {
        self.node.clone()
    }

    /// The parent cgroup of all pods.
    pub fn pods_cgroup(&self) -> PathBuf {
        self.cgroup.path().join("pods")
    }

    /// The node's namespace with weir's own cgroup.
    pub fn weir_place(&self) -> Place {
        Place::Pod(self.node.clone(), self.cgroup.path().join("weir"))
    }
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

impl Pod {
    fn new(name: &str, cgroup: &Path, addresses: Vec<IpAddr>) -> Self {
        Self::made(name, cgroup, addresses, "unshare")
    }

    #[track_caller]
    fn made(name: &str, cgroup: &Path, addresses: Vec<IpAddr>, how: &str) -> Self {
        let mut command = Command::new(binary::helper());
        test_support::cgroup::hold(cgroup, &mut command).expect("the pod's cgroup");
        Self::start(name, cgroup, addresses, command, how)
    }

    #[track_caller]
    fn start(name: &str, cgroup: &Path, addresses: Vec<IpAddr>, mut command: Command, how: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        command.args(["agent", how]).arg(&socket).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut agent = Running::spawn("the agent", &mut command).unwrap();
        let said = agent.first_line().unwrap_or_default();
        assert_eq!(said, "ready", "the agent of pod {name} did not start: namespaces need root");
        let (name, cgroup) = (name.to_owned(), cgroup.to_owned());
        Self(Arc::new(Inner { name, addresses, cgroup, agent, socket, _folder: folder }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        self.0.addresses[0]
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        self.0.addresses[1]
    }

    /// Its IPv4 address with a port.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.v4(), port).into()
    }

    /// A connection made by a process of this pod: its namespace and its cgroup.
    pub fn connect(&self, address: SocketAddr) -> std::io::Result<std::net::TcpStream> {
        agent::connect(&self.0.socket, address)
    }

    /// The same from a port of the caller's choice.
    pub fn connect_from(&self, port: u16, address: SocketAddr) -> std::io::Result<std::net::TcpStream> {
        agent::connect_from(&self.0.socket, port, address)
    }

    /// The same from this address and port.
    pub fn connect_as(&self, own: SocketAddr, address: SocketAddr) -> std::io::Result<std::net::TcpStream> {
        agent::connect_as(&self.0.socket, own, address)
    }

    /// A listener of this pod.
    pub fn listen(&self, address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
        agent::listen(&self.0.socket, address)
    }

    /// A socket for datagrams of this pod.
    pub fn datagrams(&self, address: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
        agent::datagrams(&self.0.socket, address)
    }

    /// A program to be started in this pod.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        Place::from(self).command(program)
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Path {
        &self.0.cgroup
    }

    /// The file that stands for its network namespace.
    pub fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.agent.pid()).into()
    }

    fn netns(&self) -> Netns {
        Netns::of_process(self.0.agent.pid()).expect("the pod's namespace")
    }

    /// Runs `ip -batch` here.
    #[track_caller]
    pub fn ip(&self, batch: &str) {
        let mut ip =
            self.command("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("iproute2's `ip`");
        ip.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
        assert!(ip.wait().unwrap().success(), "ip failed in {}:\n{batch}", self.name());
    }

    /// Adds rules of nft(8) here, as a network plug-in does for a NetworkPolicy.
    #[track_caller]
    pub fn nft(&self, rules: &str) {
        let mut nft = self.command("nft");
        let nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn();
        let mut nft = nft.expect("nft (Debian: apt-get install nftables)");
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "nft failed in {}:\n{rules}", self.name());
    }

    /// Sets a variable of sysctl(8) here.
    #[track_caller]
    pub fn sysctl(&self, name: &str, value: &str) {
        let script = format!("echo {value} > /proc/sys/{name}");
        assert!(self.command("sh").args(["-c", &script]).status().unwrap().success(), "{script}");
    }
}

/// The number of a pod on its node.
fn number(pod: &Pod) -> usize {
    let IpAddr::V4(address) = pod.v4() else { panic!("a pod has an IPv4 address") };
    address.octets()[3].into()
}

/// What the addresses of a node and its pods begin with.
fn networks(number: u8) -> [String; 2] {
    let v6 = if number == 0 { "fd00:1::".to_owned() } else { format!("fd00:1:0:{number}::") };
    [format!("10.1.{number}."), v6]
}

fn parse(address: &str) -> IpAddr {
    address.parse().unwrap()
}
