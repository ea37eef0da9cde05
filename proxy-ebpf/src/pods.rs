//! weir's sockets in the pods' network namespaces: what the programs and user space share.
//!
//! A destination has a number. A diverted connection is rewritten to the address that stands for the number: an
//! address of 127.64.0.0/10, or of a /64 of weir's own in IPv6, both of which are local to every pod. So whoever knows
//! the address knows what was dialled, and nothing has to be remembered for a connection.

use crate::Address;

/// The bits of a number in an address of 127.64.0.0/10. The highest of the 22 bits that are free is [`OPAQUE`].
const BITS: u32 = 0x001f_ffff;

/// Set in an address where the pod wants the connection forwarded without a look at the bytes.
const OPAQUE: u32 = 0x0020_0000;

/// 127.64.0.0/10, in host order.
const V4: u32 = 0x7f40_0000;
const V4_MASK: u32 = 0xffc0_0000;

/// The highest number. Above it are the address where weir listens in a pod and the end of the range.
pub const MAX_NUMBER: u32 = BITS - 2;

/// Where weir listens in a pod: 127.127.255.254, which no number has, in host order.
pub const LISTEN_V4: u32 = V4 | OPAQUE | (BITS - 1);

/// Where weir takes connections of other weirs in a pod: 127.95.255.254, which no number has either, in host order.
pub const LISTEN_WIRE_V4: u32 = V4 | (BITS - 1);

/// The name of the program that steers connections to the pod's listener, which is loaded once for each pod.
pub const LOOKUP: &str = "weir_lookup";

/// What stands in that program for the pod's cookie. It is replaced in the instructions: the program cannot ask for the
/// cookie of its network namespace.
pub const COOKIE: u64 = 0x7765_6972_2d6e_6574;

/// Map `LISTENERS`, the second part of the key: what the listener is looked up for.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerUse {
    /// connect() to an IPv4 address may be diverted.
    Connect4 = 0,
    /// connect() to an IPv6 address may be diverted.
    Connect6 = 1,
    /// Connections that were diverted are steered to it: also when no more are to be diverted.
    Steer = 2,
    /// Connections between weirs are steered to it.
    Wire = 3,
}

/// The first source port of connections between weirs; the last is 65535. Nothing picks one of them by itself
/// (`net.ipv4.ip_local_port_range` ends at 60999).
pub const WIRE_PORTS: u16 = 61_000;

/// The most prefixes in map `WIRE_SOURCES`.
pub const MOST_WIRE_SOURCES: usize = 1_024;

/// Map `POD_SETTINGS`, one entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodSettings {
    /// The /64 in which the addresses of numbers lie in IPv6.
    pub prefix6: Address,
    /// The port of diverted connections in a pod, in host order.
    pub port: u16,
    /// The first source port of connections between weirs, in host order: [`WIRE_PORTS`].
    pub wire: u16,
    /// [`crate::LAYOUT`] of the weir that wrote this.
    pub layout: u32,
}

/// Map `OWN`, the value by cookie: a network namespace in which weir listens, with its own addresses; all zero where it
/// has none of the family. They are only shown to applications and say which connections come from inside: they tell
/// nothing about who somebody is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// IPv4, mapped.
    pub v4: Address,
    /// IPv6.
    pub v6: Address,
}

/// Map `DIALLED_BY_NUMBER`, the value: a destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The address, mapped where it is IPv4.
    pub address: Address,
    /// The port, in network order.
    pub port: u16,
    /// Nothing.
    pub unused: [u16; 3],
}

const _: () = {
    assert!(size_of::<PodSettings>() == 16 + 2 + 2 + 4);
    assert!(size_of::<Own>() == 2 * 16);
    assert!(size_of::<Numbered>() == 16 + 8);
    assert!(MAX_NUMBER < BITS - 1);
};

/// What an address of weir's in a pod stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The number of a destination, from 1 to [`MAX_NUMBER`].
    pub number: u32,
    /// The pod wants the connection forwarded without a look at the bytes.
    pub opaque: bool,
}

impl Shown {
    #[inline(always)]
    const fn bits(self) -> u32 {
        self.number & BITS | if self.opaque { OPAQUE } else { 0 }
    }

    /// Its IPv4 address, as the kernel holds it: a word in network order.
    #[inline(always)]
    pub const fn v4(self) -> u32 {
        (V4 | self.bits()).to_be()
    }

    /// Its IPv6 address.
    #[inline(always)]
    pub const fn v6(self, prefix: &Address) -> Address {
        Address { words: [prefix.words[0], prefix.words[1], 0, self.bits().to_be()] }
    }

    /// What an IPv4 address stands for, a word in network order; `None` for an address that is not one of weir's in pods.
    #[inline(always)]
    pub const fn of_v4(word: u32) -> Option<Self> {
        let host = u32::from_be(word);
        if host & V4_MASK == V4 { Some(Self::of_bits(host & !V4_MASK)) } else { None }
    }

    /// What an address stands for; IPv4 may be mapped.
    #[inline(always)]
    pub const fn of(address: &Address, prefix: &Address) -> Option<Self> {
        let [a, b, c, d] = address.words;
        if address.is_mapped() {
            return Self::of_v4(d);
        }
        let low = u32::from_be(d);
        if a == prefix.words[0] && b == prefix.words[1] && c == 0 && low & V4_MASK == 0 {
            Some(Self::of_bits(low))
        } else {
            None
        }
    }

    #[inline(always)]
    const fn of_bits(bits: u32) -> Self {
        Self { number: bits & BITS, opaque: bits & OPAQUE != 0 }
    }
}

impl PodSettings {
    /// Whether the port, in host order, is a source port of connections between weirs.
    #[inline(always)]
    pub const fn is_wire(&self, port: u16) -> bool {
        self.wire != 0 && port >= self.wire
    }
}

/// A key of `CALLERS`: the network namespace of a pod, and the port and the family of weir's connection to the pod's own
/// address, in words of eight bytes. The port is in host order.
#[inline(always)]
pub const fn caller(netns: u64, port: u16, v4: bool) -> [u64; 2] {
    [netns, port as u64 | (v4 as u64) << 16]
}

impl Own {
    /// Whether a connection from `source` comes from this network namespace itself. An IPv4 packet with such a source
    /// cannot come from elsewhere, and the answer to an IPv6 one would not reach its sender.
    #[inline(always)]
    pub fn is_inside(&self, source: &Address, prefix: &Address) -> bool {
        let [a, b, c, d] = source.words;
        if source.is_mapped() {
            return u32::from_be(d) >> 24 == 127 || d == self.v4.words[3];
        }
        let is_loopback = a == 0 && b == 0 && c == 0 && d == 1_u32.to_be();
        let is_ours = a == prefix.words[0] && b == prefix.words[1];
        is_loopback || is_ours || source.is(&self.v6)
    }
}

impl Address {
    /// Whether both are the same, word by word.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.words, other.words);
        a == e && b == f && c == g && d == h
    }
}
