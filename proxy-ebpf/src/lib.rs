//! What the eBPF programs and user space must agree on, and the decisions the programs take.
//!
//! The same source is compiled twice: into the programs below `programs/`, for `bpfel-unknown-none`, and
//! into weir and this crate's tests, for the host. So the layout of a map's key or value is written once,
//! and [`decide`] is tested without a kernel: `BPF_PROG_TEST_RUN` knows neither connect nor sockops
//! programs, which leaves plain functions as the only place where the logic can be tested exhaustively.
//!
//! Every struct here is `#[repr(C)]` without padding, because the kernel compares keys byte by byte.
//! Addresses are always IPv6 (IPv4 as `::ffff:a.b.c.d`) and the ports of a connection are in network order,
//! as the kernel hands them over: a connection looks the same whichever family either side speaks.
//!
//! Deliberately absent: the maps themselves (`programs/src/maps.rs`) and everything that calls a kernel.

#![no_std]

mod count;
pub mod decide;
pub mod decide_in_pod;
pub mod pods;

pub use count::Count;

/// The version of everything in this file. A program leaves connections alone when the settings it reads
/// carry another one, and weir ignores an [`Original`] of another one, so that a program and a weir of
/// different releases can meet in the same maps without misreading each other.
pub const LAYOUT: u32 = 6;

/// A heartbeat older than this, in nanoseconds, means that weir hangs.
pub const STALE_AFTER_NS: u64 = 2_000_000_000;

/// How many port ranges a [`Ports`] can hold.
pub const RANGES: usize = 8;

/// How many levels of cgroups, from the root down, enrolment is looked for. Kubernetes in Docker uses 8.
pub const LEVELS: i32 = 16;

/// The state of a listening socket: `TCP_LISTEN` in the kernel's `tcp_states.h`.
pub const LISTEN: u32 = 10;

/// An IPv6 address in network order; IPv4 addresses are mapped (`::ffff:a.b.c.d`).
///
/// Four words rather than sixteen bytes, because the kernel offers addresses in words and the verifier
/// wants them read that way. In memory it is the address's octets in either view.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Four octets a word, each word as it lies in memory.
    pub words: [u32; 4],
}

impl Address {
    /// The word before the IPv4 part of a mapped address.
    const MAPPED: u32 = 0x0000_ffff_u32.to_be();

    /// The mapped form of an IPv4 address, given as the kernel holds it: a word in network order.
    #[inline(always)]
    pub const fn mapped(v4: u32) -> Self {
        Self { words: [0, 0, Self::MAPPED, v4] }
    }

    /// Whether this is an IPv4 address in its mapped form.
    #[inline(always)]
    pub const fn is_mapped(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == Self::MAPPED
    }

    /// A key of `SCOPE` as it lies in memory, in words of eight bytes; the last four bytes are not part of it.
    #[inline(always)]
    pub const fn prefix(&self, bits: u32) -> [u64; 3] {
        let [a, b, c, d] = self.words;
        [word(bits, a), word(b, c), word(d, 0)]
    }

    /// A key of `REFUSED`, the address and a port in network order, in words of eight bytes.
    #[inline(always)]
    pub const fn with_port(&self, port: u16) -> [u64; 3] {
        let [a, b, c, d] = self.words;
        [word(a, b), word(c, d), port as u64]
    }

    /// The address with these octets, which are in network order.
    pub fn from_octets(octets: [u8; 16]) -> Self {
        let word = |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Self { words: [word(0), word(4), word(8), word(12)] }
    }

    /// The address's octets, in network order.
    pub fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(self.words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        octets
    }
}

/// Map `SETTINGS`, one entry: what does not change from one connection to the next.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The node address that IPv4 connections are rewritten to, mapped; valid with [`Settings::HAS_V4`].
    pub node4: Address,
    /// The node address that IPv6 connections are rewritten to; valid with [`Settings::HAS_V6`].
    pub node6: Address,
    /// The cookie of the node's own network namespace.
    pub host_netns: u64,
    /// Nanoseconds after which a heartbeat is stale; [`STALE_AFTER_NS`] outside tests.
    pub stale_after: u64,
    /// [`LAYOUT`] of the weir that wrote this.
    pub layout: u32,
    /// Without it there would be hidden padding at the end.
    pub unused: u32,
    /// The first transparent port, in host order.
    pub first_port: u16,
    /// How many transparent ports there are, one after the other.
    pub ports: u16,
    /// [`Settings::HAS_V4`] and its siblings.
    pub flags: u32,
}

impl Settings {
    /// `node4` is an address.
    pub const HAS_V4: u32 = 1;
    /// `node6` is an address.
    pub const HAS_V6: u32 = 2;
    /// Clients in the node's own network namespace are diverted too.
    pub const HOST: u32 = 4;

    /// Whether the flag is set.
    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// Some ports.
///
/// Map `SCOPE`, the value: which ports of a destination are diverted. That map is a longest-prefix trie, so an entry
/// speaks for its whole prefix and hides every shorter one. Without any range it is a hole: what lies below is never
/// diverted.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The ranges in use come first; the others are [`Range::NONE`].
    pub ranges: [Range; RANGES],
}

/// Ports from `low` to `high`, both included, in host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first port.
    pub low: u16,
    /// The last port.
    pub high: u16,
}

impl Range {
    /// No port at all.
    pub const NONE: Self = Self { low: 1, high: 0 };

    /// Whether the range is [`Range::NONE`].
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.low > self.high
    }
}

impl Ports {
    /// No port; in `SCOPE`, a hole.
    pub const NONE: Self = Self { ranges: [Range::NONE; RANGES] };

    /// Whether there is no port: what most pods and every hole have.
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.ranges[0].is_none()
    }

    /// Whether `port`, in host order, is one of these.
    #[inline(always)]
    pub fn contain(&self, port: u16) -> bool {
        let mut found = false;
        for range in &self.ranges {
            found |= range.low <= port && port <= range.high;
        }
        found
    }
}

/// Map `PODS`, the value by cgroup id: what happens to the connections of every process in that cgroup
/// and below. The deepest entry on the way to a process decides.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// A [`Policy`], as a number.
    pub policy: u32,
    /// Destination ports of connections that are left alone although the policy is [`Policy::Divert`].
    pub skip: Ports,
    /// Destination ports of connections that are diverted with the flag [`Original::OPAQUE`].
    pub opaque: Ports,
}

impl Pod {
    /// The same for connections to all ports.
    pub const fn all(policy: Policy) -> Self {
        Self { policy: policy as u32, skip: Ports::NONE, opaque: Ports::NONE }
    }
}

/// What happens to the connections of a pod.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Its connections are diverted.
    Divert = 1,
    /// Its connections are left alone: pods that opted out.
    LeaveAlone = 2,
    /// It is a weir's cgroup, whose connections lead to the endpoints. The kernel says which cgroup a process is in; what a
    /// process says of itself, as with `SO_MARK`, counts for nothing.
    Own = 3,
}

impl Policy {
    /// The policy a map's value stands for; `None` for a value of some later release.
    #[inline(always)]
    pub const fn from_value(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Divert),
            2 => Some(Self::LeaveAlone),
            3 => Some(Self::Own),
            _ => None,
        }
    }
}

/// Map `TUPLES`, the key: one diverted connection as weir sees it when it accepts it.
///
/// The number of its SYN is part of it: it stays what it is where addresses and ports are translated on the way, and no
/// other connection of the same addresses and ports has it, neither an earlier one nor one of another network namespace
/// that pretends to have the client's address. So no connection's entry takes another's place.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The client's address.
    pub client: Address,
    /// The node address the connection was rewritten to.
    pub node: Address,
    /// The client's port, in network order.
    pub client_port: u16,
    /// The transparent port, in network order.
    pub node_port: u16,
    /// The sequence number of the client's SYN, in host order.
    pub sequence: u32,
}

impl Tuple {
    /// The tuple as it lies in memory, in words of eight bytes.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 5] {
        let ([a, b, c, d], [e, f, g, h]) = (self.client.words, self.node.words);
        let ports = pair(self.client_port as u64, self.node_port as u64, 16) as u32;
        [word(a, b), word(c, d), word(e, f), word(g, h), word(ports, self.sequence)]
    }
}

/// Two numbers of four bytes, one after the other in memory.
#[inline(always)]
const fn word(first: u32, second: u32) -> u64 {
    pair(first as u64, second as u64, 32)
}

/// Two numbers of so many bits, one after the other in memory.
#[inline(always)]
const fn pair(first: u64, second: u64, bits: u32) -> u64 {
    if cfg!(target_endian = "little") { first | second << bits } else { first << bits | second }
}

/// Maps `TUPLES` and `DIALLED`, the value: where a connection was going before it was diverted.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// The address the application dialled.
    pub address: Address,
    /// The id of the cgroup of the process that dialled.
    pub cgroup: u64,
    /// The id of the nearest cgroup of `PODS` above it, which has it diverted: a pod's, where pods are enrolled one by one.
    pub pod: u64,
    /// The cookie of the network namespace it dialled in.
    pub netns: u64,
    /// When it dialled, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// The port it dialled, in network order.
    pub port: u16,
    /// [`Original::OPAQUE`] and what may come.
    pub flags: u16,
    /// [`LAYOUT`] of the program that wrote this.
    pub layout: u32,
}

impl Original {
    /// The pod wants connections to this port forwarded without a look at the bytes.
    pub const OPAQUE: u16 = 1;
}

// A struct with hidden padding would be rejected by the verifier when it is stored from the stack, or
// worse, make equal keys differ. The sums say that there is none.
const _: () = {
    assert!(size_of::<Address>() == 16);
    assert!(size_of::<Settings>() == 2 * 16 + 2 * 8 + 2 * 4 + 2 * 2 + 4);
    assert!(size_of::<Ports>() == RANGES * 4);
    assert!(size_of::<Pod>() == 4 + 2 * RANGES * 4);
    assert!(size_of::<Tuple>() == 2 * 16 + 2 * 2 + 4);
    assert!(size_of::<Original>() == 16 + 4 * 8 + 2 * 2 + 4);
};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_in_pod;
