//! Waking many tasks at once.
//!
//! A connection is notified of the drain once in its life. Waiting for that by a channel or a token costs two hundred
//! instructions per request; a waker stored here costs nothing after the first request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::task::{Context, Waker};

/// The wakers of one worker's connections.
#[derive(Debug, Default)]
pub struct Wakers {
    next: Cell<u64>,
    wakers: RefCell<HashMap<u64, Waker>>,
}

/// One connection's slot, for the connection's lifetime.
#[derive(Debug)]
pub struct WakerSlot<'a> {
    all: &'a Wakers,
    id: u64,
    /// Whether its waker is stored; the task, and so the waker, never changes.
    placed: bool,
}

impl Wakers {
    /// A new slot.
    pub fn slot(&self) -> WakerSlot<'_> {
        let id = self.next.get();
        self.next.set(id + 1);
        WakerSlot { all: self, id, placed: false }
    }

    /// Wakes all.
    pub fn wake(&self) {
        self.wakers.borrow().values().for_each(Waker::wake_by_ref);
    }
}

impl WakerSlot<'_> {
    /// Stores the waker of this task, if it is not stored yet.
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
