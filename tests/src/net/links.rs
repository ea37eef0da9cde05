//! Holding weir's BPF links open from outside: without that, the links would vanish with their process, and a
//! missing dead-man switch would go unnoticed.
#![allow(unsafe_code, reason = "links are opened with the raw bpf system call")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_GET_NEXT_ID: libc::c_long = 31;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_TYPE_CGROUP: u32 = 3;

/// Descriptors of every link attached to one cgroup.
pub struct HeldLinks(Vec<OwnedFd>);

/// `union bpf_attr`, as far as these three commands read it.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    first: u32,
    second: u32,
    third: u64,
    rest: [u64; 14],
}

/// `struct bpf_link_info`, as far as a cgroup's link fills it.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    _pad: u32,
    cgroup: u64,
    attach_type: u32,
    rest: [u32; 25],
}

impl HeldLinks {
    /// Opens the links on `cgroup`.
    pub fn on(cgroup: &Path) -> Self {
        // A cgroup's id is the inode number of its folder.
        let id = std::fs::metadata(cgroup).unwrap().ino();
        let attached = |fd: &OwnedFd| {
            let info = info(fd);
            info.kind == LINK_TYPE_CGROUP && info.cgroup == id
        };
        Self(ids().filter_map(open).filter(attached).collect())
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "no test asks")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn ids() -> impl Iterator<Item = u32> {
    let mut last = 0;
    std::iter::from_fn(move || {
        let mut attributes = Attributes { first: last, ..Attributes::default() };
        (bpf(LINK_GET_NEXT_ID, &mut attributes) == 0).then(|| {
            last = attributes.second;
            last
        })
    })
}

fn open(id: u32) -> Option<OwnedFd> {
    let fd = bpf(LINK_GET_FD_BY_ID, &mut Attributes { first: id, ..Attributes::default() });
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) })
}

fn info(link: &OwnedFd) -> LinkInfo {
    let mut info = LinkInfo::default();
    let mut attributes = Attributes {
        first: u32::try_from(link.as_raw_fd()).unwrap(),
        second: u32::try_from(size_of::<LinkInfo>()).unwrap(),
        third: &raw mut info as u64,
        ..Attributes::default()
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes);
    info
}

fn bpf(command: libc::c_long, attributes: &mut Attributes) -> libc::c_long {
    // SAFETY: `attributes` is a live, zero-padded bpf_attr of the size given, and the pointer in it, where there
    // is one, is to a live `LinkInfo` of the size given beside it.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<Attributes>()) }
}
