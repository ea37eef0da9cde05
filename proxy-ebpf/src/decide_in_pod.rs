//! The decision on one connect(), with weir's sockets in the pods' network namespaces.
//!
//! What is diverted is the same as with a listener on the node ([`crate::decide`]); what differs is who can take it: the
//! pod's own listener, if the network namespace has one, and only for destinations that have a number.

use crate::decide::{Dial, Facts, Fail, has, lost, wanted};
use crate::pods::{Own, PodSettings, Shown};
use crate::{Address, Count, Settings};

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rewrite it to the address that stands for this.
    Redirect(Shown),
    /// Let it go where it was going.
    Skip(Count),
    /// Answer ECONNREFUSED, or EPERM where the kernel cannot.
    Refuse(Count),
    /// Rewrite it to a port of loopback that is closed, see [`crate::decide::Verdict::Nowhere`].
    Nowhere,
}

/// What the decision may ask besides [`Facts`].
pub trait PodFacts: Facts {
    /// The number of what is dialled.
    fn number(&self) -> Option<u32>;
    /// The interface that the socket is bound to; 0 for none, 1 for loopback.
    fn bound_device(&self) -> u32;
    /// The address that the socket is bound to, mapped where it is IPv4; all zero, or mapped zero, for none.
    fn source(&self) -> Address;
    /// The entry of the network namespace, if weir listens there.
    fn own(&self, netns: u64) -> Option<&Own>;
    /// Whether this pod is the only one that connects from the network namespace. Notes that it does.
    fn is_alone(&self, netns: u64, pod: u64) -> bool;
    /// The state of weir's listener in the network namespace (`tcp_states.h`), for one family; `None` without one.
    fn pod_listener(&self, netns: u64, v6: bool) -> Option<u32>;
}

/// Decides on one connection.
#[inline(always)]
pub fn decide(
    facts: &impl PodFacts,
    dial: &Dial,
    settings: &Settings,
    pods: &PodSettings,
    fail: Fail,
) -> Verdict {
    let (id, pod) = match wanted(facts, dial, settings) {
        Ok(wanted) => wanted,
        Err(why) => return Verdict::Skip(why),
    };
    let opaque = has(&pod.opaque, u16::from_be(dial.port));
    let Some(number) = facts.number() else { return Verdict::Skip(Count::NoNumber) };
    let netns = facts.netns();
    if netns == settings.host_netns {
        return Verdict::Skip(Count::Host);
    }
    if facts.bound_device() > 1 {
        return Verdict::Skip(Count::BoundDevice);
    }
    let shown = Shown { number, opaque };
    let Some(own) = facts.own(netns) else { return unable(Count::NoListener, fail) };
    if !may_come_from(facts.source(), own, &pods.prefix6) {
        return Verdict::Skip(Count::BoundSource);
    }
    if !facts.is_alone(netns, id) {
        return Verdict::Skip(Count::SharedNetns);
    }
    if facts.pod_listener(netns, !dial.address.is_mapped()) != Some(crate::LISTEN) {
        return unable(Count::NoListener, fail);
    }
    if facts.heart_age() > settings.stale_after {
        return unable(Count::StaleHeart, fail);
    }
    // Last: only a weir that is alive knows whether there is an endpoint now.
    if facts.is_refused() {
        return Verdict::Nowhere;
    }
    Verdict::Redirect(shown)
}

/// Whether the pod's listener would take a connection from a socket that is bound to `source`.
#[inline(always)]
fn may_come_from(source: Address, own: &Own, prefix6: &Address) -> bool {
    let [a, b, c, d] = source.words;
    let is_unbound = a == 0 && b == 0 && d == 0 && (c == 0 || source.is_mapped());
    is_unbound || own.is_inside(&source, prefix6)
}

#[inline(always)]
fn unable(reason: Count, fail: Fail) -> Verdict {
    match lost(reason, fail) {
        crate::decide::Verdict::Refuse(count) => Verdict::Refuse(count),
        _ => Verdict::Skip(reason),
    }
}
