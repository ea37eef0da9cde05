//! connect() on an IPv4 socket.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::Address;
use proxy_ebpf::decide::Dial;

use crate::connect::{ALLOW, Action, DENY, TCP, act, nowhere4};

/// A connection that is refused fails with EPERM: for every kernel.
#[cgroup_sock_addr(connect4)]
pub fn weir_connect4(ctx: SockAddrContext) -> i32 {
    connect::<false>(&ctx)
}

/// A connection that is refused fails with ECONNREFUSED: for Linux 5.18 and later.
#[cgroup_sock_addr(connect4)]
pub fn weir_refuse4(ctx: SockAddrContext) -> i32 {
    connect::<true>(&ctx)
}

#[inline(always)]
fn connect<const REFUSES: bool>(ctx: &SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: the hook's own context, whose accesses the verifier checks.
    let (protocol, address, port, socket) = unsafe {
        (
            addr_of!((*raw).protocol).read_volatile(),
            addr_of!((*raw).user_ip4).read_volatile(),
            addr_of!((*raw).user_port).read_volatile(),
            addr_of!((*raw).__bindgen_anon_1.sk).read_volatile(),
        )
    };
    if protocol != TCP {
        return ALLOW;
    }
    match act::<REFUSES>(ctx, socket, Dial { address: Address::mapped(address), port: port as u16 }) {
        Action::Pass => ALLOW,
        Action::Refuse => DENY,
        Action::Nowhere => nowhere4(ctx),
        Action::Rewrite(node, port) => {
            // SAFETY: as above.
            unsafe {
                addr_of_mut!((*raw).user_ip4).write_volatile(node.words[3]);
                addr_of_mut!((*raw).user_port).write_volatile(port.into());
            }
            ALLOW
        }
    }
}
