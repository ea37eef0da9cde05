//! Holding weir's BPF links open from outside: without that, the links would vanish with their process, and a
//! missing dead-man switch would go unnoticed.
#![allow(unsafe_code, reason = "links are opened with the raw bpf system call")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type};

/// Descriptors of every link attached to one cgroup.
pub struct HeldLinks(Vec<OwnedFd>);

impl HeldLinks {
    /// Opens the links on `cgroup`.
    pub fn on(cgroup: &Path) -> Self {
        // A cgroup's id is the inode number of its folder.
        let id = std::fs::metadata(cgroup).unwrap().ino();
        let attached = |fd: &OwnedFd| {
            let info = info(fd);
            // SAFETY: of the kernel, or zero; and the type says which of the union it is.
            let cgroup = unsafe { info.__bindgen_anon_1.cgroup.cgroup_id };
            info.type_ == bpf_link_type::BPF_LINK_TYPE_CGROUP as u32 && cgroup == id
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
        let mut attributes = attributes();
        attributes.__bindgen_anon_6.__bindgen_anon_1.start_id = last;
        (bpf(bpf_cmd::BPF_LINK_GET_NEXT_ID, &mut attributes) == 0).then(|| {
            // SAFETY: zero, and then set by the kernel.
            last = unsafe { attributes.__bindgen_anon_6.next_id };
            last
        })
    })
}

fn open(id: u32) -> Option<OwnedFd> {
    let mut attributes = attributes();
    attributes.__bindgen_anon_6.__bindgen_anon_1.link_id = id;
    let fd = bpf(bpf_cmd::BPF_LINK_GET_FD_BY_ID, &mut attributes);
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) })
}

fn info(link: &OwnedFd) -> bpf_link_info {
    // SAFETY: structs of integers, for which zero is a value.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attributes = attributes();
    attributes.info.bpf_fd = u32::try_from(link.as_raw_fd()).unwrap();
    attributes.info.info_len = u32::try_from(size_of::<bpf_link_info>()).unwrap();
    attributes.info.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes);
    info
}

/// The whole of the kernel's attributes, all zero: it may write to any part of them.
fn attributes() -> bpf_attr {
    // SAFETY: structs of integers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> libc::c_long {
    let size = size_of::<bpf_attr>();
    // SAFETY: live attributes of the size given, and the pointer in them, where there is one, is to a live
    // `bpf_link_info` of the size given beside it.
    unsafe { libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_mut(attributes), size) }
}
