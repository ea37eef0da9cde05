//! Diverted, left alone or refused: the decision on one connect().
//!
//! The order is the cost: most connections of a node go to no known service and must pay for one trie
//! look-up and nothing else. So the facts are asked for one at a time, through [`Facts`], and never
//! after the answer is known. In the kernel a fact is a helper call; in the tests it is a field.

use crate::{Address, Count, Original, Pod, Policy, Ports, Settings};

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rewrite it to the node address and to this transparent port, counted from the first.
    Redirect {
        /// 0 for the first transparent port.
        port: u16,
        /// [`Original::flags`] for weir.
        flags: u16,
        /// [`Original::pod`].
        pod: u64,
    },
    /// Let it go where it was going.
    Skip(Count),
    /// Answer ECONNREFUSED, or EPERM where the kernel cannot.
    Refuse(Count),
    /// Rewrite it to a port of loopback that is closed: the service has no endpoint, and connect() is to fail as it
    /// would without weir. Every kernel can do that.
    Nowhere,
}

/// The address and port an application dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The address, mapped where it is IPv4.
    pub address: Address,
    /// The port, in network order.
    pub port: u16,
}

/// What happens to a connection that should be diverted when weir cannot take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// It goes direct, past weir's balancing and its policies.
    Open,
    /// It is refused.
    Closed,
}

/// What the decision may ask, each at most once.
pub trait Facts {
    /// The entry of the longest prefix that holds the dialled address.
    fn scope(&self) -> Option<&Ports>;
    /// The nearest enrolled cgroup, from the process's own upwards: its id and its entry.
    fn pod(&self) -> Option<(u64, &Pod)>;
    /// The cookie of the client's network namespace.
    fn netns(&self) -> u64;
    /// The state of the socket in the listener's slot (`tcp_states.h`); `None` when the slot is empty.
    fn listener(&self) -> Option<u32>;
    /// Nanoseconds since weir's last heartbeat.
    fn heart_age(&self) -> u64;
    /// Whether the dialled address and port are those of a service without an endpoint.
    fn is_refused(&self) -> bool;
}

/// Decides on one connection.
///
/// A listener that was shut down stays in its slot, no longer in state LISTEN, and would refuse every
/// connection; so the state counts and not the presence.
#[inline(always)]
pub fn decide(facts: &impl Facts, dial: &Dial, settings: &Settings, fail: Fail) -> Verdict {
    let (id, pod) = match wanted(facts, dial, settings) {
        Ok(wanted) => wanted,
        Err(why) => return Verdict::Skip(why),
    };
    let port = u16::from_be(dial.port);
    if !settings.has(Settings::HOST) && facts.netns() == settings.host_netns {
        return Verdict::Skip(Count::Host);
    }
    if node(dial, settings).is_none() {
        return Verdict::Skip(Count::NoNodeAddress);
    }
    if facts.listener() != Some(crate::LISTEN) {
        return lost(Count::NoListener, fail);
    }
    if facts.heart_age() > settings.stale_after {
        return lost(Count::StaleHeart, fail);
    }
    // Last: only a weir that is alive knows whether there is an endpoint now.
    if facts.is_refused() {
        return Verdict::Nowhere;
    }
    let flags = if has(&pod.opaque, port) { Original::OPAQUE } else { 0 };
    Verdict::Redirect { port: port_index(dial, settings.ports), flags, pod: id }
}

/// The pod, with its id, if its connections to what is dialled are diverted; otherwise why not.
#[inline(always)]
pub(crate) fn wanted<'a>(
    facts: &'a impl Facts,
    dial: &Dial,
    settings: &Settings,
) -> Result<(u64, &'a Pod), Count> {
    let port = u16::from_be(dial.port);
    match facts.scope() {
        None => return Err(Count::OutOfScope),
        Some(ports) if ports.is_none() => return Err(Count::Excluded),
        Some(ports) if !ports.contain(port) => return Err(Count::OutOfScope),
        Some(_) => {}
    }
    if settings.layout != crate::LAYOUT {
        return Err(Count::NoSettings);
    }
    let Some((id, pod)) = facts.pod() else { return Err(Count::NotEnrolled) };
    match Policy::from_value(pod.policy) {
        None => Err(Count::NotEnrolled),
        Some(Policy::LeaveAlone) => Err(Count::LeftAlone),
        Some(Policy::Own) => Err(Count::Own),
        Some(Policy::Divert) if has(&pod.skip, port) => Err(Count::SkippedPort),
        Some(Policy::Divert) => Ok((id, pod)),
    }
}

/// As [`Ports::contain`], at the cost of one comparison for pods that ask for nothing special.
#[inline(always)]
pub(crate) fn has(ports: &Ports, port: u16) -> bool {
    !ports.is_none() && ports.contain(port)
}

/// The node address to rewrite to: of the dialled address's own family, or none.
///
/// Mapping an IPv6 connection to an IPv4 node address would fail on sockets with `IPV6_V6ONLY`.
#[inline(always)]
pub fn node<'a>(dial: &Dial, settings: &'a Settings) -> Option<&'a Address> {
    if dial.address.is_mapped() {
        if settings.has(Settings::HAS_V4) { Some(&settings.node4) } else { None }
    } else if settings.has(Settings::HAS_V6) {
        Some(&settings.node6)
    } else {
        None
    }
}

/// The verdict on a connection that weir should have taken and cannot, for the reason given.
#[inline(always)]
pub fn lost(reason: Count, fail: Fail) -> Verdict {
    match (fail, reason) {
        (Fail::Open, reason) => Verdict::Skip(reason),
        (Fail::Closed, Count::NoListener) => Verdict::Refuse(Count::RefusedNoListener),
        (Fail::Closed, Count::StaleHeart) => Verdict::Refuse(Count::RefusedStaleHeart),
        (Fail::Closed, _) => Verdict::Refuse(Count::RefusedNoStorage),
    }
}

/// Which of `ports` transparent ports takes a dialled address.
///
/// All connections to one service use one port, and a client's ephemeral ports, which are unique per
/// destination, then suffice for `ports` times as many connections as with a single port.
/// Multiplication by 2^32 / phi spreads neighbouring service addresses (Knuth, TAOCP 3, 6.4); the high
/// half of the product with `ports` maps the hash onto the range without a division.
#[inline(always)]
pub fn port_index(dial: &Dial, ports: u16) -> u16 {
    let [a, b, c, d] = dial.address.words;
    let mut hash = 0_u32;
    for word in [a, b, c, d, dial.port as u32] {
        hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b1);
        hash ^= hash >> 15;
    }
    ((hash as u64 * ports as u64) >> 32) as u16
}
