//! Programs of somebody else, and what is attached to a cgroup.

use std::fs::File;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type};

use crate::world::{Cgroup, STEP};

const CONNECT4: u32 = bpf_attach_type::BPF_CGROUP_INET4_CONNECT as u32;
/// `BPF_F_ALLOW_MULTI`.
const ALLOW_MULTI: u32 = 2;

/// The hooks weir attaches to: sockops, connect4, connect6, getpeername4, getpeername6.
const HOOKS: [u32; 5] = [3, CONNECT4, 11, 29, 30];

/// The whole of the kernel's attributes, all zero: it may write to any part of them.
pub fn attributes() -> bpf_attr {
    // SAFETY: structs of integers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Calls bpf(2).
pub fn bpf(command: bpf_cmd, attribute: &mut bpf_attr) -> i32 {
    let size = size_of::<bpf_attr>();
    // SAFETY: live attributes of the size given; the pointers in them are to live variables of the caller's.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_mut(attribute), size) };
    assert!(answer >= 0, "{command:?}: {}", std::io::Error::last_os_error());
    i32::try_from(answer).expect("a descriptor")
}

/// Waits until so many programs are attached to this cgroup itself, on all the hooks that weir uses. A process that another
/// test has just forked may hold a link for a moment longer, until it has closed what it inherited.
#[track_caller]
pub fn expect_attached(cgroup: &Cgroup, count: u32) {
    let end = Instant::now() + STEP;
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
    let mut ids = [0_u32; 64];
    let mut attribute = attributes();
    attribute.query.__bindgen_anon_1.target_fd = cgroup.as_raw_fd().cast_unsigned();
    attribute.query.attach_type = hook;
    attribute.query.prog_ids = ids.as_mut_ptr() as u64;
    attribute.query.__bindgen_anon_2.prog_cnt = ids.len() as u32;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attribute);
    // SAFETY: set above, and then by the kernel.
    unsafe { attribute.query.__bindgen_anon_2.prog_cnt }
}

/// Attaches a program at connect4 of a cgroup as tools of old do, without a link, and detaches it again.
pub fn attach(cgroup: &File, program: BorrowedFd<'_>, flags: u32) {
    bpf(bpf_cmd::BPF_PROG_ATTACH, &mut at(cgroup, program, flags));
}

fn detach(cgroup: &File, program: BorrowedFd<'_>) {
    bpf(bpf_cmd::BPF_PROG_DETACH, &mut at(cgroup, program, 0));
}

fn at(cgroup: &File, program: BorrowedFd<'_>, flags: u32) -> bpf_attr {
    let mut attribute = attributes();
    attribute.__bindgen_anon_5.__bindgen_anon_1.target_fd = cgroup.as_raw_fd().cast_unsigned();
    attribute.__bindgen_anon_5.attach_bpf_fd = program.as_raw_fd().cast_unsigned();
    attribute.__bindgen_anon_5.attach_type = CONNECT4;
    attribute.__bindgen_anon_5.attach_flags = flags;
    attribute
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
        attach(&cgroup, program.as_fd(), ALLOW_MULTI);
        Self { program, cgroup }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        detach(&self.cgroup, self.program.as_fd());
    }
}

/// The program, instruction by instruction: `struct bpf_sock_addr` comes in r1, with the address at 4 and the port at 24.
fn rewrite(service: std::net::Ipv4Addr, backend: SocketAddrV4) -> [u64; 8] {
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

/// One instruction; the registers and the offset in it come after its code.
pub fn instruction(code: u64, to: u64, from: u64, offset: i16, value: u32) -> u64 {
    code | to << 8 | from << 12 | u64::from(offset.cast_unsigned()) << 16 | u64::from(value) << 32
}

fn load(instructions: &[u64]) -> OwnedFd {
    load_as(bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, CONNECT4, instructions)
}

/// Loads a program of this type, for this hook.
pub fn load_as(kind: bpf_prog_type, hook: u32, instructions: &[u64]) -> OwnedFd {
    let mut attribute = attributes();
    attribute.__bindgen_anon_3.prog_type = kind as u32;
    attribute.__bindgen_anon_3.insn_cnt = instructions.len() as u32;
    attribute.__bindgen_anon_3.insns = instructions.as_ptr() as u64;
    attribute.__bindgen_anon_3.license = c"GPL".as_ptr() as u64;
    attribute.__bindgen_anon_3.expected_attach_type = hook;
    descriptor(bpf(bpf_cmd::BPF_PROG_LOAD, &mut attribute))
}

/// Owns what a call has just made.
pub fn descriptor(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
