//! The moment between the choice of a source port and the first packet: file the connection, so that weir
//! finds it however soon it accepts.
//!
//! There are two such callbacks. The later one asks for the first time-out of the SYN, and only there is the sequence
//! number that the SYN will bear known: `snd_nxt` is set just before. Newer kernels ask again when they repeat a SYN, which
//! shows by its being sent and not acknowledged. What the program returns leaves the time-out as it is.
//!
//! An entry is not removed when the client closes: a client may connect, send and close before weir gets
//! to accept. weir takes the entry; what it never takes, it sweeps away, or later entries push out.

use core::ptr::addr_of;

use aya_ebpf::bindings::BPF_SOCK_OPS_TIMEOUT_INIT;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use proxy_ebpf::{Address, Count, Tuple};

use crate::maps;

const AF_INET: u32 = 2;
/// What the kernel expects; nothing depends on it in this callback.
const DONE: u32 = 1;

#[sock_ops]
pub fn weir_connecting(ctx: SockOpsContext) -> u32 {
    let raw = ctx.ops;
    // SAFETY: the hook's own context, whose accesses the verifier checks.
    if unsafe { addr_of!((*raw).op).read_volatile() } != BPF_SOCK_OPS_TIMEOUT_INIT {
        return DONE;
    }
    // SAFETY: as above.
    let (sequence, acknowledged) =
        unsafe { (addr_of!((*raw).snd_nxt).read_volatile(), addr_of!((*raw).snd_una).read_volatile()) };
    if sequence != acknowledged {
        return DONE;
    }
    // SAFETY: as above.
    let (family, local4, remote4, local_port, remote_port) = unsafe {
        (
            addr_of!((*raw).family).read_volatile(),
            addr_of!((*raw).local_ip4).read_volatile(),
            addr_of!((*raw).remote_ip4).read_volatile(),
            addr_of!((*raw).local_port).read_volatile(),
            addr_of!((*raw).remote_port).read_volatile(),
        )
    };
    // SAFETY: as above.
    let (local6, remote6) = unsafe {
        (
            [
                addr_of!((*raw).local_ip6[0]).read_volatile(),
                addr_of!((*raw).local_ip6[1]).read_volatile(),
                addr_of!((*raw).local_ip6[2]).read_volatile(),
                addr_of!((*raw).local_ip6[3]).read_volatile(),
            ],
            [
                addr_of!((*raw).remote_ip6[0]).read_volatile(),
                addr_of!((*raw).remote_ip6[1]).read_volatile(),
                addr_of!((*raw).remote_ip6[2]).read_volatile(),
                addr_of!((*raw).remote_ip6[3]).read_volatile(),
            ],
        )
    };
    let remote6 = Address { words: remote6 };
    let v4 = family == AF_INET || remote6.is_mapped();
    let tuple = Tuple {
        client: if v4 { Address::mapped(local4) } else { Address { words: local6 } },
        node: if v4 { Address::mapped(remote4) } else { remote6 },
        client_port: (local_port as u16).to_be(), // In host order.
        node_port: (remote_port >> 16) as u16,    // In network order, in the upper half.
        sequence,
    };
    // Only now, so that the pointer is not kept on the stack while the tuple is built.
    // SAFETY: as above.
    let socket = unsafe { addr_of!((*raw).__bindgen_anon_2.sk).read_volatile() };
    if socket.is_null() {
        return DONE;
    }
    let Some(original) = maps::remembered(socket) else { return DONE };
    let filed = maps::file(&tuple.words(), original);
    maps::count(if filed.is_ok() { Count::Filed } else { Count::NotFiled });
    log_filed(&ctx, &tuple);
    DONE
}

#[cfg(feature = "log")]
#[inline(always)]
fn log_filed(ctx: &SockOpsContext, tuple: &Tuple) {
    aya_log_ebpf::debug!(
        ctx,
        "filed [{:i}]:{} to transparent port {}",
        tuple.client.octets(),
        u16::from_be(tuple.client_port),
        u16::from_be(tuple.node_port)
    );
}

#[cfg(not(feature = "log"))]
#[inline(always)]
fn log_filed(_: &SockOpsContext, _: &Tuple) {}
