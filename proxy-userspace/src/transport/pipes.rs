//! Pipes, through which the kernel moves the bytes of a tunnel from one socket to the other (splice(2)): they are copied
//! neither into weir nor out of it.
//!
//! A pipe costs two descriptors and two more system calls than a small read and write would need, so only a tunnel that
//! streams has one, and only for as long as it does. There are few, and all tunnels share them: whoever has as many as are
//! free gets no more, so that everybody who comes later finds some (the "dynamic threshold" of switches' buffers, Choudhury
//! and Hahne, 1998). A tunnel without one copies.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::{fmt, io};

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::allocator::is_short;
use crate::telemetry::{Counter, Gauge};

/// The most bytes that a pipe holds: what a tunnel whose sink is slow keeps of its source's.
const MOST: usize = 64 * 1024;

/// The size that is asked for: a slot of a page for each piece of a packet, of which few hold a whole page.
const SIZE: usize = 256 * 1024;

/// At most one of so many descriptors that are allowed (RLIMIT_NOFILE) is a pipe's end.
const DESCRIPTORS: usize = 32;

/// The pipes of all tunnels.
#[derive(Debug, Default)]
pub struct Pipes {
    /// Pipes that tunnels have now.
    pub open: Gauge,
    /// Times that a tunnel that streams got none.
    pub refused: Counter,
    /// Bytes that went through pipes.
    pub bytes: Counter,
    lent: Mutex<HashMap<u64, usize>>,
}

/// Lends [`Pipes`] to the tunnels of one holder.
#[derive(Clone, Copy, Debug)]
pub struct Lender<'a> {
    /// All of them.
    pub pipes: &'a Pipes,
    /// The number of the holder.
    pub holder: u64,
    /// How many there may be in all (`limits.pipes`).
    pub most: usize,
}

/// A pipe, until it is dropped.
pub(super) struct Pipe<'a> {
    lender: Lender<'a>,
    source: OwnedFd,
    sink: OwnedFd,
}

impl<'a> Lender<'a> {
    /// A pipe, where the holder has fewer than are free, memory is not short, and the kernel has one.
    pub(super) fn lend(self) -> Option<Pipe<'a>> {
        if self.most == 0 {
            return None;
        }
        let opened = self.take().then(|| self.open()).and_then(Result::ok);
        if opened.is_none() {
            self.pipes.refused.inc();
        }
        opened
    }

    /// Counts one more for the holder.
    fn take(self) -> bool {
        let most = self.most.min(allowed());
        let mut lent = self.pipes.lent.lock();
        let open = self.pipes.open.value();
        let own = lent.get(&self.holder).copied().unwrap_or(0);
        if is_short() || own >= most.saturating_sub(open) {
            return false;
        }
        lent.insert(self.holder, own + 1);
        self.pipes.open.inc();
        true
    }

    fn give_back(self) {
        let mut lent = self.pipes.lent.lock();
        if let Some(own) = lent.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                lent.remove(&self.holder);
            }
        }
        self.pipes.open.dec();
    }

    fn open(self) -> io::Result<Pipe<'a>> {
        let (source, sink) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).inspect_err(|_| self.give_back())?;
        // Where the user's pipes have too many pages together, it stays as small as it was made.
        let _ = fcntl_setpipe_size(&sink, SIZE);
        Ok(Pipe { lender: self, source, sink })
    }
}

impl Pipe<'_> {
    /// Moves what `from` has received into the pipe, which is empty: up to [`MOST`] bytes. 0 at its end.
    pub(super) fn fill(&self, from: impl AsFd) -> io::Result<usize> {
        Ok(splice(from, None, &self.sink, None, MOST, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }

    /// Moves up to `bytes` bytes of the pipe on to `to`.
    pub(super) fn drain(&self, to: impl AsFd, bytes: usize) -> io::Result<usize> {
        let n = splice(&self.source, None, to, None, bytes, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?;
        self.lender.pipes.bytes.add(n as u64);
        Ok(n)
    }

    /// Drops what is in the pipe.
    pub(super) fn discard(&self) {
        let mut bytes = [0; 4096];
        while rustix::io::read(&self.source, &mut bytes).is_ok_and(|n| n > 0) {}
    }
}

impl Drop for Pipe<'_> {
    fn drop(&mut self) {
        self.lender.give_back();
    }
}

impl fmt::Debug for Pipe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("holder", &self.lender.holder).finish_non_exhaustive()
    }
}

/// How many pipes fit into the descriptors that this process may have.
fn allowed() -> usize {
    static ALLOWED: OnceLock<usize> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        usize::try_from(most).unwrap_or(usize::MAX) / DESCRIPTORS / 2
    })
}

/// The descriptors that pipes may need of `most`, where `pipes` of them may be open.
pub fn descriptors(pipes: usize, most: usize) -> usize {
    2 * pipes.min(most / DESCRIPTORS / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_later_finds_some_and_gone_ones_can_be_lent_again() {
        let pipes = Pipes::default();
        let lender = |holder| Lender { pipes: &pipes, holder, most: 8 };
        let lend = |holder| std::iter::from_fn(|| lender(holder).lend()).collect::<Vec<_>>();
        let greedy = lend(1);
        assert_eq!(greedy.len(), 4, "half of them");
        let second = lend(2);
        let third = lend(3);
        assert_eq!((second.len(), third.len()), (2, 1));
        assert_eq!((pipes.open.value(), pipes.refused.value()), (7, 3));
        drop(greedy);
        assert_eq!((pipes.open.value(), lend(4).len()), (3, 3));
        drop((second, third));
        assert_eq!((pipes.open.value(), pipes.lent.lock().len()), (0, 0));
        assert!(Lender { pipes: &pipes, holder: 1, most: 0 }.lend().is_none());
        assert_eq!(pipes.refused.value(), 4, "who wants none is not refused one");
    }
}
