//! connect() on an IPv6 socket, also to an IPv4 address in its mapped form.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::Address;
use proxy_ebpf::decide::Dial;

use super::connect::{Action, act};
use super::maps;
use crate::connect::{ALLOW, DENY, TCP, nowhere6};

/// A connection that is refused fails with EPERM: for every kernel.
#[cgroup_sock_addr(connect6)]
pub fn weir_pod6(ctx: SockAddrContext) -> i32 {
    connect::<false>(&ctx)
}

/// A connection that is refused fails with ECONNREFUSED: for Linux 5.18 and later.
#[cgroup_sock_addr(connect6)]
pub fn weir_podrefuse6(ctx: SockAddrContext) -> i32 {
    connect::<true>(&ctx)
}

#[inline(always)]
fn connect<const REFUSES: bool>(ctx: &SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: the hook's own context, whose accesses the verifier checks.
    let (protocol, words, port, socket) = unsafe {
        (
            addr_of!((*raw).protocol).read_volatile(),
            [
                addr_of!((*raw).user_ip6[0]).read_volatile(),
                addr_of!((*raw).user_ip6[1]).read_volatile(),
                addr_of!((*raw).user_ip6[2]).read_volatile(),
                addr_of!((*raw).user_ip6[3]).read_volatile(),
            ],
            addr_of!((*raw).user_port).read_volatile(),
            addr_of!((*raw).__bindgen_anon_1.sk).read_volatile(),
        )
    };
    if protocol != TCP {
        return ALLOW;
    }
    // SAFETY: the context's socket is never null in this hook; the verifier checks the access.
    let source = unsafe {
        [
            addr_of!((*socket).src_ip6[0]).read_volatile(),
            addr_of!((*socket).src_ip6[1]).read_volatile(),
            addr_of!((*socket).src_ip6[2]).read_volatile(),
            addr_of!((*socket).src_ip6[3]).read_volatile(),
        ]
    };
    let dial = Dial { address: Address { words }, port: port as u16 };
    match act::<REFUSES>(ctx, socket, dial, Address { words: source }) {
        Action::Pass => ALLOW,
        Action::Refuse => DENY,
        Action::Nowhere => nowhere6(ctx, dial.address),
        Action::Rewrite(shown, port) => {
            let to = if dial.address.is_mapped() {
                Address::mapped(shown.v4())
            } else {
                let Some(pods) = maps::settings() else { return ALLOW };
                shown.v6(&pods.prefix6)
            };
            // SAFETY: as above.
            unsafe {
                addr_of_mut!((*raw).user_ip6[0]).write_volatile(to.words[0]);
                addr_of_mut!((*raw).user_ip6[1]).write_volatile(to.words[1]);
                addr_of_mut!((*raw).user_ip6[2]).write_volatile(to.words[2]);
                addr_of_mut!((*raw).user_ip6[3]).write_volatile(to.words[3]);
                addr_of_mut!((*raw).user_port).write_volatile(port.into());
            }
            ALLOW
        }
    }
}
