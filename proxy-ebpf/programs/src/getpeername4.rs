//! getpeername() on an IPv4 socket: the application sees the address it dialled.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::Count;

use crate::connect::ALLOW;
use crate::maps;

#[cgroup_sock_addr(getpeername4)]
pub fn weir_peername4(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: the hook's own context, whose accesses the verifier checks.
    let socket = unsafe { addr_of!((*raw).__bindgen_anon_1.sk).read_volatile() };
    if let Some(original) = maps::remembered(socket) {
        maps::count(Count::PeerNamed);
        // SAFETY: as above.
        unsafe {
            addr_of_mut!((*raw).user_ip4).write_volatile(original.address.words[3]);
            addr_of_mut!((*raw).user_port).write_volatile(original.port.into());
        }
    }
    ALLOW
}
