//! Computes which destinations are diverted: from the wanted destinations to the entries of the programs' prefix trie.
//!
//! In the trie only the longest prefix that contains an address counts. So an entry also carries the ports of every
//! wanted network around it, and an exclusion inside a wanted network is an entry without ports: a hole. Computing that
//! is pure ([`options`]); [`Table`] applies the differences.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use aya::maps::MapData;
use aya::maps::lpm_trie::{Key, LpmTrie};
use ipnet::IpNet;
use proxy_ebpf::{Address, Ports, RANGES, Range};

use super::error::InterceptError;
use super::wire::Wire;

/// Room for exclusions, in addition to that for destinations.
pub(super) const HOLES: u32 = 1_024;

/// A network and its ports whose connections are diverted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The network; a single address for a service.
    pub net: IpNet,
    /// The ports, inclusive.
    pub ports: RangeInclusive<u16>,
}

impl Destination {
    fn is_address(&self) -> bool {
        self.net.prefix_len() == self.net.max_prefix_len()
    }

    /// The address and port, if it is only one of each.
    pub(super) fn single(&self) -> Option<SocketAddr> {
        let is_single = self.is_address() && self.ports.start() == self.ports.end();
        is_single.then(|| SocketAddr::new(self.net.addr().to_canonical(), *self.ports.start()))
    }

    fn order(&self) -> (IpNet, u16, u16) {
        (self.net, *self.ports.start(), *self.ports.end())
    }
}

impl Ord for Destination {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Destination {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The result of a change of the destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries that were added to the programs' table.
    pub added: usize,
    /// Entries whose ports were changed.
    pub changed: usize,
    /// Entries that were removed.
    pub removed: usize,
    /// Wanted networks that are not diverted because they are completely excluded.
    pub excluded: usize,
    /// Wanted networks that are not diverted because the table is full (`destinations` of the options).
    pub left_out: usize,
}

/// A prefix in the IPv4-mapped address space, as in the trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    octets: [u8; 16],
    length: u8,
}

impl Prefix {
    /// All of IPv4: the boundary between the families.
    const V4: Self = Self { octets: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], length: 96 };

    fn from_net(net: IpNet) -> Self {
        match net.trunc() {
            IpNet::V4(v4) => Self {
                octets: v4.addr().to_ipv6_mapped().octets(),
                length: Self::V4.length + v4.prefix_len(),
            },
            IpNet::V6(v6) => Self { octets: v6.addr().octets(), length: v6.prefix_len() },
        }
    }

    fn contains(&self, other: &Self) -> bool {
        let differing = u128::from_be_bytes(self.octets) ^ u128::from_be_bytes(other.octets);
        self.length <= other.length && differing.leading_zeros() >= u32::from(self.length)
    }

    fn key(&self) -> Key<Wire<Address>> {
        Key::new(self.length.into(), Wire(Address::from_octets(self.octets)))
    }
}

/// The intended contents of the trie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    by_prefix: BTreeMap<Prefix, Ports>,
    excluded: usize,
}

/// The state of a prefix during the walk from the root.
enum Node {
    Wanted(Vec<(u16, u16)>),
    Excluded,
    /// IPv4 does not inherit from IPv6, although it is inside it in the trie.
    Border,
}

/// Loopback, link-local, unspecified, multicast and broadcast addresses: they differ by host or network namespace, or
/// belong to no host.
pub fn standing_exclusions() -> impl Iterator<Item = IpNet> {
    [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "::1/128",
        "fe80::/10",
        "ff00::/8",
    ]
    .into_iter()
    .map(|net| net.parse().expect("the networks above are written correctly"))
}

/// The entries that divert `wanted`, except for addresses in `excluded`.
pub(super) fn options(wanted: &BTreeSet<Destination>, excluded: impl Iterator<Item = IpNet>) -> Entries {
    let mut nodes: BTreeMap<Prefix, Node> = BTreeMap::new();
    for Destination { net, ports } in wanted.iter().filter(|wanted| !wanted.ports.is_empty()) {
        let range = (*ports.start(), *ports.end());
        match nodes.entry(Prefix::from_net(*net)).or_insert_with(|| Node::Wanted(Vec::new())) {
            Node::Wanted(ranges) => ranges.push(range),
            Node::Excluded | Node::Border => {}
        }
    }
    nodes.entry(Prefix::V4).or_insert(Node::Border);
    let mut entries = Entries::default();
    for net in excluded {
        if let Some(Node::Wanted(_)) = nodes.insert(Prefix::from_net(net), Node::Excluded) {
            entries.excluded += 1;
        }
    }

    // Prefixes are sorted in the order of a tree walk: every prefix comes after those that contain it.
    let mut above: Vec<(Prefix, Node)> = Vec::new();
    for (prefix, node) in nodes {
        while above.pop_if(|(outer, _)| !outer.contains(&prefix)).is_some() {}
        // Only within a family: nothing is inherited across the boundary.
        let inherited = above.iter().rposition(|(outer, _)| *outer == Prefix::V4);
        let family = if prefix == Prefix::V4 { &[] } else { &above[inherited.unwrap_or(0)..] };
        let in_hole = family.iter().any(|(_, node)| matches!(node, Node::Excluded));
        let in_wanted = above.iter().any(|(_, node)| matches!(node, Node::Wanted(_)));
        match &node {
            Node::Wanted(_) if in_hole => entries.excluded += 1,
            Node::Wanted(own) => {
                let outer = family.iter().filter_map(|(_, node)| match node {
                    Node::Wanted(ranges) => Some(ranges),
                    Node::Excluded | Node::Border => None,
                });
                let ranges = outer.chain([own]).flatten().copied().collect();
                entries.by_prefix.insert(prefix, merge(ranges));
            }
            Node::Excluded | Node::Border if in_wanted && !in_hole => {
                entries.by_prefix.insert(prefix, Ports::NONE);
            }
            Node::Excluded | Node::Border => {}
        }
        above.push((prefix, node));
    }
    entries
}

/// The port ranges in the form of a trie entry. If there are too many, ranges with the smallest gap between them are
/// joined: a connection diverted needlessly is forwarded to its original destination.
fn merge(mut ranges: Vec<(u16, u16)>) -> Ports {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    while merged.len() > RANGES {
        let gap = |at: &usize| merged[at + 1].0 - merged[*at].1;
        let Some(narrowest) = (0..merged.len() - 1).min_by_key(gap) else { break };
        merged[narrowest].1 = merged[narrowest + 1].1;
        merged.remove(narrowest + 1);
    }
    let mut ports = Ports::NONE;
    for (place, (low, high)) in ports.ranges.iter_mut().zip(merged) {
        *place = Range { low, high };
    }
    ports
}

/// The programs' trie, and its contents.
#[derive(Debug)]
pub(super) struct Table {
    trie: LpmTrie<MapData, Wire<Address>, Wire<Ports>>,
    current: BTreeMap<Prefix, Ports>,
    room: u32,
    /// The last request.
    asked: Asked,
}

/// The wanted destinations, and the exclusions.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) wanted: BTreeSet<Destination>,
    pub(super) excluded: Vec<IpNet>,
    /// How many of the wanted networks are not single addresses.
    networks: usize,
    /// Whether the table holds exactly that.
    in_force: bool,
}

impl Asked {
    pub(super) fn new(wanted: BTreeSet<Destination>, excluded: Vec<IpNet>) -> Self {
        let networks = wanted.iter().filter(|it| !it.is_address()).count();
        Self { wanted, excluded, networks, in_force: false }
    }

    /// Applies a difference and returns the affected addresses.
    fn amend(&mut self, gone: &[Destination], come: &[Destination]) -> BTreeSet<IpNet> {
        for destination in gone.iter().filter(|it| self.wanted.remove(it)) {
            self.networks -= usize::from(!destination.is_address());
        }
        for destination in come.iter().filter(|it| self.wanted.insert(Destination::clone(it))) {
            self.networks += usize::from(!destination.is_address());
        }
        gone.iter().chain(come).map(|it| it.net).collect()
    }

    /// The table entry of a single address, if only single addresses are wanted: then no network contains another.
    fn entry(&self, address: IpNet) -> Option<Ports> {
        let at = |port| Destination { net: address, ports: port..=port };
        let wanted = self.wanted.range(at(0)..=at(u16::MAX)).filter(|it| !it.ports.is_empty());
        let ranges: Vec<_> = wanted.map(|it| (*it.ports.start(), *it.ports.end())).collect();
        let is_excluded = self.excluded.iter().any(|net| net.contains(&address));
        (!ranges.is_empty() && !is_excluded).then(|| merge(ranges))
    }
}

impl Table {
    pub(super) fn new(trie: LpmTrie<MapData, Wire<Address>, Wire<Ports>>, room: u32) -> Self {
        Self { trie, current: BTreeMap::new(), room, asked: Asked::default() }
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    /// Makes the trie match the request.
    pub(super) fn ask(&mut self, asked: Asked) -> Result<Applied, InterceptError> {
        self.asked = asked;
        self.all()
    }

    /// As [`Self::ask`], for the last request without `gone` and with `come`. As long as all of them are single
    /// addresses, only their entries are compared.
    pub(super) fn amend(
        &mut self,
        gone: &[Destination],
        come: &[Destination],
    ) -> Result<Applied, InterceptError> {
        let addresses = self.asked.amend(gone, come);
        let fits = self.current.len() + addresses.len() <= self.room as usize;
        if !self.asked.in_force || self.asked.networks > 0 || !fits {
            return self.all();
        }
        self.asked.in_force = false;
        let mut applied = Applied::default();
        for address in addresses {
            match self.asked.entry(address) {
                Some(ports) => self.set(Prefix::from_net(address), ports, &mut applied)?,
                None if self.current.contains_key(&Prefix::from_net(address)) => {
                    self.remove(Prefix::from_net(address), &mut applied)?;
                }
                None => {}
            }
        }
        self.asked.in_force = true;
        Ok(applied)
    }

    fn all(&mut self) -> Result<Applied, InterceptError> {
        let entries = options(&self.asked.wanted, self.asked.excluded.iter().copied());
        let applied = self.apply(&entries)?;
        self.asked.in_force = applied.left_out == 0;
        Ok(applied)
    }

    /// Makes the trie hold these entries, and changes only those that differ. At every moment in between, addresses
    /// excluded both before and after stay excluded: holes are added first and removed last.
    fn apply(&mut self, wanted: &Entries) -> Result<Applied, InterceptError> {
        let (holes, rest): (Vec<_>, Vec<_>) = wanted.by_prefix.iter().partition(|(_, ports)| ports.is_none());
        if holes.len() > HOLES as usize {
            return Err(InterceptError::TooManyExclusions { excluded: holes.len(), room: HOLES as usize });
        }
        let room = rest.len().min(self.room as usize);
        let (rest, left_out) = rest.split_at(room);
        let mut applied =
            Applied { excluded: wanted.excluded, left_out: left_out.len(), ..Applied::default() };
        let keep: BTreeSet<&Prefix> = holes.iter().chain(rest).map(|(prefix, _)| *prefix).collect();
        let stale: Vec<(Prefix, Ports)> = self
            .current
            .iter()
            .filter(|(at, _)| !keep.contains(at))
            .map(|(at, ports)| (*at, *ports))
            .collect();
        let (stale_holes, stale): (Vec<_>, Vec<_>) = stale.iter().partition(|(_, ports)| ports.is_none());
        for (prefix, _) in stale {
            self.remove(prefix, &mut applied)?;
        }
        for (prefix, ports) in holes.iter().chain(rest) {
            self.set(**prefix, **ports, &mut applied)?;
        }
        for (prefix, _) in stale_holes {
            self.remove(prefix, &mut applied)?;
        }
        Ok(applied)
    }

    fn set(&mut self, prefix: Prefix, ports: Ports, applied: &mut Applied) -> Result<(), InterceptError> {
        let before = self.current.get(&prefix);
        if before == Some(&ports) {
            return Ok(());
        }
        let known = before.is_some();
        self.trie.insert(&prefix.key(), Wire(ports), 0).map_err(InterceptError::map("SCOPE"))?;
        self.current.insert(prefix, ports);
        if known {
            applied.changed += 1
        } else {
            applied.added += 1
        }
        Ok(())
    }

    fn remove(&mut self, prefix: Prefix, applied: &mut Applied) -> Result<(), InterceptError> {
        self.trie.remove(&prefix.key()).map_err(InterceptError::map("SCOPE"))?;
        self.current.remove(&prefix);
        applied.removed += 1;
        Ok(())
    }
}

#[cfg(test)]
#[path = "scope_tests.rs"]
mod tests;
