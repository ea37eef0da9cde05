//! getpeername() and getsockname(): the application sees the address it dialled, and its pod's own one; and one that accepts
//! from weir sees who has called, as accept() asks the same hook.

use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::pods::{Numbered, Own, Shown};
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
    // SAFETY: as above; the context's socket is never null in this hook.
    let own = unsafe {
        let socket = addr_of!((*raw).__bindgen_anon_1.sk).read_volatile();
        addr_of!((*socket).src_ip4).read_volatile()
    };
    let address = Address::mapped(address);
    let Some(peer) = peer(&ctx, &address, port as u16, &Address::mapped(own)) else { return ALLOW };
    let (address, port) = (peer.address.words[3], peer.port);
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
    // SAFETY: as above; the context's socket is never null in this hook.
    let own = unsafe {
        let socket = addr_of!((*raw).__bindgen_anon_1.sk).read_volatile();
        [
            addr_of!((*socket).src_ip6[0]).read_volatile(),
            addr_of!((*socket).src_ip6[1]).read_volatile(),
            addr_of!((*socket).src_ip6[2]).read_volatile(),
            addr_of!((*socket).src_ip6[3]).read_volatile(),
        ]
    };
    let address = Address { words };
    let Some(peer) = peer(&ctx, &address, port as u16, &Address { words: own }) else { return ALLOW };
    let (address, port) = (peer.address, peer.port);
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

/// Who is behind a peer with this address and port (in network order), of a socket whose own address is `own`.
#[inline(always)]
fn peer(ctx: &SockAddrContext, address: &Address, port: u16, own: &Address) -> Option<&'static Numbered> {
    let settings = maps::settings()?;
    if settings.is_wire(u16::from_be(port)) && address.is(own) {
        // SAFETY: the context is the hook's own.
        let netns = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast::<c_void>()) };
        return maps::caller_of(netns, u16::from_be(port), address.is_mapped());
    }
    maps::dialled(diverted(address, port)?.number)
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
