//! A pretend node: a network namespace with a bridge, pods that are namespaces on it, and a cgroup per pod.
//!
//! The namespaces have names, to look into them. Everything goes away when it is dropped.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use test_support::bridge::Bridge;
use test_support::cgroup::{self, Cgroup};
use test_support::netns::{self, Netns};

/// The node's own address, which pods reach through their gateway.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const FIRST_POD: usize = 10;

/// The node. Fields are dropped in this order: what is inside goes before what it is in.
pub(crate) struct Node {
    pub(crate) pods: Vec<Pod>,
    pub(crate) netns: Netns,
    bridge: Bridge,
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
        let cgroup2 = cgroup::mount().context("no cgroup2 hierarchy is mounted")?;
        netns::sweep(prefix);
        cgroup::sweep(&cgroup2, prefix);
        let name = format!("{prefix}-{}", std::process::id());
        let cgroup = Cgroup::create(&cgroup2, &name)?;
        let pods_cgroup = Cgroup::create(cgroup.path(), "pods")?;
        let netns = Netns::create(&format!("{name}-node"))?;
        let bridge = Bridge::create(&netns, &["10.244.0."])?;
        // The wire out of the node leads nowhere; a veth, since not every kernel has dummy interfaces. An undiverted connection
        // to a service fails at once ("no route") and does not hang, since the node forwards.
        netns.ip(&format!(
            "link add eth0 type veth peer name wire\nlink set wire up\naddress add {ADDRESS}/24 dev eth0\nlink set eth0 up\n"
        ))?;
        Ok(Self { pods: Vec::new(), netns, bridge, pods_cgroup, _cgroup: cgroup, name })
    }

    /// Where the pods' cgroups are: what `transparent.cgroup` is to name.
    pub(crate) fn pods_cgroup(&self) -> &Path {
        self.pods_cgroup.path()
    }

    /// Adds a pod; returns its index.
    pub(crate) fn add_pod(&mut self, name: &str) -> Result<usize> {
        let index = self.pods.len();
        let number = FIRST_POD + index;
        let [address] = self.bridge.addresses(number)?[..] else {
            bail!("one network has one address for a pod")
        };
        let netns = Netns::create(&format!("{}-{name}", self.name))?;
        self.bridge.join(number, &netns)?;
        let cgroup = Cgroup::create(self.pods_cgroup.path(), name)?;
        self.pods.push(Pod { address, cgroup, netns });
        Ok(index)
    }

    /// Takes a pod, which then stands for another node, from the network without a word to anyone: what is sent to it is lost,
    /// and nobody says so.
    pub(crate) fn cut(&self, pod: usize) -> Result<()> {
        self.bridge.cut_behind_router(FIRST_POD + pod)
    }
}

impl Pod {
    /// The command will run as a process of this pod. This very program, if it is to run there, is `/proc/self/exe`.
    pub(crate) fn hold(&self, command: &mut Command) -> Result<()> {
        self.cgroup.hold(command)?;
        self.netns.hold(command);
        Ok(())
    }
}
