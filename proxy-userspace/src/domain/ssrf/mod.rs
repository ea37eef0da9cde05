//! SSRF guard: addresses that weir does not connect to.
//!
//! Any client of weir can make it connect to an address of their choice, from the node and with the node's address: to
//! a service that trusts loopback, to the cloud's metadata with the node's credentials, to weir itself in an endless
//! loop. So an address is checked just before connecting, after name resolution, and in every spelling: an IPv6 address
//! that embeds an IPv4 one (mapped, compatible, translated, NAT64, 6to4, Teredo) is refused if either is.
//!
//! Addresses that an operator wrote are allowed, in `discovery.files` or in the configuration's dtabs and namers. A
//! Service may have an endpoint in the node's own network, if that is a pod there: anybody who may write an EndpointSlice
//! could name the node in it; see [`Exempt`]. What a request had a part in, by its own name
//! or its own dtab entries, is not an operator's (`domain/route/engine`). Connecting to weir's own listeners is never
//! allowed.
//!
//! This node's addresses are not only those of its interfaces: a route of type `local` can add a whole range, so the
//! caller must pass the kernel's view of an address.
//!
//! Not here: policy, which decides who may connect where; these addresses are refused for everyone.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// The addresses that lead back to this node.
#[derive(Clone, Copy, Debug)]
pub struct LocalAddresses<'a> {
    /// The addresses of the node's interfaces.
    pub own: &'a [IpAddr],
    /// weir's own listeners; an unspecified IP means every address of the node, both families.
    pub listeners: &'a [SocketAddr],
    /// Further ranges that the operator refuses.
    pub refused: &'a [IpNet],
}

/// The exemption of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exempt {
    /// None.
    No,
    /// An operator wrote it, in `discovery.files` or in the configuration's dtabs and namers: everything but weir's own
    /// listeners is allowed.
    Written,
    /// It is an endpoint of a Service, as an EndpointSlice names it: no more is allowed than with [`Self::No`].
    ServiceEndpoint,
    /// As [`Self::ServiceEndpoint`], and it is known to be in the node's own network; or an address from the cluster's DNS
    /// for a Service: the node's own addresses are allowed, nothing else.
    OnNode,
}

/// Why weir does not connect to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 127.0.0.0/8, ::1.
    Loopback,
    /// 169.254.0.0/16, fe80::/10.
    LinkLocal,
    /// The metadata and agent endpoints of clouds: 169.254.169.254, fd00:ec2::/32 and fd20:ce::254 (Amazon's and
    /// Google's), 168.63.129.16 (Azure's), 100.100.100.200 (Alibaba's), 192.0.0.192 (Oracle's).
    Metadata,
    /// In the operator's list.
    Listed,
    /// 0.0.0.0/8, ::, which the kernel treats as loopback.
    Unspecified,
    /// 224.0.0.0/4, ff00::/8.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// An address of this node.
    OwnAddress,
    /// An address of this node in an EndpointSlice, for which there is no pod in the node's network.
    NoHostPod,
    /// One of weir's own listeners.
    OwnListener,
    /// The request's listener does not lead there (`outgoing.destinations`).
    NotLed,
}

/// Whether weir refuses to connect to `addr`, and why. `is_local` returns whether the kernel treats an address as this
/// node's own; it is called only if that decides.
pub fn refuse(
    addr: SocketAddr,
    local: LocalAddresses<'_>,
    exempt: Exempt,
    is_local: impl Fn(IpAddr) -> bool,
) -> Option<Refusal> {
    let spellings = || [Some(addr.ip()), embedded(addr.ip())].into_iter().flatten();
    let is_own = |ip: IpAddr| local.is_own(ip) || is_local(ip);
    if spellings().any(|ip| local.is_listener(ip, addr.port(), is_own)) {
        return Some(Refusal::OwnListener);
    }
    let special = || spellings().find_map(special);
    let listed = || spellings().any(|ip| local.is_listed(ip)).then_some(Refusal::Listed);
    let own = || spellings().any(is_own).then_some(());
    match exempt {
        Exempt::Written => None,
        Exempt::OnNode => special().or_else(listed),
        Exempt::No | Exempt::ServiceEndpoint => {
            special().or_else(listed).or_else(|| own().and(exempt.refuses_own()))
        }
    }
}

impl Exempt {
    /// Why an address of this node is refused, if it is.
    pub fn refuses_own(self) -> Option<Refusal> {
        match self {
            Self::No => Some(Refusal::OwnAddress),
            Self::ServiceEndpoint => Some(Refusal::NoHostPod),
            Self::OnNode | Self::Written => None,
        }
    }
}

/// As [`refuse`], for a connection from a pod's own network namespace: there nothing is lent that the pod does not have,
/// so the node's addresses and the pod's own are allowed. Loopback, link-local addresses, metadata and weir's own
/// listeners are refused for every destination, also for one in `discovery.files`.
pub fn refuse_in_pod(addr: SocketAddr, local: LocalAddresses<'_>) -> Option<Refusal> {
    let spellings = || [Some(addr.ip()), embedded(addr.ip())].into_iter().flatten();
    if spellings().any(|ip| local.is_listener(ip, addr.port(), |ip| local.is_own(ip))) {
        return Some(Refusal::OwnListener);
    }
    let listed = || spellings().any(|ip| local.is_listed(ip)).then_some(Refusal::Listed);
    spellings().find_map(special).or_else(listed)
}

/// Whether weir refuses an established connection from `own` to `peer`, and why: one between two equal addresses has
/// not left this node, whatever was known of that address before.
pub fn refuse_connected(
    own: SocketAddr,
    peer: SocketAddr,
    local: LocalAddresses<'_>,
    exempt: Exempt,
) -> Option<Refusal> {
    match own.ip().to_canonical() == peer.ip().to_canonical() {
        false => None,
        true if local.is_listener(peer.ip().to_canonical(), peer.port(), |_| true) => {
            Some(Refusal::OwnListener)
        }
        true => exempt.refuses_own(),
    }
}

impl LocalAddresses<'_> {
    /// Whether one of weir's listeners has this port.
    pub fn has_listener_at(&self, port: u16) -> bool {
        self.listeners.iter().any(|listener| listener.port() == port)
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        self.own.iter().any(|own| own.to_canonical() == ip)
    }

    fn is_listed(&self, ip: IpAddr) -> bool {
        self.refused.iter().any(|net| net.contains(&ip))
    }

    fn is_listener(&self, ip: IpAddr, port: u16, is_own: impl Fn(IpAddr) -> bool) -> bool {
        // A connection to an unspecified address goes to loopback.
        let here = || ip.is_loopback() || ip.is_unspecified() || is_own(ip);
        self.listeners.iter().filter(|listener| listener.port() == port).any(|listener| {
            let at = listener.ip().to_canonical();
            at == ip || (at.is_unspecified() && here()) || (at.is_loopback() && ip.is_unspecified())
        })
    }
}

/// Why an address is refused on any node, ignoring an embedded IPv4 address.
fn special(ip: IpAddr) -> Option<Refusal> {
    match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<Refusal> {
    match ip.octets() {
        [0, ..] => Some(Refusal::Unspecified),
        [127, ..] => Some(Refusal::Loopback),
        [169, 254, 169, 254] | [168, 63, 129, 16] | [100, 100, 100, 200] | [192, 0, 0, 192] => {
            Some(Refusal::Metadata)
        }
        [169, 254, ..] => Some(Refusal::LinkLocal),
        [224..=239, ..] => Some(Refusal::Multicast),
        [255, 255, 255, 255] => Some(Refusal::Broadcast),
        _ => None,
    }
}

fn special_v6(ip: Ipv6Addr) -> Option<Refusal> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Refusal::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Refusal::Loopback),
        // The whole range that Amazon uses: it also has time and DNS. Google's is one address.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254] => Some(Refusal::Metadata),
        [0xfe80..=0xfebf, ..] => Some(Refusal::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Refusal::Multicast),
        _ => None,
    }
}

/// The IPv4 address embedded in an IPv6 address, according to its prefix.
fn embedded(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else {
        return None;
    };
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let carried = match ip.segments() {
        // IPv4-mapped and IPv4-compatible: RFC 4291 §2.5.5. :: and ::1 only look compatible.
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] => v4(high, low),
        // IPv4-translated: RFC 2765 §2.1.
        [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
        // The well-known prefix of NAT64: RFC 6052 §2.1.
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // The NAT64 prefix for local use, with the IPv4 address at its end, the usual form (RFC 8215, RFC 6052 §2.2).
        [0x0064, 0xff9b, 1, .., high, low] => v4(high, low),
        // 6to4: RFC 3056 §2.
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo, which stores the client's address inverted: RFC 4380 §4.
        [0x2001, 0, .., high, low] => v4(!high, !low),
        _ => return None,
    };
    Some(IpAddr::V4(carried))
}

impl Refusal {
    /// The values of a metric's `reason` label, by [`Refusal::slot`].
    pub const LABELS: [&'static str; 11] = [
        "loopback",
        "link_local",
        "metadata",
        "listed",
        "unspecified",
        "multicast",
        "broadcast",
        "own_address",
        "own_listener",
        "not_led",
        "no_host_pod",
    ];

    /// The index of its label in [`Refusal::LABELS`].
    pub fn slot(self) -> usize {
        match self {
            Self::Loopback => 0,
            Self::LinkLocal => 1,
            Self::Metadata => 2,
            Self::Listed => 3,
            Self::Unspecified => 4,
            Self::Multicast => 5,
            Self::Broadcast => 6,
            Self::OwnAddress => 7,
            Self::OwnListener => 8,
            Self::NotLed => 9,
            Self::NoHostPod => 10,
        }
    }
}

/// One line for a client, without the address.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address would lead back into the proxy's own node",
            Self::LinkLocal => "link-local addresses are not proxied",
            Self::Metadata => "the cloud's metadata service is not proxied",
            Self::Listed => "the operator refuses it (refuse)",
            Self::Unspecified => "an unspecified address is not a destination",
            Self::Multicast => "a multicast address is not a destination",
            Self::Broadcast => "the broadcast address is not a destination",
            Self::OwnAddress => "an address of the proxy's own node that is no Service's endpoint",
            Self::NoHostPod => {
                "an address of the proxy's own node, in an EndpointSlice that names no pod with hostNetwork there (targetRef)"
            }
            Self::OwnListener => "the proxy's own listener would be a loop",
            Self::NotLed => "this listener does not lead there (outgoing.destinations)",
        })
    }
}
