//! getpeername() and getsockname(): the application sees the address it dialled, and its pod's own one.

use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pods::{Own, Shown};
use proxy_ebpf::{Address, Count};

use super::maps;
use crate::connect::ALLOW;
use crate::maps::count;

#[cgroup_sock_addr(getpeername4)]
pub fn weir_podpeer4(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: the hook's own context, whose accesses the verifier checks.
    let (address, port) =
        unsafe { (addr_of!((*raw).user_ip4).read_volatile(), addr_of!((*raw).user_port).read_volatile()) };
    let Some(shown) = diverted(&Address::mapped(address), port as u16) else { return ALLOW };
    let Some(dialled) = maps::dialled(shown.number) else { return ALLOW };
    let (address, port) = (dialled.address.words[3], dialled.port);
    count(Count::PeerNamed);
    // SAFETY: as above.
    unsafe {
        addr_of_mut!((*raw).user_ip4).write_volatile(address);
        addr_of_mut!((*raw).user_port).write_volatile(port.into());
    }
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
pub fn weir_podpeer6(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: as above.
    let (words, port) = unsafe {
        (
            [
                addr_of!((*raw).user_ip6[0]).read_volatile(),
                addr_of!((*raw).user_ip6[1]).read_volatile(),
                addr_of!((*raw).user_ip6[2]).read_volatile(),
                addr_of!((*raw).user_ip6[3]).read_volatile(),
            ],
            addr_of!((*raw).user_port).read_volatile(),
        )
    };
    let Some(shown) = diverted(&Address { words }, port as u16) else { return ALLOW };
    let Some(dialled) = maps::dialled(shown.number) else { return ALLOW };
    let (address, port) = (dialled.address, dialled.port);
    count(Count::PeerNamed);
    write6(&ctx, &address);
    // SAFETY: as above.
    unsafe { addr_of_mut!((*raw).user_port).write_volatile(port.into()) };
    ALLOW
}

#[cgroup_sock_addr(getsockname4)]
pub fn weir_podsock4(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: as above; the context's socket is never null in this hook.
    let (remote, port) = unsafe {
        let socket = addr_of!((*raw).__bindgen_anon_1.sk).read_volatile();
        (addr_of!((*socket).dst_ip4).read_volatile(), addr_of!((*socket).dst_port).read_volatile())
    };
    if diverted(&Address::mapped(remote), port).is_none() {
        return ALLOW;
    }
    let Some(own) = own(&ctx) else { return ALLOW };
    let address = own.v4;
    if !maps::is_none(&address) {
        count(Count::SocketNamed);
        // SAFETY: as above.
        unsafe { addr_of_mut!((*raw).user_ip4).write_volatile(address.words[3]) };
    }
    ALLOW
}

#[cgroup_sock_addr(getsockname6)]
pub fn weir_podsock6(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: as above.
    let (words, port) = unsafe {
        let socket = addr_of!((*raw).__bindgen_anon_1.sk).read_volatile();
        (
            [
                addr_of!((*socket).dst_ip6[0]).read_volatile(),
                addr_of!((*socket).dst_ip6[1]).read_volatile(),
                addr_of!((*socket).dst_ip6[2]).read_volatile(),
                addr_of!((*socket).dst_ip6[3]).read_volatile(),
            ],
            addr_of!((*socket).dst_port).read_volatile(),
        )
    };
    let remote = Address { words };
    if diverted(&remote, port).is_none() {
        return ALLOW;
    }
    let Some(own) = own(&ctx) else { return ALLOW };
    let address = if remote.is_mapped() { own.v4 } else { own.v6 };
    if !maps::is_none(&address) {
        count(Count::SocketNamed);
        write6(&ctx, &address);
    }
    ALLOW
}

/// What a peer of this address and port (in network order) stands for, if it is weir in the pod.
#[inline(always)]
fn diverted(address: &Address, port: u16) -> Option<Shown> {
    let settings = maps::settings()?;
    if u16::from_be(port) != settings.port {
        return None;
    }
    Shown::of(address, &settings.prefix6)
}

#[inline(always)]
fn own(ctx: &SockAddrContext) -> Option<&'static Own> {
    // SAFETY: the context is the hook's own.
    maps::own(unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast::<c_void>()) })
}

#[inline(always)]
fn write6(ctx: &SockAddrContext, address: &Address) {
    let raw = ctx.sock_addr;
    let [a, b, c, d] = address.words;
    // SAFETY: the hook's own context, whose accesses the verifier checks.
    unsafe {
        addr_of_mut!((*raw).user_ip6[0]).write_volatile(a);
        addr_of_mut!((*raw).user_ip6[1]).write_volatile(b);
        addr_of_mut!((*raw).user_ip6[2]).write_volatile(c);
        addr_of_mut!((*raw).user_ip6[3]).write_volatile(d);
    }
}
