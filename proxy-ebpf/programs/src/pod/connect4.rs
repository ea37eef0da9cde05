//! connect() on an IPv4 socket.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::Address;
use proxy_ebpf::decide::Dial;

use super::connect::{Action, act};
use crate::connect::{ALLOW, DENY, TCP, nowhere4};

/// A connection that is refused fails with EPERM: for every kernel.
#[cgroup_sock_addr(connect4)]
pub fn weir_pod4(ctx: SockAddrContext) -> i32 {
    connect::<false>(&ctx)
}

/// A connection that is refused fails with ECONNREFUSED: for Linux 5.18 and later.
#[cgroup_sock_addr(connect4)]
pub fn weir_podrefuse4(ctx: SockAddrContext) -> i32 {
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
    // SAFETY: the context's socket is never null in this hook; the verifier checks the access.
    let source = unsafe { addr_of!((*socket).src_ip4).read_volatile() };
    let dial = Dial { address: Address::mapped(address), port: port as u16 };
    match act::<REFUSES>(ctx, socket, dial, Address::mapped(source)) {
        Action::Pass => ALLOW,
        Action::Refuse => DENY,
        Action::Nowhere => nowhere4(ctx),
        Action::Rewrite(shown, port) => {
            // SAFETY: as above.
            unsafe {
                addr_of_mut!((*raw).user_ip4).write_volatile(shown.v4());
                addr_of_mut!((*raw).user_port).write_volatile(port.into());
            }
            ALLOW
        }
    }
}
