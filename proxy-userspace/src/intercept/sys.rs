//! The few system calls that neither std nor aya offers.
//!
//! aya's socket map has values of four bytes, which user space cannot read; weir's has eight, so that the cookie
//! identifies the listener in the slot. aya's hash maps lack look-up-and-delete in one call, and aya cannot query which
//! programs are effective on a cgroup.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::mem::{MaybeUninit, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::{BPF_NOEXIST, bpf_attr, bpf_cmd};
use proxy_ebpf::{Address, Original, Tuple};

/// `BPF_F_QUERY_EFFECTIVE`: also the programs of the cgroups above.
const QUERY_EFFECTIVE: u32 = 1;

/// The zeroed attributes of a bpf(2) call: the kernel's whole union, not only the part that a command reads. The kernel
/// also writes to it, Linux 6.17 and later even past the size given with `BPF_PROG_QUERY` (`revision`, at offset 56).
/// Older kernels have a smaller union and accept a larger one whose rest is zero.
pub(super) fn attributes() -> bpf_attr {
    // SAFETY: structs of integers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// `BPF_NOEXIST`: only where there is no such element.
const NO_EXIST: u64 = 1;

/// Calls bpf(2).
fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    let size = size_of::<bpf_attr>();
    // SAFETY: live attributes of the size given; the pointers in them are to live variables of the caller, of the sizes
    // that the command and the map imply.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_mut(attr), size) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Calls bpf(2) with a command that returns a new descriptor.
pub(super) fn bpf_descriptor(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = i32::try_from(bpf(command, attr)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets an element of a map, whose keys and values have the sizes of these types.
pub(super) fn set<K, V: Copy>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut value = *value;
    element(bpf_cmd::BPF_MAP_UPDATE_ELEM, map, key, &raw mut value)
}

/// Adds an element to a map of numbers, unless there is one.
pub(super) fn add<K>(map: BorrowedFd<'_>, key: &K, mut value: u64) -> io::Result<()> {
    let mut attr = attributes();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd().cast_unsigned();
    attr.__bindgen_anon_2.key = std::ptr::from_ref(key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = (&raw mut value) as u64;
    attr.__bindgen_anon_2.flags = BPF_NOEXIST.into();
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Adds an element to a map, unless there is one.
pub(super) fn insert<K, V>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut attr = attributes();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd().cast_unsigned();
    attr.__bindgen_anon_2.key = std::ptr::from_ref(key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = std::ptr::from_ref(value) as u64;
    attr.__bindgen_anon_2.flags = BPF_NOEXIST.into();
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Reads an element of a map of numbers; `None` if there is none.
pub(super) fn number<K>(map: BorrowedFd<'_>, key: &K) -> Option<u64> {
    let mut value = 0_u64;
    element(bpf_cmd::BPF_MAP_LOOKUP_ELEM, map, key, &raw mut value).ok().map(|()| value)
}

/// Removes an element of a map. A missing element is no error.
pub(super) fn remove<K>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    match element::<K, u64>(bpf_cmd::BPF_MAP_DELETE_ELEM, map, key, std::ptr::null_mut()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        answer => answer,
    }
}

/// Runs the command on the element `key`, with `value` if there is one.
fn element<K, V>(command: bpf_cmd, map: BorrowedFd<'_>, key: &K, value: *mut V) -> io::Result<()> {
    let mut attr = attributes();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd().cast_unsigned();
    attr.__bindgen_anon_2.key = std::ptr::from_ref(key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value as u64;
    bpf(command, &mut attr).map(drop)
}

/// Whether this kernel supports look-up-and-delete on `TUPLES` (since Linux 5.14): it must report a missing entry for a
/// tuple that no connection has.
pub(super) fn can_take(map: BorrowedFd<'_>) -> io::Result<()> {
    let none = Address { words: [0; 4] };
    let tuple = Tuple { client: none, node: none, client_port: 0, node_port: 0, sequence: 0 };
    let mut original = MaybeUninit::<Original>::uninit();
    match element(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, &tuple, original.as_mut_ptr()) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Removes an entry from `TUPLES` and returns it.
pub(super) fn take(map: BorrowedFd<'_>, tuple: &Tuple) -> Option<Original> {
    let mut original = MaybeUninit::<Original>::uninit();
    element(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, tuple, original.as_mut_ptr()).ok()?;
    // SAFETY: the call succeeded, so the kernel wrote the map's value, whose size `Object` checked; every
    // pattern of bits is an `Original`.
    Some(unsafe { original.assume_init() })
}

/// Puts an entry into `TUPLES`, unless a new one exists.
pub(super) fn put_back(map: BorrowedFd<'_>, tuple: &Tuple, original: &Original) {
    let mut attr = attributes();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd().cast_unsigned();
    attr.__bindgen_anon_2.key = std::ptr::from_ref(tuple) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = std::ptr::from_ref(original) as u64;
    attr.__bindgen_anon_2.flags = NO_EXIST;
    let _ = bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr);
}

/// Copies entries of `TUPLES` into `keys` and `values`, starting at `at`, and advances it. Returns the number of
/// entries, and whether there are more. (`BPF_MAP_LOOKUP_BATCH`, since Linux 5.6.)
pub(super) fn read_batch(
    map: BorrowedFd<'_>,
    at: &mut Option<u32>,
    keys: &mut [Tuple],
    values: &mut [Original],
) -> io::Result<(usize, bool)> {
    let (from, mut next) = (*at, 0_u32);
    let room = keys.len().min(values.len());
    let mut attr = attributes();
    attr.batch.in_batch = from.as_ref().map_or(0, |from| std::ptr::from_ref(from) as u64);
    attr.batch.out_batch = &raw mut next as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = u32::try_from(room).unwrap_or(u32::MAX);
    attr.batch.map_fd = map.as_raw_fd().cast_unsigned();
    let more = match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
        Ok(_) => true,
        // The end; the last entries were copied.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
        Err(error) => return Err(error),
    };
    *at = Some(next);
    // SAFETY: set above, and then by the kernel.
    let count = unsafe { attr.batch.count };
    Ok((room.min(count as usize), more))
}

/// Writes the time of the last heartbeat.
pub(super) fn set_heart(map: BorrowedFd<'_>, mut at: u64) -> io::Result<()> {
    element(bpf_cmd::BPF_MAP_UPDATE_ELEM, map, &0_u32, &raw mut at)
}

/// The time of the last heartbeat.
pub(super) fn heart(map: BorrowedFd<'_>) -> io::Result<u64> {
    let mut at = 0_u64;
    element(bpf_cmd::BPF_MAP_LOOKUP_ELEM, map, &0_u32, &raw mut at).map(|()| at)
}

/// Puts a listening socket into the one-slot socket map.
pub(super) fn set_slot(map: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<()> {
    set_socket(map, &0_u32, socket)
}

/// Puts a listening socket into a map of sockets.
pub(super) fn set_socket<K>(map: BorrowedFd<'_>, key: &K, socket: BorrowedFd<'_>) -> io::Result<()> {
    set(map, key, &u64::from(socket.as_raw_fd().cast_unsigned()))
}

/// Takes the socket out of the one-slot socket map.
pub(super) fn clear_slot(map: BorrowedFd<'_>) -> io::Result<()> {
    element::<u32, u64>(bpf_cmd::BPF_MAP_DELETE_ELEM, map, &0, std::ptr::null_mut())
}

/// The cookie of the socket in the slot; `None` when it is empty.
pub(super) fn slot_cookie(map: BorrowedFd<'_>) -> Option<u64> {
    let mut cookie = 0_u64;
    element(bpf_cmd::BPF_MAP_LOOKUP_ELEM, map, &0_u32, &raw mut cookie).ok().map(|()| cookie)
}

/// The ids of the programs that run for sockets of this cgroup at this hook, including those attached above.
pub(super) fn effective_programs(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; 64];
    let mut attr = attributes();
    attr.query.__bindgen_anon_1.target_fd = cgroup.as_raw_fd().cast_unsigned();
    attr.query.attach_type = attach_type;
    attr.query.query_flags = QUERY_EFFECTIVE;
    attr.query.prog_ids = ids.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.prog_cnt = ids.len() as u32;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: set above, and then by the kernel.
    let count = unsafe { attr.query.__bindgen_anon_2.prog_cnt };
    Ok(ids[..ids.len().min(count as usize)].to_vec())
}

/// `SO_COOKIE`: the kernel's id of a socket.
pub(super) fn socket_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    option(socket, libc::SO_COOKIE)
}

/// Checks that the socket listens. The kernel would accept any socket into the slot, and the programs would then assume
/// that weir is gone.
pub(super) fn is_listening(socket: BorrowedFd<'_>) -> io::Result<()> {
    let listens: libc::c_int = option(socket, libc::SO_ACCEPTCONN)?;
    if listens == 0 { Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen")) } else { Ok(()) }
}

/// `SO_NETNS_COOKIE`, of Linux 5.14; not yet in libc.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of a socket's network namespace.
///
/// # Errors
///
/// The kernel's error: it is older than Linux 5.14.
pub fn netns_cookie_of(socket: BorrowedFd<'_>) -> io::Result<u64> {
    option(socket, SO_NETNS_COOKIE)
}

/// The cookie of the calling thread's network namespace.
pub(super) fn netns_cookie() -> io::Result<u64> {
    // SAFETY: no memory is passed.
    let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    option(std::os::fd::AsFd::as_fd(&socket), SO_NETNS_COOKIE)
}

/// Reads a socket option with the size of its type.
fn option<T: Copy + Default>(socket: BorrowedFd<'_>, name: libc::c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointers are to live variables, and the length says how long the first is.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// A new table of numbers by numbers.
#[cfg(test)]
pub(super) fn table_of_numbers() -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.__bindgen_anon_1.map_type = aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_HASH as u32;
    attr.__bindgen_anon_1.key_size = 8;
    attr.__bindgen_anon_1.value_size = 8;
    attr.__bindgen_anon_1.max_entries = 64;
    bpf_descriptor(bpf_cmd::BPF_MAP_CREATE, &mut attr)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::mem::offset_of;
    use std::os::fd::AsFd;

    use aya_obj::generated::bpf_attr__bindgen_ty_10 as Query;

    use super::*;

    #[test]
    fn the_attributes_have_room_for_all_that_a_kernel_writes() {
        // linux/bpf.h of 6.6 and later: `query` ends with the revision.
        assert_eq!((offset_of!(Query, revision), size_of::<Query>()), (56, 64));
        assert_eq!((offset_of!(Query, prog_ids), offset_of!(Query, __bindgen_anon_2)), (16, 24));
        assert!(size_of::<bpf_attr>() >= 144, "{} bytes", size_of::<bpf_attr>());
    }

    #[test]
    fn no_command_of_ours_makes_the_kernel_write_past_the_attributes() {
        #[repr(C)]
        struct Guarded {
            attr: bpf_attr,
            guard: [u8; 256],
        }
        let folder = File::open("/sys/fs/cgroup").expect("a folder");
        let fd = folder.as_fd().as_raw_fd().cast_unsigned();
        let (mut ids, value) = ([0_u32; 64], 0_u64);
        // Map commands fail because it is not a map; cgroup commands write if it is on cgroup2 and the user is root.
        for command in [
            bpf_cmd::BPF_MAP_LOOKUP_ELEM,
            bpf_cmd::BPF_MAP_UPDATE_ELEM,
            bpf_cmd::BPF_MAP_DELETE_ELEM,
            bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM,
            bpf_cmd::BPF_MAP_LOOKUP_BATCH,
            bpf_cmd::BPF_PROG_QUERY,
        ] {
            let mut guarded = Guarded { attr: attributes(), guard: [0xa5; 256] };
            match command {
                bpf_cmd::BPF_PROG_QUERY => {
                    guarded.attr.query.__bindgen_anon_1.target_fd = fd;
                    guarded.attr.query.attach_type = 10;
                    guarded.attr.query.prog_ids = ids.as_mut_ptr() as u64;
                    guarded.attr.query.__bindgen_anon_2.prog_cnt = 64;
                }
                bpf_cmd::BPF_MAP_LOOKUP_BATCH => guarded.attr.batch.map_fd = fd,
                _ => {
                    guarded.attr.__bindgen_anon_2.map_fd = fd;
                    guarded.attr.__bindgen_anon_2.key = &raw const value as u64;
                }
            }
            let _ = bpf(command, &mut guarded.attr);
            assert_eq!(guarded.guard, [0xa5; 256], "{command:?}");
        }
    }
}
