//! The allocator: mimalloc, which has lower tail latency and needs fewer instructions per call than the system's.
//!
//! mimalloc's own crate uses the aligned call for every block, which costs 700 more instructions per request and rounds
//! buffers up; here only blocks that need more than malloc's alignment use it.

#![allow(unsafe_code, reason = "an allocator is unsafe by its trait, and mimalloc's functions are C")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

use libmimalloc_sys as mi;

/// The alignment of every mimalloc block of at least this size (MI_MAX_ALIGN_SIZE).
const NATURAL: usize = 16;

/// From this size on, blocks are counted: buffers and tables. The path of a small request allocates few of them.
const LARGE: usize = 8 * 1024;

/// A cache line of its own: what is written often next to what every thread reads would slow them all.
#[repr(align(128))]
struct Apart(AtomicUsize);

/// Bytes in such blocks.
static IN_LARGE: Apart = Apart(AtomicUsize::new(0));

/// Bytes in blocks of 8 KiB and more: buffers, and tables. Exact at any time, where what the kernel says of memory was so
/// when it was last asked.
pub fn in_large_blocks() -> usize {
    IN_LARGE.0.load(Ordering::Relaxed)
}

/// [`in_large_blocks`] from which on memory is short.
static SHORT_AT: Apart = Apart(AtomicUsize::new(usize::MAX));

/// From so many bytes in large blocks on, memory is short.
pub fn set_short_at(bytes: usize) {
    SHORT_AT.0.store(bytes, Ordering::Relaxed);
}

/// Whether memory is short: then nothing large is to be read at once.
#[inline]
pub fn is_short() -> bool {
    in_large_blocks() >= SHORT_AT.0.load(Ordering::Relaxed)
}

/// A block of `size` bytes was made.
#[inline]
fn made(size: usize) {
    if size >= LARGE {
        IN_LARGE.0.fetch_add(size, Ordering::Relaxed);
    }
}

/// A block of `size` bytes was given back.
#[inline]
fn freed(size: usize) {
    if size >= LARGE {
        IN_LARGE.0.fetch_sub(size, Ordering::Relaxed);
    }
}

/// Memory in smaller blocks, or of the kernel, that something is known to need; counted as if it were in large blocks until
/// it is dropped.
#[derive(Debug)]
pub struct Charge(usize);

impl Charge {
    /// So many bytes.
    pub fn new(bytes: usize) -> Self {
        IN_LARGE.0.fetch_add(bytes, Ordering::Relaxed);
        Self(bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        IN_LARGE.0.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// mimalloc as the process's allocator; `main.rs` installs it.
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
        made(layout.size());
        if Self::is_natural(layout, layout.size()) {
            // SAFETY: any size may be asked for; a block of `NATURAL` bytes or more has that alignment, and a smaller
            // one that of its size.
            return unsafe { mi::mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: a layout's alignment is a power of two.
        unsafe { mi::mi_malloc_aligned(layout.size(), layout.align()) }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        made(layout.size());
        if Self::is_natural(layout, layout.size()) {
            // SAFETY: as in `alloc`.
            return unsafe { mi::mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: as in `alloc`.
        unsafe { mi::mi_zalloc_aligned(layout.size(), layout.align()) }.cast()
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        made(size);
        freed(layout.size());
        if Self::is_natural(layout, size) {
            // SAFETY: the caller has the block from this allocator; alignment as in `alloc`.
            return unsafe { mi::mi_realloc(block.cast(), size) }.cast();
        }
        // SAFETY: the same, and a layout's alignment is a power of two.
        unsafe { mi::mi_realloc_aligned(block.cast(), size, layout.align()) }.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        freed(layout.size());
        // SAFETY: the caller has the block from this allocator.
        unsafe { mi::mi_free(block.cast()) }
    }
}

/// mimalloc's `purge_delay`: how long freed memory is kept, in milliseconds. Its number in `mi_option_t` is part of
/// mimalloc's interface, but not among the Rust crate's constants.
const PURGE_DELAY: mi::mi_option_t = 15;

/// Makes the kernel use only small pages for this process, and return freed memory at once. mimalloc asks for huge
/// pages (2 MB each), of which a small process such as weir uses little: RSS drops from 8 to 2.5 MB at rest, and from
/// 45 to 25 MB with 512 connections. Call it before much has been allocated. If the kernel refuses, weir only uses more
/// memory.
pub fn use_small_pages() {
    // SAFETY: this prctl takes no pointers and changes only how later memory is backed.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    // SAFETY: setting an option is allowed as long as there is one thread, and this comes first in `main`.
    unsafe { mi::mi_option_set(PURGE_DELAY, 0) };
}

/// Returns memory freed by this thread to the kernel. Call it after work that temporarily needed much memory and is not
/// repeated: loading the eBPF programs takes 28 MB for the kernel's type information, which would otherwise stay in
/// weir's RSS.
pub fn give_back() {
    // SAFETY: mi_collect may be called at any time, from any thread.
    unsafe { mi::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_are_counted_until_they_are_given_back() {
        // What other tests do at the same time is much smaller. The pages are never touched.
        const HUGE: usize = 64 << 20;
        const NEAR: usize = HUGE / 8;
        let layout = |size| Layout::from_size_align(size, 8).expect("a layout");
        let before = in_large_blocks();
        let grew = |by: usize| in_large_blocks().abs_diff(before + by) < NEAR;
        // SAFETY: the layouts' sizes are not zero, and each block goes back with the layout it has by then.
        unsafe {
            let small = Allocator.alloc(layout(LARGE - 1));
            let large = Allocator.alloc(layout(HUGE));
            assert!(grew(HUGE));
            let grown = Allocator.realloc(small, layout(LARGE - 1), HUGE);
            assert!(grew(2 * HUGE));
            let shrunk = Allocator.realloc(large, layout(HUGE), 16);
            assert!(grew(HUGE));
            Allocator.dealloc(grown, layout(HUGE));
            Allocator.dealloc(shrunk, layout(16));
        }
        assert!(grew(0));
    }

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
