//! The network of a pretend node: a bridge in the node's namespace, and pods' namespaces joined to it by veth pairs.
//!
//! It is what a container runtime would make, as far as interception can tell.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::netns::{self, Netns};

/// The bridge of a node. It goes with the node's namespace.
pub struct Bridge {
    node: Netns,
    /// Their addresses up to the last number: `10.1.0.`, `fd00:1::`.
    networks: Vec<String>,
}

impl Bridge {
    /// Makes a bridge in `node`, which has address 1 in each of these networks and forwards. A network is given as what its
    /// addresses begin with (`10.1.0.`, `fd00:1::`); one of IPv4 has 24 bits, and one of IPv6 has 64.
    ///
    /// # Errors
    ///
    /// What `ip` says, or the kernel to sysctl(8).
    pub fn create(node: &Netns, networks: &[&str]) -> Result<Self> {
        let made = Self { node: node.clone(), networks: networks.iter().map(ToString::to_string).collect() };
        // Without an address of its own a bridge has the lowest of its ports', and another one when that port goes.
        let mut batch = "link set lo up\nlink add br0 address 02:00:00:00:00:01 type bridge\n".to_owned();
        made.add_addresses(&mut batch, "br0", 1)?;
        batch.push_str("link set br0 up\n");
        node.ip(&batch)?;
        let addresses = made.addresses(1)?;
        node.inside(|| netns::wait_for(&addresses))??;
        node.inside(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            match networks.iter().any(|network| network.contains(':')) {
                true => std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1"),
                false => Ok(()),
            }
        })?
        .context("forwarding on the node")?;
        Ok(made)
    }

    /// The addresses with this number, one in each network.
    ///
    /// # Errors
    ///
    /// A network has no address of this number.
    pub fn addresses(&self, number: usize) -> Result<Vec<IpAddr>> {
        let parse = |network: &String| {
            let address = format!("{network}{number}");
            address.parse().with_context(|| format!("{address} is no address"))
        };
        self.networks.iter().map(parse).collect()
    }

    /// Joins a pod's namespace, which gets an interface `eth0` with the addresses of this number and routes through the node.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn join(&self, number: usize, pod: &Netns) -> Result<()> {
        self.node.ip(&format!(
            "link add veth{number} type veth peer name eth0 netns {}\nlink set veth{number} master br0 up\n",
            pod.path()
        ))?;
        let mut batch = "link set lo up\n".to_owned();
        self.add_addresses(&mut batch, "eth0", number)?;
        batch.push_str("link set eth0 up\n");
        for gateway in self.addresses(1)? {
            writeln!(batch, "route add default via {gateway}")?;
        }
        pod.ip(&batch)?;
        let addresses = self.addresses(number)?;
        pod.inside(|| netns::wait_for(&addresses))?
    }

    /// Takes the pod with this number from the network for good.
    ///
    /// # Errors
    ///
    /// What `ip` says: there is no such pod.
    pub fn part(&self, number: usize) -> Result<()> {
        self.node.ip(&format!("link del veth{number}"))
    }

    /// Takes the pod with this number, which then stands for a node, from the network without a word to anyone: no packet from
    /// or to it arrives any more.
    ///
    /// # Errors
    ///
    /// What `ip` says: there is no such pod.
    pub fn cut(&self, number: usize) -> Result<()> {
        self.node.ip(&format!("link set veth{number} nomaster down"))
    }

    /// Gives it back.
    ///
    /// # Errors
    ///
    /// What `ip` says: there is no such pod.
    pub fn mend(&self, number: usize) -> Result<()> {
        self.node.ip(&format!("link set veth{number} master br0 up"))
    }

    /// Takes the pod with this number, which then stands for a node behind a router, from the network without a word to anyone.
    /// The node keeps an Ethernet address for it, as a router's would stay when a node behind it is gone.
    ///
    /// # Errors
    ///
    /// What `ip` says: there is no such pod.
    pub fn cut_behind_router(&self, number: usize) -> Result<()> {
        let mut batch = String::new();
        for address in self.addresses(number)? {
            // Any will do: nobody has it any more.
            writeln!(
                batch,
                "neigh replace {address} lladdr 02:00:00:00:01:{number:02x} dev br0 nud permanent"
            )?;
        }
        writeln!(batch, "link set veth{number} nomaster")?;
        self.node.ip(&batch)
    }

    fn add_addresses(&self, batch: &mut String, interface: &str, number: usize) -> Result<()> {
        for address in self.addresses(number)? {
            // Nobody else has it, which duplicate address detection (RFC 4862) would take a second to find out.
            let (length, flag) = if address.is_ipv6() { (64, "nodad") } else { (24, "") };
            writeln!(batch, "addr add {address}/{length} dev {interface} {flag}")?;
        }
        Ok(())
    }
}
