//! Waking many at once.
//!
//! A connection is told once in its life that weir drains. To wait for that by a channel or a token costs it two hundred
//! instructions with each request; to leave its waker here costs nothing after the first.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::task::{Context, Waker};

/// The wakers of one worker's connections.
#[derive(Debug, Default)]
pub struct Wakers {
    next: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
}

/// One connection's place among them, for its life.
#[derive(Debug)]
pub struct WakerSlot<'a> {
    all: &'a Wakers,
    id: u64,
    /// Whether its waker is there; the task, and so the waker, stays the same.
    placed: bool,
}

impl Wakers {
    /// A place for one more.
    pub fn slot(&self) -> WakerSlot<'_> {
        let id = self.next.get();
        self.next.set(id + 1);
        WakerSlot { all: self, id, placed: false }
    }

    /// Wakes everyone.
    pub fn wake(&self) {
        self.wakers.borrow().values().for_each(Waker::wake_by_ref);
    }
}

impl WakerSlot<'_> {
    /// Leaves the waker of this task, if it is not there yet.
    pub fn take(&mut self, cx: &Context<'_>) {
        if !self.placed {
            self.placed = true;
            self.all.wakers.borrow_mut().insert(self.id, cx.waker().clone());
        }
    }
}

impl Drop for WakerSlot<'_> {
    fn drop(&mut self) {
        self.all.wakers.borrow_mut().remove(&self.id);
    }
}
