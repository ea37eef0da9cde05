//! A connection to an address of weir's in a pod, from inside the pod, reaches the pod's listener; so does one of another
//! weir, to the pod's own address.
//!
//! The latter is told by its source: a port that nothing picks by itself, of an address of the mesh. What lacks a listener of
//! weir's goes to the pod's program as it is.
//!
//! The address of the former is not the listener's own, which has one of the range: the program steers there. It is loaded once for each
//! pod, with the pod's cookie written into its instructions: `bpf_sk_assign` takes a socket of any network namespace, and
//! the program cannot ask in which one it runs.
//!
//! Where the connection comes from is told by its source address. `ingress_ifindex` would not do: it is that of eth0 for
//! what a pod sends to its own address, and older kernels lack it.

use core::ptr::addr_of;

use aya_ebpf::helpers::bpf_sk_release;
use aya_ebpf::helpers::generated::bpf_sk_assign;
use aya_ebpf::macros::sk_lookup;
use aya_ebpf::programs::SkLookupContext;
use proxy_ebpf::Address;
use proxy_ebpf::pods::{COOKIE, ListenerUse, Shown};

use super::maps;
use crate::connect::TCP;

const AF_INET: u32 = 2;
const PASS: u32 = 1;
const DROP: u32 = 0;

#[sk_lookup]
pub fn weir_lookup(ctx: SkLookupContext) -> u32 {
    let raw = ctx.lookup;
    // SAFETY: the hook's own context, whose accesses the verifier checks.
    let (family, protocol, remote4, source, local4, port) = unsafe {
        (
            addr_of!((*raw).family).read_volatile(),
            addr_of!((*raw).protocol).read_volatile(),
            addr_of!((*raw).remote_ip4).read_volatile(),
            addr_of!((*raw).remote_port).read_volatile(),
            addr_of!((*raw).local_ip4).read_volatile(),
            addr_of!((*raw).local_port).read_volatile(),
        )
    };
    // SAFETY: as above.
    let (remote6, local6) = unsafe {
        (
            [
                addr_of!((*raw).remote_ip6[0]).read_volatile(),
                addr_of!((*raw).remote_ip6[1]).read_volatile(),
                addr_of!((*raw).remote_ip6[2]).read_volatile(),
                addr_of!((*raw).remote_ip6[3]).read_volatile(),
            ],
            [
                addr_of!((*raw).local_ip6[0]).read_volatile(),
                addr_of!((*raw).local_ip6[1]).read_volatile(),
                addr_of!((*raw).local_ip6[2]).read_volatile(),
                addr_of!((*raw).local_ip6[3]).read_volatile(),
            ],
        )
    };
    let Some(settings) = maps::settings() else { return PASS };
    let is_wire = settings.is_wire(u16::from_be(source));
    if protocol != TCP || (port != settings.port as u32 && !is_wire) {
        return PASS;
    }
    let v4 = family == AF_INET;
    let (remote, local) = if v4 {
        (Address::mapped(remote4), Address::mapped(local4))
    } else {
        (Address { words: remote6 }, Address { words: local6 })
    };
    if port != settings.port as u32 || Shown::of(&local, &settings.prefix6).is_none() {
        // A pod's connection to its own address is its own, whatever its port is.
        if is_wire && !remote.is(&local) && maps::is_wire_source(&remote) {
            steer(&ctx, ListenerUse::Wire);
        }
        return PASS;
    }
    let Some(own) = maps::own(COOKIE) else { return PASS };
    if !own.is_inside(&remote, &settings.prefix6) {
        return DROP;
    }
    if steer(&ctx, ListenerUse::Steer) { PASS } else { DROP }
}

/// Has this listener of weir's take the connection. Returns whether it does.
#[inline(always)]
fn steer(ctx: &SkLookupContext, which: ListenerUse) -> bool {
    let listener = maps::listener(COOKIE, which);
    if listener.is_null() {
        return false;
    }
    // SAFETY: the hook's own context, and a socket that is referenced until it is released.
    unsafe {
        let answer = bpf_sk_assign(ctx.lookup.cast(), listener.cast(), 0);
        bpf_sk_release(listener.cast());
        answer == 0
    }
}
