//! What the connect programs of both families share.

use core::ptr::addr_of;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::decide::{Dial, Facts, Fail};
use proxy_ebpf::decide_in_pod::{PodFacts, Verdict, decide};
use proxy_ebpf::pods::{ListenerUse, Own, Shown};
use proxy_ebpf::{Address, Count, Pod, Ports};

use super::maps as pod_maps;
use crate::connect::{Kernel, log_skip, log_verdict, refuse};
use crate::maps;

/// What is left for the program of a family to do.
pub enum Action {
    /// Let the connection go on as it is.
    Pass,
    /// Rewrite it to the address of this number; the port is in network order.
    Rewrite(Shown, u16),
    /// Rewrite it to port 0 of loopback, where nothing can listen.
    Nowhere,
    /// Deny it; what connect() returns is set already, or else it is EPERM.
    Refuse,
}

/// Decides on a TCP connection from a socket bound to `source`, and counts the decision. `REFUSES` as in
/// `crate::connect`.
#[inline(always)]
pub fn act<const REFUSES: bool>(
    ctx: &SockAddrContext,
    socket: *mut bpf_sock,
    dial: Dial,
    source: Address,
) -> Action {
    let fail: Fail = maps::fail();
    let Some(settings) = maps::settings() else { return Action::Pass };
    let Some(pods) = pod_maps::settings() else { return Action::Pass };
    let port = pods.port;
    let facts = InPod { kernel: Kernel { ctx: ctx.sock_addr, socket, dial }, source };
    match decide(&facts, &dial, settings, pods, fail) {
        Verdict::Redirect(shown) => {
            maps::count(Count::Diverted);
            log_verdict(ctx, &dial, "diverted");
            Action::Rewrite(shown, port.to_be())
        }
        Verdict::Nowhere => {
            maps::count(Count::NoEndpoint);
            log_verdict(ctx, &dial, "refused, without an endpoint");
            Action::Nowhere
        }
        Verdict::Skip(reason) => {
            maps::count(reason);
            log_skip(ctx, &dial, reason);
            Action::Pass
        }
        Verdict::Refuse(reason) => {
            maps::count(reason);
            log_verdict(ctx, &dial, "refused");
            if REFUSES {
                refuse();
            }
            Action::Refuse
        }
    }
}

/// The facts, asked of the kernel.
struct InPod {
    kernel: Kernel,
    source: Address,
}

impl Facts for InPod {
    #[inline(always)]
    fn scope(&self) -> Option<&Ports> {
        self.kernel.scope()
    }

    #[inline(always)]
    fn pod(&self) -> Option<(u64, &Pod)> {
        self.kernel.pod()
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        self.kernel.netns()
    }

    #[inline(always)]
    fn listener(&self) -> Option<u32> {
        self.kernel.listener()
    }

    #[inline(always)]
    fn heart_age(&self) -> u64 {
        self.kernel.heart_age()
    }

    #[inline(always)]
    fn is_refused(&self) -> bool {
        self.kernel.is_refused()
    }
}

impl PodFacts for InPod {
    #[inline(always)]
    fn number(&self) -> Option<u32> {
        pod_maps::number(&self.kernel.dial)
    }

    #[inline(always)]
    fn bound_device(&self) -> u32 {
        // SAFETY: the context's socket is never null in these hooks; the verifier checks the access.
        unsafe { addr_of!((*self.kernel.socket).bound_dev_if).read_volatile() }
    }

    #[inline(always)]
    fn source(&self) -> Address {
        self.source
    }

    #[inline(always)]
    fn own(&self, netns: u64) -> Option<&Own> {
        pod_maps::own(netns)
    }

    #[inline(always)]
    fn is_alone(&self, netns: u64, pod: u64) -> bool {
        pod_maps::is_alone(netns, pod)
    }

    #[inline(always)]
    fn pod_listener(&self, netns: u64, v6: bool) -> Option<u32> {
        let which = if v6 { ListenerUse::Connect6 } else { ListenerUse::Connect4 };
        pod_maps::listener_state(netns, which)
    }
}
