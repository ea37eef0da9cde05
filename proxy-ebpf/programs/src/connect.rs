//! What the connect programs of both families share: gathering the facts and carrying the verdict out.

use core::ffi::c_void;
use core::ptr::addr_of_mut;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_set_retval};
use aya_ebpf::helpers::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_ktime_get_ns};
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::decide::{self, Dial, Facts, Verdict};
use proxy_ebpf::{Address, Count, LAYOUT, LEVELS, Original, Pod, Ports};

use crate::maps;

/// Answers of a connect program to the kernel.
pub const ALLOW: i32 = 1;
pub const DENY: i32 = 0;

/// IPPROTO_TCP.
pub const TCP: u32 = 6;

/// What is left for the program of a family to do.
pub enum Action {
    /// Let the connection go on as it is.
    Pass,
    /// Rewrite it to this address and port (in network order).
    Rewrite(&'static Address, u16),
    /// Rewrite it to port 0 of loopback, where nothing can listen.
    Nowhere,
    /// Deny it; what connect() returns is set already, or else it is EPERM.
    Refuse,
}

/// Decides on a TCP connection, counts the decision and, when it is diverted, remembers where it was going.
///
/// With `REFUSES`, a refused connect() returns ECONNREFUSED. That takes `bpf_set_retval`, which Linux has since 5.18. So
/// each family has a program with it and one without: it is not enough that the call is never reached, because the verifier
/// also walks branches that a mispredicting CPU might take, unless the loader has CAP_PERFMON.
#[inline(always)]
pub fn act<const REFUSES: bool>(ctx: &SockAddrContext, socket: *mut bpf_sock, dial: Dial) -> Action {
    let fail = maps::fail();
    let Some(settings) = maps::settings() else { return Action::Pass };
    let facts = Kernel { ctx: ctx.sock_addr, socket, dial };
    let mut verdict = decide::decide(&facts, &dial, settings, fail);
    if let Verdict::Redirect { flags, pod, .. } = verdict
        && maps::remember(socket, facts.original(flags, pod)).is_err()
    {
        verdict = decide::lost(Count::NoStorage, fail);
    }
    match verdict {
        Verdict::Redirect { port, .. } => {
            let Some(node) = decide::node(&dial, settings) else { return Action::Pass };
            maps::count(Count::Diverted);
            log_verdict(ctx, &dial, "diverted");
            Action::Rewrite(node, settings.first_port.wrapping_add(port).to_be())
        }
        Verdict::Nowhere => {
            maps::forget(socket);
            maps::count(Count::NoEndpoint);
            log_verdict(ctx, &dial, "refused, without an endpoint");
            Action::Nowhere
        }
        Verdict::Skip(reason) => {
            maps::forget(socket);
            maps::count(reason);
            log_skip(ctx, &dial, reason);
            Action::Pass
        }
        Verdict::Refuse(reason) => {
            maps::forget(socket);
            maps::count(reason);
            log_verdict(ctx, &dial, "refused");
            if REFUSES {
                refuse();
            }
            Action::Refuse
        }
    }
}

/// Makes connect() return ECONNREFUSED, where a bare denial is EPERM.
#[inline(always)]
pub fn refuse() {
    const ECONNREFUSED: i32 = 111;
    // SAFETY: a helper without arguments in memory.
    let _ = unsafe { bpf_set_retval(-ECONNREFUSED) };
}

/// 127.0.0.1 as it lies in memory.
const LOOPBACK: u32 = u32::from_ne_bytes([127, 0, 0, 1]);

/// Rewrites an IPv4 connection to port 0 of loopback.
#[inline(always)]
pub fn nowhere4(ctx: &SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: the hook's own context, whose accesses the verifier checks.
    unsafe {
        addr_of_mut!((*raw).user_ip4).write_volatile(LOOPBACK);
        addr_of_mut!((*raw).user_port).write_volatile(0);
    }
    ALLOW
}

/// The same of an IPv6 socket, of the family of `dialled`: one that dials a mapped address may have a mapped source.
#[inline(always)]
pub fn nowhere6(ctx: &SockAddrContext, dialled: Address) -> i32 {
    let raw = ctx.sock_addr;
    let [a, b, c, d] = match dialled.is_mapped() {
        true => Address::mapped(LOOPBACK).words,
        false => [0, 0, 0, 1_u32.to_be()],
    };
    // SAFETY: as above.
    unsafe {
        addr_of_mut!((*raw).user_ip6[0]).write_volatile(a);
        addr_of_mut!((*raw).user_ip6[1]).write_volatile(b);
        addr_of_mut!((*raw).user_ip6[2]).write_volatile(c);
        addr_of_mut!((*raw).user_ip6[3]).write_volatile(d);
        addr_of_mut!((*raw).user_port).write_volatile(0);
    }
    ALLOW
}

/// The facts, asked of the kernel.
pub struct Kernel {
    pub ctx: *mut bpf_sock_addr,
    pub socket: *mut bpf_sock,
    pub dial: Dial,
}

impl Kernel {
    #[inline(always)]
    fn original(&self, flags: u16, pod: u64) -> Original {
        Original {
            address: self.dial.address,
            // SAFETY: helpers without arguments in memory.
            cgroup: unsafe { bpf_get_current_cgroup_id() },
            pod,
            netns: self.netns(),
            // SAFETY: as above.
            at: unsafe { bpf_ktime_get_ns() },
            port: self.dial.port,
            flags,
            layout: LAYOUT,
        }
    }
}

impl Facts for Kernel {
    #[inline(always)]
    fn scope(&self) -> Option<&Ports> {
        maps::scope(&self.dial.address)
    }

    /// From the root down, so that no level needs to be known beforehand: it differs between drivers,
    /// service classes and nested clusters. The last one that has an entry is the nearest.
    ///
    /// Its entry is looked up once more at the end: an entry that is carried through the loop is null at first, and the
    /// verifier, without CAP_PERFMON, also walks the branch in which a null that it knows for one is followed.
    #[inline(always)]
    fn pod(&self) -> Option<(u64, &Pod)> {
        let mut nearest = 0;
        for level in 0..LEVELS {
            // SAFETY: a helper without arguments in memory.
            let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
            if cgroup == 0 {
                break;
            }
            if maps::pod(cgroup).is_some() {
                nearest = cgroup;
            }
        }
        maps::pod(nearest).map(|pod| (nearest, pod))
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        // SAFETY: the context is the hook's own.
        unsafe { bpf_get_netns_cookie(self.ctx.cast::<c_void>()) }
    }

    #[inline(always)]
    fn listener(&self) -> Option<u32> {
        maps::listener()
    }

    #[inline(always)]
    fn heart_age(&self) -> u64 {
        let beat = maps::heart();
        // SAFETY: a helper without arguments. Taken after the beat, so that the age is not negative.
        unsafe { bpf_ktime_get_ns() }.saturating_sub(beat)
    }

    #[inline(always)]
    fn is_refused(&self) -> bool {
        maps::is_refused(&self.dial.address.with_port(self.dial.port))
    }
}

/// A line in weir's log, in a debug build of the object.
#[cfg(feature = "log")]
#[inline(always)]
pub fn log_verdict(ctx: &SockAddrContext, dial: &Dial, what: &str) {
    let port = u16::from_be(dial.port);
    aya_log_ebpf::debug!(ctx, "{} [{:i}]:{}", what, dial.address.octets(), port);
}

#[cfg(feature = "log")]
#[inline(always)]
pub fn log_skip(ctx: &SockAddrContext, dial: &Dial, reason: Count) {
    // Nearly every connection of the node is out of scope: those lines would drown the others.
    if reason as u32 != Count::OutOfScope as u32 {
        let port = u16::from_be(dial.port);
        aya_log_ebpf::debug!(ctx, "direct [{:i}]:{}, reason {}", dial.address.octets(), port, reason as u32);
    }
}

#[cfg(not(feature = "log"))]
#[inline(always)]
pub fn log_verdict(_: &SockAddrContext, _: &Dial, _: &str) {}

#[cfg(not(feature = "log"))]
#[inline(always)]
pub fn log_skip(_: &SockAddrContext, _: &Dial, _: Count) {}
