//! The maps, and the few operations on them for which aya-ebpf has no safe form.
//!
//! Sizes that user space may set are those of the defaults; the loader overrides them.
//!
//! Keys are written to the stack in words of eight bytes, also where a key is shorter. Without CAP_PERFMON, Linux 6.1 takes no
//! write of fewer bytes into eight bytes of stack at whose start it knows a bounded number, as every u32 is: "attempt to corrupt
//! spilled pointer on stack", although it is none. And the compiler has several keys share a place.

use core::ffi::c_void;
use core::ptr::{addr_of, null, null_mut};

use aya_ebpf::Global;
use aya_ebpf::bindings::{
    BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_SOCKMAP, bpf_sock,
};
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, SkStorage};
use aya_ebpf::helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::helpers::{bpf_map_lookup_elem, bpf_map_update_elem, bpf_sk_release};
use aya_ebpf::macros::btf_map;
use proxy_ebpf::decide::Fail;
use proxy_ebpf::{Address, Count, Original, Pod, Ports, Settings, Tuple};

/// 1 when a connection that weir cannot take is refused. A constant to the verifier.
#[unsafe(no_mangle)]
static FAIL_CLOSED: Global<u8> = Global::new(0);

#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();

/// Destinations, by address.
#[btf_map]
static SCOPE: LpmTrie<Address, Ports, 65_536> = LpmTrie::new();

/// Cgroup id to what becomes of its connections. Room for 4,096 would be half a megabyte were it allocated beforehand,
/// and a node has some 110 pods.
#[btf_map]
static PODS: HashMap<u64, Pod, 4_096, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Addresses and ports of services that have no endpoint, see [`Address::with_port`].
#[btf_map]
static REFUSED: HashMap<[u64; 3], u8, 65_536, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// The moment of weir's last heartbeat, in nanoseconds of `CLOCK_MONOTONIC`.
#[btf_map]
static HEART: Array<u64, 1> = Array::new();

/// In the socket itself: where it was going.
#[btf_map]
static DIALLED: SkStorage<Original> = SkStorage::new();

/// What weir looks up when it accepts.
#[btf_map]
static TUPLES: LruHashMap<Tuple, Original, 65_536> = LruHashMap::new();

#[btf_map]
static COUNTS: PerCpuArray<u64, { Count::ALL.len() }> = PerCpuArray::new();

/// The socket weir accepts on. The kernel takes it out when its last descriptor is closed, also by SIGKILL.
#[btf_map]
static LISTENER: ListenerSlot = ListenerSlot::new();

/// A SOCKMAP of one entry with values of eight bytes: only those can be read by user space, which gets the
/// socket's cookie. aya-ebpf's own type has four.
#[repr(C)]
struct ListenerSlot {
    r#type: *const [i32; BPF_MAP_TYPE_SOCKMAP as usize],
    key: *const u32,
    value: *const u64,
    max_entries: *const [i32; 1],
    map_flags: *const [i32; 0],
}

impl ListenerSlot {
    const fn new() -> Self {
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }
}

// SAFETY: the fields are only a description for the loader, never followed.
unsafe impl Sync for ListenerSlot {}

#[inline(always)]
pub fn fail() -> Fail {
    if FAIL_CLOSED.load() == 0 { Fail::Open } else { Fail::Closed }
}

#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    // SAFETY: null or the only entry, which the map keeps.
    unsafe { at(&SETTINGS, 0).cast::<Settings>().as_ref() }
}

#[inline(always)]
pub fn scope(address: &Address) -> Option<&'static Ports> {
    // SAFETY: the key is what the map was declared with; the pointer is null or to an entry, in memory that the map keeps.
    unsafe { look_up(&SCOPE, &address.prefix(128)).cast::<Ports>().as_ref() }
}

#[inline(always)]
pub fn pod(cgroup: u64) -> Option<&'static Pod> {
    // SAFETY: plain numbers, of which every pattern is a value, in memory that the map keeps. While user space replaces
    // the entry, one connection may be decided by parts of both.
    unsafe { PODS.get(cgroup) }
}

#[inline(always)]
pub fn is_refused(key: &[u64; 3]) -> bool {
    !look_up(&REFUSED, key).is_null()
}

#[inline(always)]
pub fn heart() -> u64 {
    // SAFETY: null or the only entry, which user space writes in one go.
    unsafe { at(&HEART, 0).cast::<u64>().as_ref() }.map_or(0, |beat| *beat)
}

/// The state of the socket in the listener's slot.
#[inline(always)]
pub fn listener() -> Option<u32> {
    // SAFETY: the socket is referenced until it is released, and only read.
    unsafe {
        let socket = at(&LISTENER, 0);
        if socket.is_null() {
            return None;
        }
        let state = addr_of!((*socket.cast::<bpf_sock>()).state).read_volatile();
        bpf_sk_release(socket);
        Some(state)
    }
}

/// Remembers in the socket where it was going. The space of a reused socket is found again with its old
/// content, so it is written in any case.
#[inline(always)]
pub fn remember(socket: *mut bpf_sock, original: Original) -> Result<(), ()> {
    // SAFETY: the socket comes from the hook's context; the pointer is null or to a whole `Original` of ours.
    unsafe {
        let place =
            bpf_sk_storage_get(storage(), socket.cast(), null_mut(), BPF_SK_STORAGE_GET_F_CREATE as u64)
                .cast::<Original>();
        if place.is_null() {
            return Err(());
        }
        *place = original;
    }
    Ok(())
}

/// What the socket remembers.
#[inline(always)]
pub fn remembered(socket: *mut bpf_sock) -> Option<&'static Original> {
    // SAFETY: as in `remember`; the program ends before the socket can.
    unsafe { bpf_sk_storage_get(storage(), socket.cast(), null_mut(), 0).cast::<Original>().as_ref() }
}

/// Makes the socket forget an earlier diverted connection, or getpeername would tell of it.
#[inline(always)]
pub fn forget(socket: *mut bpf_sock) {
    // SAFETY: as in `remember`. That there was nothing to forget is no error.
    let _ = unsafe { bpf_sk_storage_delete(storage(), socket.cast()) };
}

/// Files a connection, by its tuple's words, for weir to find. Nothing that is there gives way to it.
#[inline(always)]
pub fn file(tuple: &[u64; size_of::<Tuple>() / 8], original: &Original) -> Result<(), ()> {
    // SAFETY: key and value have the sizes the map was declared with. The raw helper, because the value
    // lies in the socket's storage and need not go over the stack.
    let answer = unsafe {
        bpf_map_update_elem(
            addr_of!(TUPLES).cast_mut().cast(),
            core::ptr::from_ref(tuple).cast(),
            core::ptr::from_ref(original).cast(),
            BPF_NOEXIST as u64,
        )
    };
    if answer == 0 { Ok(()) } else { Err(()) }
}

#[inline(always)]
pub fn count(what: Count) {
    let counter = at(&COUNTS, what as u32).cast::<u64>();
    if !counter.is_null() {
        // SAFETY: this CPU's own counter. A program that interrupts this one may cost one count.
        unsafe { *counter += 1 };
    }
}

/// The entry of an array; null past its end.
#[inline(always)]
pub fn at<M>(array: &'static M, index: u32) -> *mut c_void {
    // Its four bytes come first.
    look_up(array, &[(index as u64).to_le()])
}

/// The value of a key, which is no longer than these words; null where there is none.
#[inline(always)]
pub fn look_up<M, const WORDS: usize>(map: &'static M, key: &[u64; WORDS]) -> *mut c_void {
    // SAFETY: the callers pass maps; the key is at least as long as the map's.
    unsafe { bpf_map_lookup_elem(addr_of!(*map).cast_mut().cast(), key.as_ptr().cast()) }
}

#[inline(always)]
fn storage() -> *mut c_void {
    addr_of!(DIALLED).cast_mut().cast()
}
