//! The few system calls that neither std nor aya offers.
//!
//! aya's socket map has values of four bytes, which user space cannot read; ours has eight, so that the
//! listener in the slot can be told by its cookie. Its hash maps lack look-up-and-delete in one call, and it
//! cannot ask which programs are in effect on a cgroup.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::mem::{MaybeUninit, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use proxy_ebpf::{Address, Original, Tuple};

/// Commands of bpf(2), from linux/bpf.h.
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
const PROG_QUERY: libc::c_long = 16;
const MAP_LOOKUP_AND_DELETE: libc::c_long = 21;
const MAP_LOOKUP_BATCH: libc::c_long = 24;

/// `BPF_F_QUERY_EFFECTIVE`: also the programs of the cgroups above.
const QUERY_EFFECTIVE: u32 = 1;

/// The part of `union bpf_attr` for commands on one element of a map.
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// The part of `union bpf_attr` for commands on many elements of a map.
#[repr(C)]
struct Batch {
    from: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

const _: () = assert!(size_of::<Batch>() == 56);

/// `BPF_NOEXIST`: only where there is no such element.
const NO_EXIST: u64 = 1;

/// Calls bpf(2).
fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<()> {
    // SAFETY: the attribute is one of the structs above, of the size given, and the pointers in it are to
    // live variables of the caller, of the sizes the command and the map imply.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The command on the element `key`, with `value` where there is one.
fn element<K, V>(command: libc::c_long, map: BorrowedFd<'_>, key: &K, value: *mut V) -> io::Result<()> {
    let mut attr = Element {
        map: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: std::ptr::from_ref(key) as u64,
        value: value as u64,
        flags: 0,
    };
    bpf(command, &mut attr)
}

/// Whether this kernel can take entries out of `TUPLES` (since Linux 5.14): it says that there is none of a tuple that no
/// connection has.
pub(super) fn can_take(map: BorrowedFd<'_>) -> io::Result<()> {
    let none = Address { words: [0; 4] };
    let tuple = Tuple { client: none, node: none, client_port: 0, node_port: 0 };
    let mut original = MaybeUninit::<Original>::uninit();
    match element(MAP_LOOKUP_AND_DELETE, map, &tuple, original.as_mut_ptr()) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Takes an entry out of `TUPLES`.
pub(super) fn take(map: BorrowedFd<'_>, tuple: &Tuple) -> Option<Original> {
    let mut original = MaybeUninit::<Original>::uninit();
    element(MAP_LOOKUP_AND_DELETE, map, tuple, original.as_mut_ptr()).ok()?;
    // SAFETY: the call succeeded, so the kernel wrote the map's value, whose size `Object` checked; every
    // pattern of bits is an `Original`.
    Some(unsafe { original.assume_init() })
}

/// Puts an entry into `TUPLES`, unless there is another by now.
pub(super) fn put_back(map: BorrowedFd<'_>, tuple: &Tuple, original: &Original) {
    let mut attr = Element {
        map: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: std::ptr::from_ref(tuple) as u64,
        value: std::ptr::from_ref(original) as u64,
        flags: NO_EXIST,
    };
    let _ = bpf(MAP_UPDATE, &mut attr);
}

/// Copies entries of `TUPLES` into `keys` and `values`, beginning where `at` says, and moves that on. How many there were,
/// and whether there are more. (`BPF_MAP_LOOKUP_BATCH`, since Linux 5.6.)
pub(super) fn read_batch(
    map: BorrowedFd<'_>,
    at: &mut Option<u32>,
    keys: &mut [Tuple],
    values: &mut [Original],
) -> io::Result<(usize, bool)> {
    let (from, mut next) = (*at, 0_u32);
    let room = keys.len().min(values.len());
    let mut attr = Batch {
        from: from.as_ref().map_or(0, |from| std::ptr::from_ref(from) as u64),
        next: &raw mut next as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(room).unwrap_or(u32::MAX),
        map: map.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    let more = match bpf(MAP_LOOKUP_BATCH, &mut attr) {
        Ok(()) => true,
        // The end; what was left is there.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
        Err(error) => return Err(error),
    };
    *at = Some(next);
    Ok((room.min(attr.count as usize), more))
}

/// Writes the moment of the last heartbeat.
pub(super) fn set_heart(map: BorrowedFd<'_>, mut at: u64) -> io::Result<()> {
    element(MAP_UPDATE, map, &0_u32, &raw mut at)
}

/// The moment of the last heartbeat.
pub(super) fn heart(map: BorrowedFd<'_>) -> io::Result<u64> {
    let mut at = 0_u64;
    element(MAP_LOOKUP, map, &0_u32, &raw mut at).map(|()| at)
}

/// Puts a listening socket into the one-slot socket map.
pub(super) fn set_slot(map: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut value = u64::from(socket.as_raw_fd().cast_unsigned());
    element(MAP_UPDATE, map, &0_u32, &raw mut value)
}

/// Takes the socket out of the one-slot socket map.
pub(super) fn clear_slot(map: BorrowedFd<'_>) -> io::Result<()> {
    element::<u32, u64>(MAP_DELETE, map, &0, std::ptr::null_mut())
}

/// The cookie of the socket in the slot; `None` when it is empty.
pub(super) fn slot_cookie(map: BorrowedFd<'_>) -> Option<u64> {
    let mut cookie = 0_u64;
    element(MAP_LOOKUP, map, &0_u32, &raw mut cookie).ok().map(|()| cookie)
}

/// The ids of the programs that run for sockets of this cgroup at this hook, those attached above included.
pub(super) fn effective_programs(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; 64];
    let mut attr = Query {
        target: cgroup.as_raw_fd().cast_unsigned(),
        attach_type,
        flags: QUERY_EFFECTIVE,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        padding: 0,
    };
    bpf(PROG_QUERY, &mut attr)?;
    Ok(ids[..ids.len().min(attr.count as usize)].to_vec())
}

/// `SO_COOKIE`: the kernel's name of a socket.
pub(super) fn socket_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    option(socket, libc::SO_COOKIE)
}

/// Whether the socket listens. The kernel itself would put any socket into the slot, which the programs
/// would then take for a weir that is gone.
pub(super) fn is_listening(socket: BorrowedFd<'_>) -> io::Result<()> {
    let listens: libc::c_int = option(socket, libc::SO_ACCEPTCONN)?;
    if listens == 0 { Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen")) } else { Ok(()) }
}

/// The cookie of the calling thread's network namespace.
pub(super) fn netns_cookie() -> io::Result<u64> {
    /// Linux 5.14; not yet in libc.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    // SAFETY: no memory is passed.
    let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    option(std::os::fd::AsFd::as_fd(&socket), SO_NETNS_COOKIE)
}

/// A socket option, of the size that its type has.
fn option<T: Copy + Default>(socket: BorrowedFd<'_>, name: libc::c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointers are to live variables, and the length says how long the first is.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
