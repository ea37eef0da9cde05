//! weir's sockets in the pods' network namespaces: which of them weir listens in, and what is diverted there.
//!
//! A network namespace is identified by its cookie, which the kernel gives it and no address can claim. An entry in
//! `LISTENERS` diverts: it is the last thing that is made, and the first that goes.
//!
//! Connections of other weirs to a pod are steered to a listener of their own (`between.rs`).

mod addresses;
mod between;
mod interception;
mod lookup;
mod netns;
mod numbers;
mod pod_ids;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use proxy_ebpf::pods::{ListenerUse, Own, PodSettings, WIRE_PORTS};
use proxy_ebpf::{Address, LAYOUT};

pub use self::addresses::{addresses, own_addresses};
use self::between::Between;
pub use self::between::{Caller, Callers};
use self::lookup::Lookup;
pub use self::netns::{
    NetnsId, add_route, is_loopback_up, listen as listen_in_pod, listen_at, listen_on_wire,
    of_socket as netns_of, open as open_netns, remove_route,
};
use self::numbers::{Maps, Table};
pub use self::numbers::{Numbers, usual_number};
pub use self::pod_ids::{PodCgroup, PodIds};
use super::error::InterceptError;
use super::object::Object;
use super::scope::Destination;
use super::{sys, wire};

/// How many network namespaces weir can listen in.
pub const MOST_PODS: usize = 4_096;

/// In `POD_OF`: several pods connect from the network namespace.
const SEVERAL: u64 = u64::MAX;

/// What `LISTENERS` has for the families (IPv4, IPv6).
const FAMILIES: [ListenerUse; 2] = [ListenerUse::Connect4, ListenerUse::Connect6];

/// With weir's sockets in the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodSockets {
    /// The port of diverted connections in a pod.
    pub port: u16,
    /// The /64 that stands for destinations in IPv6.
    pub prefix6: Ipv6Addr,
}

/// Whose connections come from a network namespace, as the kernel says of the processes that made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodOf {
    /// Nobody has made a connection that would be diverted.
    Unknown,
    /// The pod with this cgroup.
    One(u64),
    /// Processes of several pods: none of them is diverted.
    Several,
}

/// The network namespaces in which weir listens, and the programs' maps of them.
#[derive(Debug)]
pub(super) struct InPods {
    listeners: OwnedFd,
    own: OwnedFd,
    pod_of: OwnedFd,
    lookup: Lookup,
    numbers: Table,
    between: Between,
    joined: BTreeMap<u64, Joined>,
    is_armed: bool,
}

#[derive(Debug)]
struct Joined {
    /// Until the pod's end, so that the kernel keeps the entries until weir itself is gone; or until the port is released.
    listener: Option<OwnedFd>,
    /// Only held: closing it detaches the program, which drops what it has no listener for.
    link: Option<OwnedFd>,
    /// The listener for connections of other weirs, if these are taken here.
    wire: Option<OwnedFd>,
    /// Whether connections are diverted, by family (IPv4, IPv6).
    diverted: [bool; 2],
}

impl InPods {
    /// Takes the maps of a loaded object, and gives it the settings.
    pub(super) fn new(
        object: &Object,
        options: PodSockets,
        destinations: u32,
    ) -> Result<Self, InterceptError> {
        let map = |name| object.descriptor(name);
        let maps = ["LISTENERS", "OWN", "POD_SETTINGS", "WIRE_SOURCES"]
            .into_iter()
            .map(|name| Ok((name, map(name)?)));
        let maps = maps.collect::<Result<_, InterceptError>>()?;
        let lookup = Lookup::new(&object.bytes()?, maps).map_err(|cause| object.foreign(cause))?;
        let prefix6 = Address::from_octets(options.prefix6.octets());
        let settings = PodSettings { prefix6, port: options.port, wire: WIRE_PORTS, layout: LAYOUT };
        sys::set(map("POD_SETTINGS")?.as_fd(), &0_u32, &settings)
            .map_err(InterceptError::kernel("bpf (map POD_SETTINGS)"))?;
        let numbers = Maps { numbers: map("NUMBERS")?, dialled: map("DIALLED_BY_NUMBER")? };
        Ok(Self {
            listeners: map("LISTENERS")?,
            own: map("OWN")?,
            pod_of: map("POD_OF")?,
            lookup,
            numbers: Table::new(numbers, prefix6, destinations),
            between: Between::new(map("WIRE_SOURCES")?, map("CALLERS")?),
            joined: BTreeMap::new(),
            is_armed: true,
        })
    }

    /// Listens in a network namespace with `listener`, a socket of it. Connections of its pod are diverted after
    /// [`Self::tell`]. Returns the namespace's cookie.
    pub(super) fn join(
        &mut self,
        netns: BorrowedFd<'_>,
        listener: BorrowedFd<'_>,
    ) -> Result<u64, InterceptError> {
        sys::is_listening(listener).map_err(InterceptError::Listener)?;
        let cookie = sys::netns_cookie_of(listener).map_err(InterceptError::kernel("SO_NETNS_COOKIE"))?;
        if self.joined.contains_key(&cookie) || self.joined.len() >= MOST_PODS {
            return Err(InterceptError::Options(format!(
                "weir listens in this network namespace already, or in {MOST_PODS}"
            )));
        }
        let listener = listener.try_clone_to_owned().map_err(InterceptError::kernel("dup"))?;
        let link = self.lookup.link(cookie, netns)?;
        let joined = Joined { listener: Some(listener), link: Some(link), wire: None, diverted: [false; 2] };
        self.joined.insert(cookie, joined);
        let done = self.tell_own(cookie, [None; 2]).and_then(|()| self.set(cookie, ListenerUse::Steer));
        match done {
            Ok(()) => Ok(cookie),
            Err(cause) => {
                self.leave(cookie);
                Err(InterceptError::kernel("bpf (map LISTENERS)")(cause))
            }
        }
    }

    /// Sets the addresses that applications are told, and which families are diverted.
    pub(super) fn tell(
        &mut self,
        cookie: u64,
        own: [Option<IpAddr>; 2],
        diverted: [bool; 2],
    ) -> io::Result<()> {
        self.tell_own(cookie, own)?;
        let Some(joined) = self.joined.get_mut(&cookie) else { return Ok(()) };
        let before = std::mem::replace(&mut joined.diverted, diverted);
        for (at, which) in FAMILIES.into_iter().enumerate() {
            if before[at] && !diverted[at] {
                self.clear(cookie, which)?;
            }
        }
        self.arm_one(cookie)
    }

    fn tell_own(&self, cookie: u64, [v4, v6]: [Option<IpAddr>; 2]) -> io::Result<()> {
        let none = Address { words: [0; 4] };
        let own = Own { v4: v4.map_or(none, wire::address), v6: v6.map_or(none, wire::address) };
        sys::set(self.own.as_fd(), &cookie, &own)
    }

    /// Diverts nothing more from the network namespace, and forgets it. What fails does so because it is gone already.
    pub(super) fn leave(&mut self, cookie: u64) {
        for which in [ListenerUse::Connect4, ListenerUse::Connect6, ListenerUse::Wire, ListenerUse::Steer] {
            let _ = self.clear(cookie, which);
        }
        let _ = sys::remove(self.own.as_fd(), &cookie);
        let _ = sys::remove(self.pod_of.as_fd(), &cookie);
        self.joined.remove(&cookie);
    }

    /// Whose connections come from the network namespace.
    pub(super) fn pod_of(&self, cookie: u64) -> PodOf {
        match sys::number(self.pod_of.as_fd(), &cookie) {
            None => PodOf::Unknown,
            Some(SEVERAL) => PodOf::Several,
            Some(pod) => PodOf::One(pod),
        }
    }

    /// Forgets whose connections come from the network namespace, because that pod's cgroup is gone.
    pub(super) fn forget_pod(&self, cookie: u64) {
        let _ = sys::remove(self.pod_of.as_fd(), &cookie);
    }

    /// Forgets that several pods connect from a network namespace.
    pub(super) fn forget_shared(&self) {
        for cookie in self.joined.keys().filter(|it| self.pod_of(**it) == PodOf::Several) {
            self.forget_pod(*cookie);
        }
    }

    /// Forgets whose connections come from each network namespace, because the cgroups are others now.
    pub(super) fn forget_pods(&self) {
        self.joined.keys().for_each(|cookie| self.forget_pod(*cookie));
    }

    /// Diverts in every network namespace (again).
    pub(super) fn arm(&mut self) -> io::Result<()> {
        self.is_armed = true;
        let cookies: Vec<u64> = self.joined.keys().copied().collect();
        cookies.into_iter().try_for_each(|cookie| self.arm_one(cookie))
    }

    /// Diverts nothing more. What was diverted already still arrives.
    pub(super) fn disarm(&mut self) {
        self.is_armed = false;
        for &cookie in self.joined.keys() {
            let _ = self.clear(cookie, ListenerUse::Connect4);
            let _ = self.clear(cookie, ListenerUse::Connect6);
            let _ = self.clear(cookie, ListenerUse::Wire);
        }
    }

    /// Steers nothing more to weir's listeners, and closes them. What is open stays, and the pods' own addresses with it.
    pub(super) fn release_port(&mut self) {
        self.disarm();
        let cookies: Vec<u64> = self.joined.keys().copied().collect();
        for cookie in cookies {
            let _ = self.clear(cookie, ListenerUse::Steer);
        }
        for joined in self.joined.values_mut() {
            // The program first: without its listener it would drop connections to another weir's.
            joined.link = None;
            for listener in joined.listener.take().into_iter().chain(joined.wire.take()) {
                // Other duplicates keep the socket open, by which the namespace is found. It listens no more.
                let _ = nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
            }
        }
    }

    pub(super) fn is_armed(&self) -> bool {
        self.is_armed
    }

    fn arm_one(&self, cookie: u64) -> io::Result<()> {
        let Some(joined) = self.joined.get(&cookie).filter(|_| self.is_armed) else { return Ok(()) };
        self.arm_wire(cookie)?;
        let wanted = FAMILIES.into_iter().zip(joined.diverted).filter(|(_, is_diverted)| *is_diverted);
        wanted.map(|(which, _)| which).try_for_each(|which| self.set(cookie, which))
    }

    fn set(&self, cookie: u64, which: ListenerUse) -> io::Result<()> {
        let listener = self.joined.get(&cookie).and_then(|it| it.listener.as_ref());
        let Some(listener) = listener else { return Ok(()) };
        sys::set_socket(self.listeners.as_fd(), &[cookie, which as u64], listener.as_fd())
    }

    fn clear(&self, cookie: u64, which: ListenerUse) -> io::Result<()> {
        sys::remove(self.listeners.as_fd(), &[cookie, which as u64])
    }

    /// What the numbers stand for.
    pub(super) fn numbers(&self) -> Numbers {
        self.numbers.shared()
    }

    /// Gives these destinations numbers. Returns how many have none: the table is full, or it is no single address and
    /// port.
    pub(super) fn ask<'a>(
        &mut self,
        wanted: impl Iterator<Item = &'a Destination>,
    ) -> Result<usize, InterceptError> {
        let mut without = 0;
        let single: HashSet<SocketAddr> = wanted
            .filter_map(|it| {
                it.single().or_else(|| {
                    without += 1;
                    None
                })
            })
            .collect();
        self.numbers.ask(&single, Instant::now()).map_err(InterceptError::kernel("bpf (map NUMBERS)"))?;
        Ok(without + self.numbers.left_out())
    }

    /// As [`Self::ask`], with what differs.
    pub(super) fn amend(
        &mut self,
        gone: &[Destination],
        come: &[Destination],
    ) -> Result<usize, InterceptError> {
        let single = |all: &[Destination]| all.iter().filter_map(Destination::single).collect::<Vec<_>>();
        let done = self.numbers.amend(&single(gone), &single(come), Instant::now());
        done.map_err(InterceptError::kernel("bpf (map NUMBERS)"))?;
        Ok(self.numbers.left_out())
    }
}
