//! The interception settings: what to attach and how, checked.

use std::net::IpAddr;
use std::path::PathBuf;

use proxy_ebpf::{Address, LAYOUT, STALE_AFTER_NS, Settings};

use super::Fail;
use super::error::InterceptError;
use super::in_pods::PodSockets;
use super::wire;

/// Whose connections are diverted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrol {
    /// Those of every process in the options' cgroup and below.
    All,
    /// Those of the pods set by [`super::Interception::enrol_pods`], whose cgroups are below the options' cgroup; at
    /// first none.
    Pods,
}

/// How to intercept.
#[derive(Clone, Debug)]
pub struct InterceptOptions {
    /// Addresses of this node that pods can reach, where weir listens: the first of each family is used.
    /// A family without one is not diverted.
    pub addresses: Vec<IpAddr>,
    /// The first transparent port.
    pub first_port: u16,
    /// How many transparent ports follow each other.
    pub ports: u16,
    /// The cgroup whose processes, and those of all cgroups below, can be diverted: the pods' parent.
    pub cgroup: PathBuf,
    /// Which of these processes are diverted.
    pub enrol: Enrol,
    /// Whether clients in the node's own network namespace are diverted too.
    pub host: bool,
    /// What happens to connections when weir cannot take them.
    pub fail: Fail,
    /// How many diverted connections may wait for weir to accept them; beyond that, the oldest lose their original
    /// destination and are closed. 136 bytes of kernel memory each.
    pub tuples: u32,
    /// Maximum number of diverted destinations. 96 bytes of kernel memory for each one in use.
    pub destinations: u32,
    /// weir's sockets are in the pods' network namespaces, and not on the node: then [`Self::addresses`],
    /// [`Self::first_port`], [`Self::ports`], [`Self::host`] and [`Self::tuples`] are not used.
    pub pods: Option<PodSockets>,
}

impl InterceptOptions {
    /// The default of [`Self::tuples`].
    pub const TUPLES: u32 = 65_536;
    /// The default of [`Self::destinations`].
    pub const DESTINATIONS: u32 = 65_536;

    /// Rejects invalid options before any kernel call.
    pub(super) fn check(&self) -> Result<(), InterceptError> {
        let wrong = |what: &str| Err(InterceptError::Options(what.to_owned()));
        if self.pods.is_some() {
            if self.destinations == 0 {
                return wrong("the table of destinations needs at least one entry");
            }
            return Ok(());
        }
        if self.addresses.is_empty() {
            return wrong("there is no node address that pods could reach: set transparent.addresses");
        }
        if let Some(address) = self.addresses.iter().find(|a| a.is_unspecified() || a.is_multicast()) {
            return wrong(&format!("{address} is no node address: set transparent.addresses"));
        }
        if self.ports == 0 || self.first_port == 0 || self.first_port.checked_add(self.ports - 1).is_none() {
            return wrong(&format!(
                "{} transparent ports from {} on do not exist: set transparent.listen and transparent.ports",
                self.ports, self.first_port
            ));
        }
        if self.tuples == 0 || self.destinations == 0 {
            return wrong("the tables of connections and destinations need at least one entry");
        }
        Ok(())
    }

    /// The first address of each family.
    fn first(&self, v4: bool) -> Option<IpAddr> {
        self.addresses.iter().map(IpAddr::to_canonical).find(|address| address.is_ipv4() == v4)
    }

    /// Those of [`Self::addresses`] that connections are diverted to.
    pub(super) fn used(&self) -> Vec<IpAddr> {
        let all = [self.first(true), self.first(false)].into_iter().flatten();
        all.filter(|_| self.pods.is_none()).collect()
    }

    /// The settings as the programs read them.
    pub(super) fn settings(&self, host_netns: u64) -> Settings {
        let none = Address { words: [0; 4] };
        let on_node = |v4| self.first(v4).filter(|_| self.pods.is_none());
        let (node4, node6) = (on_node(true), on_node(false));
        let flag = |set, flag| if set { flag } else { 0 };
        Settings {
            node4: node4.map_or(none, wire::address),
            node6: node6.map_or(none, wire::address),
            host_netns,
            stale_after: STALE_AFTER_NS,
            layout: LAYOUT,
            unused: 0,
            first_port: self.first_port,
            ports: self.ports,
            flags: flag(node4.is_some(), Settings::HAS_V4)
                | flag(node6.is_some(), Settings::HAS_V6)
                | flag(self.host, Settings::HOST),
        }
    }
}
