//! Programs of somebody else, and what is attached to a cgroup.

use std::fs::File;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::world::Cgroup;

/// Commands and constants of linux/bpf.h.
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_QUERY: libc::c_long = 16;
const TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const CONNECT4: u32 = 10;
const ALLOW_MULTI: u32 = 2;

/// The hooks weir attaches to: sockops, connect4, connect6, getpeername4, getpeername6.
const HOOKS: [u32; 5] = [3, CONNECT4, 11, 29, 30];

/// Calls bpf(2) with an attribute that begins with these bytes.
fn bpf<const N: usize>(command: libc::c_long, attribute: &mut [u32; N]) -> i32 {
    let size = size_of_val(attribute);
    // SAFETY: a live attribute of the size given; the pointers in it are to live variables of the caller's.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), size) };
    assert!(answer >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    i32::try_from(answer).expect("a descriptor")
}

/// An address in an attribute: two words.
fn pointer<T: ?Sized>(to: &T) -> [u32; 2] {
    let address = std::ptr::from_ref(to).cast::<u8>() as u64;
    [address as u32, (address >> 32) as u32]
}

/// Waits until so many programs are attached to this cgroup itself, on all the hooks that weir uses. A process that another
/// test has just forked may hold a link for a moment longer, until it has closed what it inherited.
#[track_caller]
pub fn expect_attached(cgroup: &Cgroup, count: u32) {
    let end = Instant::now() + Duration::from_secs(30);
    while attached(cgroup) != count {
        assert!(Instant::now() < end, "{} programs and not {count}", attached(cgroup));
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn attached(cgroup: &Cgroup) -> u32 {
    let folder = File::open(&cgroup.path).expect("the cgroup");
    HOOKS.into_iter().map(|hook| query(&folder, hook)).sum()
}

fn query(cgroup: &File, hook: u32) -> u32 {
    let ids = [0_u32; 64];
    let [low, high] = pointer(&ids);
    let mut query = [cgroup.as_raw_fd().cast_unsigned(), hook, 0, 0, low, high, ids.len() as u32, 0];
    bpf(PROG_QUERY, &mut query);
    query[6]
}

/// A load balancer for sockets, as network plug-ins have one: every IPv4 connect() to a service's address goes to a
/// backend instead. Attached in the way that lets others attach as well; detached when dropped.
pub struct Balancer {
    program: OwnedFd,
    cgroup: File,
}

impl Balancer {
    pub fn on(cgroup: &Cgroup, service: std::net::Ipv4Addr, backend: SocketAddrV4) -> Self {
        let program = load(&rewrite(service, backend));
        let cgroup = File::open(&cgroup.path).expect("the cgroup");
        let this = Self { program, cgroup };
        this.call(PROG_ATTACH, ALLOW_MULTI);
        this
    }

    fn call(&self, command: libc::c_long, flags: u32) {
        let [cgroup, program] = [self.cgroup.as_raw_fd(), self.program.as_raw_fd()].map(i32::cast_unsigned);
        bpf(command, &mut [cgroup, program, CONNECT4, flags]);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.call(PROG_DETACH, 0);
    }
}

/// The program, instruction by instruction: `struct bpf_sock_addr` comes in r1, with the address at 4 and the port at 24.
fn rewrite(service: std::net::Ipv4Addr, backend: SocketAddrV4) -> [u64; 8] {
    let instruction = |code: u64, to: u64, from: u64, offset: u64, value: u32| {
        code | to << 8 | from << 12 | offset << 16 | u64::from(value) << 32
    };
    let address = |ip: std::net::Ipv4Addr| u32::from_ne_bytes(ip.octets());
    [
        // r2 = address; if r2 != service, go to the end
        instruction(0x61, 2, 1, 4, 0),
        instruction(0x56, 2, 0, 4, address(service)),
        // address = backend; port = backend's
        instruction(0xb4, 2, 0, 0, address(*backend.ip())),
        instruction(0x63, 1, 2, 4, 0),
        instruction(0xb4, 2, 0, 0, u32::from(backend.port().to_be())),
        instruction(0x63, 1, 2, 24, 0),
        // return 1: let it go on
        instruction(0xb7, 0, 0, 0, 1),
        instruction(0x95, 0, 0, 0, 0),
    ]
}

fn load(instructions: &[u64]) -> OwnedFd {
    let ([low, high], license) = (pointer(instructions), pointer(c"GPL".to_bytes_with_nul()));
    let mut attribute = [0_u32; 18];
    attribute[..6].copy_from_slice(&[
        TYPE_CGROUP_SOCK_ADDR,
        instructions.len() as u32,
        low,
        high,
        license[0],
        license[1],
    ]);
    // expected_attach_type
    attribute[17] = CONNECT4;
    let fd = bpf(PROG_LOAD, &mut attribute);
    // SAFETY: the kernel has just made this descriptor and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
