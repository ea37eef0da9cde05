//! The allocator: mimalloc, whose tail stays short and whose calls are fewer instructions than the system's.
//!
//! mimalloc's own crate asks for every block by its aligned call, which costs a request 700 instructions more and rounds
//! buffers up; here only what needs more than malloc's alignment does.

#![allow(unsafe_code, reason = "an allocator is unsafe by its trait, and mimalloc's functions are C")]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// The alignment of whatever mimalloc gives for at least as many bytes (MI_MAX_ALIGN_SIZE).
const NATURAL: usize = 16;

/// mimalloc as the process's allocator; `main.rs` makes it so.
#[derive(Debug)]
pub struct Allocator;

impl Allocator {
    fn is_natural(layout: Layout, size: usize) -> bool {
        layout.align() <= NATURAL && layout.align() <= size
    }
}

// SAFETY: every block comes from mimalloc with at least the size and alignment of its layout, and goes back to it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if Self::is_natural(layout, layout.size()) {
            // SAFETY: any size may be asked for; a block of `NATURAL` bytes or more has that alignment, and a smaller
            // one that of its size.
            return unsafe { mi::mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: a layout's alignment is a power of two.
        unsafe { mi::mi_malloc_aligned(layout.size(), layout.align()) }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if Self::is_natural(layout, layout.size()) {
            // SAFETY: as in `alloc`.
            return unsafe { mi::mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: as in `alloc`.
        unsafe { mi::mi_zalloc_aligned(layout.size(), layout.align()) }.cast()
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if Self::is_natural(layout, size) {
            // SAFETY: the caller has the block from this allocator; alignment as in `alloc`.
            return unsafe { mi::mi_realloc(block.cast(), size) }.cast();
        }
        // SAFETY: the same, and a layout's alignment is a power of two.
        unsafe { mi::mi_realloc_aligned(block.cast(), size, layout.align()) }.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller has the block from this allocator.
        unsafe { mi::mi_free(block.cast()) }
    }
}

/// mimalloc's `purge_delay`: how long memory that was freed is kept, in milliseconds. Its number in `mi_option_t` is part
/// of mimalloc's interface, and not among the Rust crate's constants.
const PURGE_DELAY: mi::mi_option_t = 15;

/// Has the kernel back this process's memory with small pages only, and take back at once what is freed. mimalloc asks for huge ones (2 MB each), of which a
/// process as small as weir uses a corner: 8 MB resident become 2.5 at rest, and 45 become 25 with 512 connections. To be
/// called before much has been allocated. Should the kernel refuse, weir is merely larger.
pub fn use_small_pages() {
    // SAFETY: this prctl takes no pointers and changes only how later memory is backed.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    // SAFETY: setting an option is allowed as long as there is one thread, and this comes first in `main`.
    unsafe { mi::mi_option_set(PURGE_DELAY, 0) };
}

/// Gives memory that this thread has freed back to the kernel. To be called after work that needed much for a moment
/// and will not be done again: loading the eBPF programs takes 28 MB for the kernel's type information, which would
/// count as weir's for good.
pub fn give_back() {
    // SAFETY: mi_collect may be called at any time, from any thread.
    unsafe { mi::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_the_alignment_of_its_layout() {
        for align in [1, 2, 4, 8, 16, 32, 64, 128, 4096] {
            for size in [1, 3, 8, 15, 16, 17, 100, 8192, 100_000] {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                // SAFETY: the layout's size is not zero, and each block goes back with the layout it has by then.
                unsafe {
                    let block = Allocator.alloc_zeroed(layout);
                    assert!(!block.is_null() && block.addr().is_multiple_of(align), "{layout:?}");
                    assert_eq!(*block.add(size - 1), 0);
                    block.write(7);
                    let larger = Allocator.realloc(block, layout, size * 2);
                    assert!(larger.addr().is_multiple_of(align) && larger.read() == 7, "{layout:?}");
                    Allocator.dealloc(larger, Layout::from_size_align(size * 2, align).expect("a layout"));
                }
            }
        }
    }
}
