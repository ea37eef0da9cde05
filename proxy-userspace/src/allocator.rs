//! The allocator: mimalloc, for 600 instructions less a request than the system's and the tail it keeps short.

#![allow(unsafe_code, reason = "mimalloc's own functions are C")]

/// The process's allocator; `main.rs` makes it so.
pub type Allocator = mimalloc::MiMalloc;

/// The one value of its type.
pub const MIMALLOC: Allocator = mimalloc::MiMalloc;

/// Has the kernel back this process's memory with small pages only. mimalloc asks for huge ones (2 MB each), of which a
/// process as small as weir uses a corner: 8 MB resident become 2.5 at rest, and 45 become 25 with 512 connections. To be
/// called before much has been allocated. Should the kernel refuse, weir is merely larger.
pub fn use_small_pages() {
    // SAFETY: this prctl takes no pointers and changes only how later memory is backed.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Gives memory that this thread has freed back to the kernel. To be called after work that needed much for a moment
/// and will not be done again: loading the eBPF programs takes 28 MB for the kernel's type information, which would
/// count as weir's for good.
pub fn give_back() {
    // SAFETY: mi_collect may be called at any time, from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
