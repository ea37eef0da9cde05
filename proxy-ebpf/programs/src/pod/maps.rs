//! The maps that only these programs use. As in `crate::maps`, keys are written in words of eight bytes.

use core::ptr::{addr_of, null};

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST, bpf_map_type::BPF_MAP_TYPE_SOCKHASH, bpf_sock};
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie};
use aya_ebpf::helpers::bpf_sk_release;
use aya_ebpf::macros::btf_map;
use proxy_ebpf::Address;
use proxy_ebpf::decide::Dial;
use proxy_ebpf::pods::{ListenerUse, MOST_WIRE_SOURCES, Numbered, Own, PodSettings, caller};

use crate::maps::{at, look_up};

/// In `POD_OF`: several pods connect from this network namespace.
const SEVERAL: u64 = u64::MAX;

const SPARSE: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static POD_SETTINGS: Array<PodSettings, 1> = Array::new();

/// Destination (address, and port in network order) to its number.
#[btf_map]
static NUMBERS: HashMap<[u64; 3], u64, 65_536, SPARSE> = HashMap::new();

/// Number to destination. It has also those that are not diverted any more, for connections that are still open.
#[btf_map]
static DIALLED_BY_NUMBER: HashMap<u64, Numbered, 65_536, SPARSE> = HashMap::new();

/// The network namespaces in which weir listens, by cookie.
#[btf_map]
static OWN: HashMap<u64, Own, 4_096, SPARSE> = HashMap::new();

/// The pod that connects from a network namespace, by cookie: what the kernel says of the process that does.
#[btf_map]
static POD_OF: HashMap<u64, u64, 4_096, SPARSE> = HashMap::new();

/// Where connections between weirs come from: those from elsewhere are the pod's own program's, whatever their port is.
#[btf_map]
static WIRE_SOURCES: LpmTrie<Address, u64, MOST_WIRE_SOURCES> = LpmTrie::new();

/// Who is behind weir's connection to a pod's own address (see [`caller`]): the address and port that the pod's program is
/// told.
#[btf_map]
static CALLERS: HashMap<[u64; 2], Numbered, 32_768, SPARSE> = HashMap::new();

/// weir's listeners, by cookie and use ([`ListenerUse`]). The kernel takes one out when its last descriptor is closed, also
/// by SIGKILL.
#[btf_map]
static LISTENERS: Listeners = Listeners::new();

/// A SOCKHASH with values of eight bytes, which user space can read.
#[repr(C)]
struct Listeners {
    r#type: *const [i32; BPF_MAP_TYPE_SOCKHASH as usize],
    key: *const [u64; 2],
    value: *const u64,
    max_entries: *const [i32; 16_384],
    map_flags: *const [i32; 0],
}

impl Listeners {
    const fn new() -> Self {
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }
}

// SAFETY: the fields are only a description for the loader, never followed.
unsafe impl Sync for Listeners {}

#[inline(always)]
pub fn settings() -> Option<&'static PodSettings> {
    // SAFETY: null or the only entry, which the map keeps.
    unsafe { at(&POD_SETTINGS, 0).cast::<PodSettings>().as_ref() }
}

#[inline(always)]
pub fn number(dial: &Dial) -> Option<u32> {
    let [a, b, c, d] = dial.address.words;
    let key = [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32, dial.port as u64];
    // SAFETY: the key is what the map was declared with; the pointer is null or to an entry, in memory that the map keeps.
    unsafe { look_up(&NUMBERS, &key).cast::<u64>().as_ref() }.map(|number| *number as u32)
}

#[inline(always)]
pub fn dialled(number: u32) -> Option<&'static Numbered> {
    // SAFETY: as above.
    unsafe { look_up(&DIALLED_BY_NUMBER, &[number as u64]).cast::<Numbered>().as_ref() }
}

/// Whether connections between weirs come from this address.
#[inline(always)]
pub fn is_wire_source(address: &Address) -> bool {
    !look_up(&WIRE_SOURCES, &address.prefix(128)).is_null()
}

/// Who is behind weir's connection from this port to a pod's own address.
#[inline(always)]
pub fn caller_of(netns: u64, port: u16, v4: bool) -> Option<&'static Numbered> {
    // SAFETY: as above.
    unsafe { look_up(&CALLERS, &caller(netns, port, v4)).cast::<Numbered>().as_ref() }
}

#[inline(always)]
pub fn own(netns: u64) -> Option<&'static Own> {
    // SAFETY: as above.
    unsafe { look_up(&OWN, &[netns]).cast::<Own>().as_ref() }
}

/// Whether no other pod has connected from the network namespace. Called only for those in `OWN`, which bounds the map.
#[inline(always)]
pub fn is_alone(netns: u64, pod: u64) -> bool {
    match pod_of(netns) {
        Some(known) if known == pod => true,
        Some(SEVERAL) => false,
        Some(_) => {
            let _ = POD_OF.insert(netns, SEVERAL, 0);
            false
        }
        None => {
            // Another CPU may have been faster, for another pod.
            let _ = POD_OF.insert(netns, pod, BPF_NOEXIST as u64);
            pod_of(netns) == Some(pod)
        }
    }
}

#[inline(always)]
fn pod_of(netns: u64) -> Option<u64> {
    // SAFETY: as above.
    unsafe { look_up(&POD_OF, &[netns]).cast::<u64>().as_ref() }.copied()
}

/// weir's listener in the network namespace, referenced; null where there is none.
#[inline(always)]
pub fn listener(netns: u64, which: ListenerUse) -> *mut bpf_sock {
    look_up(&LISTENERS, &[netns, which as u64]).cast()
}

/// The state of weir's listener in the network namespace.
#[inline(always)]
pub fn listener_state(netns: u64, which: ListenerUse) -> Option<u32> {
    let socket = listener(netns, which);
    if socket.is_null() {
        return None;
    }
    // SAFETY: the socket is referenced until it is released, and only read.
    unsafe {
        let state = addr_of!((*socket).state).read_volatile();
        bpf_sk_release(socket.cast());
        Some(state)
    }
}

/// The addresses of a network namespace, one of them all zero where there is none.
#[inline(always)]
pub fn is_none(address: &Address) -> bool {
    let [a, b, c, d] = address.words;
    a == 0 && b == 0 && c == 0 && d == 0
}
