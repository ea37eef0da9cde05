//! One connect() by io_uring, by hand: the smallest ring there is, one submission and one completion.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::SockAddr;

const OP_CONNECT: u8 = 16;
const ENTER_GETEVENTS: u32 = 1;
const OFFSET_SQ_RING: i64 = 0;
const OFFSET_CQ_RING: i64 = 0x800_0000;
const OFFSET_SQES: i64 = 0x1000_0000;

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    _unused: [u32; 8],
    /// head, tail, ring_mask, ring_entries, flags, dropped, array; then two fields not used here.
    sq: [u32; 10],
    /// head, tail, ring_mask, ring_entries, overflow, cqes; then not used here.
    cq: [u32; 10],
}

/// `struct io_uring_sqe`, as far as a connect fills it.
#[repr(C)]
struct Submission {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    /// The address's length.
    off: u64,
    /// The address.
    addr: u64,
    rest: [u64; 5],
}

// As linux/io_uring.h has them: the kernel writes to the whole of the first.
const _: () = assert!(size_of::<Params>() == 120 && size_of::<Submission>() == 64);

/// Connects `fd` to `address` and waits for the end of that: 0, or a negative error number.
pub fn connect(fd: i32, address: &SockAddr) -> i32 {
    let mut params = Params::default();
    // SAFETY: a live, zeroed io_uring_params.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) };
    assert!(ring >= 0, "io_uring_setup: {}", std::io::Error::last_os_error());
    let ring = i32::try_from(ring).unwrap();
    let (sq, cq, sqes) =
        (map(ring, OFFSET_SQ_RING), map(ring, OFFSET_CQ_RING), map(ring, OFFSET_SQES).cast::<Submission>());
    let submission = Submission {
        opcode: OP_CONNECT,
        flags: 0,
        ioprio: 0,
        fd,
        off: address.len().into(),
        addr: address.as_ptr() as u64,
        rest: [0; 5],
    };
    let at = |base: *mut u8, offset: u32| base.wrapping_add(offset as usize);
    // SAFETY: the kernel mapped these rings and said where in them its fields are; there is one entry, number 0, and
    // nobody else has this ring.
    unsafe {
        sqes.write(submission);
        at(sq, params.sq[6]).cast::<u32>().write(0);
        (*at(sq, params.sq[1]).cast::<AtomicU32>()).store(1, Ordering::Release);
        let entered = libc::syscall(
            libc::SYS_io_uring_enter,
            ring,
            1,
            1,
            ENTER_GETEVENTS,
            null_mut::<libc::c_void>(),
            0,
        );
        assert_eq!(entered, 1, "io_uring_enter: {}", std::io::Error::last_os_error());
        let done = (*at(cq, params.cq[1]).cast::<AtomicU32>()).load(Ordering::Acquire);
        assert_eq!(done, 1, "one completion");
        // A completion is the submission's user data (8 bytes), and then what came of it.
        let result = at(cq, params.cq[5] + 8).cast::<i32>().read();
        libc::close(ring);
        result
    }
}

/// Maps one page of the ring: more than one entry takes.
fn map(ring: i32, offset: i64) -> *mut u8 {
    // SAFETY: a new mapping of the ring's own memory. It stays for as long as the process, which ends soon.
    let memory = unsafe {
        libc::mmap(
            null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            ring,
            offset,
        )
    };
    assert_ne!(memory, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
    memory.cast()
}
