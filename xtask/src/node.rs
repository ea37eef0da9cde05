//! A pretend node: a network namespace with a bridge, pods that are namespaces on it, and a cgroup per pod.
//!
//! It is what a container runtime would make, as far as interception can tell. Everything goes away when it is dropped.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::os::cgroup::{self, Cgroup};
use crate::os::netns::{self, Netns};
use crate::setup;

/// The node's own address, which pods reach through their gateway.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const FIRST_POD: u8 = 10;

/// The node. Fields are dropped in this order: what is inside goes before what it is in.
pub(crate) struct Node {
    pub(crate) pods: Vec<Pod>,
    pub(crate) netns: Netns,
    pods_cgroup: Cgroup,
    _cgroup: Cgroup,
    name: String,
}

/// A pod: a namespace with one interface, and a cgroup.
pub(crate) struct Pod {
    pub(crate) address: IpAddr,
    cgroup: Cgroup,
    pub(crate) netns: Netns,
}

impl Node {
    /// Makes a node whose namespaces and cgroups are called `PREFIX-PID…`.
    pub(crate) fn create(prefix: &str) -> Result<Self> {
        let cgroup2 = setup::cgroup2().context("no cgroup2 hierarchy is mounted")?;
        netns::sweep(prefix);
        cgroup::sweep(&cgroup2, prefix);
        let name = format!("{prefix}-{}", std::process::id());
        let cgroup = Cgroup::create(&cgroup2, &name)?;
        let pods_cgroup = Cgroup::create(cgroup.path(), "pods")?;
        let netns = Netns::create(&format!("{name}-node"))?;
        for line in [
            // Without an address of its own it has the lowest of its ports', and another one when that port goes.
            "link add cni0 address 02:00:00:00:00:01 type bridge".to_owned(),
            format!("address add {GATEWAY}/24 dev cni0"),
            "link set cni0 up".to_owned(),
            // The wire out of the node leads nowhere; a veth, since not every kernel has dummy interfaces.
            "link add eth0 type veth peer name wire".to_owned(),
            "link set wire up".to_owned(),
            format!("address add {ADDRESS}/24 dev eth0"),
            "link set eth0 up".to_owned(),
        ] {
            netns.ip(&line.split(' ').collect::<Vec<_>>())?;
        }
        // An undiverted connection to a service then fails at once ("no route") and does not hang.
        netns.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        Ok(Self { pods: Vec::new(), netns, pods_cgroup, _cgroup: cgroup, name })
    }

    /// Where the pods' cgroups are: what `transparent.cgroup` is to name.
    pub(crate) fn pods_cgroup(&self) -> &Path {
        self.pods_cgroup.path()
    }

    /// Adds a pod; returns its index.
    pub(crate) fn add_pod(&mut self, name: &str) -> Result<usize> {
        let index = self.pods.len();
        let address = Ipv4Addr::new(10, 244, 0, FIRST_POD + u8::try_from(index).context("too many pods")?);
        let netns = Netns::create(&format!("{}-{name}", self.name))?;
        let veth = format!("veth{index}");
        self.netns.ip(&[
            "link",
            "add",
            &veth,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            netns.name(),
        ])?;
        self.netns.ip(&["link", "set", &veth, "master", "cni0", "up"])?;
        netns.ip(&["link", "set", "eth0", "address", &hardware_address(index)])?;
        netns.ip(&["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        netns.ip(&["link", "set", "eth0", "up"])?;
        netns.ip(&["route", "add", "default", "via", &GATEWAY.to_string()])?;
        let cgroup = Cgroup::create(self.pods_cgroup.path(), name)?;
        self.pods.push(Pod { address: address.into(), cgroup, netns });
        Ok(index)
    }

    /// Takes a pod, which then stands for another node, from the network without a word to anyone: what is sent to it is lost,
    /// and nobody says so. The node keeps its Ethernet address, as a router's would stay when a node behind it is gone.
    pub(crate) fn cut(&self, pod: usize) -> Result<()> {
        let (address, hardware) = (self.pods[pod].address.to_string(), hardware_address(pod));
        self.netns.ip(&[
            "neigh",
            "replace",
            &address,
            "lladdr",
            &hardware,
            "dev",
            "cni0",
            "nud",
            "permanent",
        ])?;
        self.netns.ip(&["link", "set", &format!("veth{pod}"), "nomaster"])
    }
}

/// The Ethernet address of a pod, which the node is told before it can ask.
fn hardware_address(index: usize) -> String {
    format!("02:00:00:00:01:{index:02x}")
}

impl Pod {
    /// The command will run as a process of this pod. This very program, if it is to run there, is `/proc/self/exe`.
    pub(crate) fn hold(&self, command: &mut Command) -> Result<()> {
        self.cgroup.hold(command)?;
        self.netns.hold(command);
        Ok(())
    }
}
