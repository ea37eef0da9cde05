//! A limit on how much is open at the same time, which may change at run time.
//!
//! A lower limit closes nothing: it takes effect once enough slots are released.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limit, and how many slots are free.
#[derive(Debug)]
pub(super) struct PermitPool {
    slots: Arc<Semaphore>,
    /// The limit; locked while it changes.
    most: Mutex<usize>,
    /// Slots that are not returned on release, since the limit was lowered.
    owed: AtomicUsize,
}

/// One slot, released on drop.
#[derive(Debug)]
pub(super) struct Slot {
    pool: Arc<PermitPool>,
    permit: Option<OwnedSemaphorePermit>,
}

impl PermitPool {
    /// A pool with `most` slots.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let most = most.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(most)),
            most: Mutex::new(most),
            owed: AtomicUsize::new(0),
        })
    }

    /// A slot, if one is free now.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<Slot> {
        let permit = self.slots.clone().try_acquire_owned().ok()?;
        Some(Slot { pool: self.clone(), permit: Some(permit) })
    }

    /// A slot, as soon as one is free.
    pub(super) async fn acquire(self: &Arc<Self>) -> Slot {
        // The semaphore is never closed.
        Slot { pool: self.clone(), permit: self.slots.clone().acquire_owned().await.ok() }
    }

    /// Whether the next one would have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// Sets the limit to `most`, now or as soon as enough slots are released.
    pub(super) fn set(&self, most: usize) {
        let most = most.min(Semaphore::MAX_PERMITS);
        let mut before = self.most.lock();
        if most < *before {
            self.owed.fetch_add(*before - most, Ordering::SeqCst);
            self.settle();
        } else {
            let more = most - *before;
            let forgiven = (0..more).take_while(|_| self.owes()).count();
            self.slots.add_permits(more - forgiven);
        }
        *before = most;
    }

    /// Reduces `owed` by one; returns whether it was above zero.
    fn owes(&self) -> bool {
        self.owed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |owed| owed.checked_sub(1)).is_ok()
    }

    /// Removes free slots for what is owed.
    fn settle(&self) {
        while let Ok(free) = self.slots.try_acquire() {
            if !self.owes() {
                return;
            }
            free.forget();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && self.pool.owes()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many slots are free now.
    fn left(pool: &Arc<PermitPool>) -> usize {
        let mut inside = Vec::new();
        while let Some(slot) = pool.try_acquire() {
            inside.push(slot);
        }
        inside.len()
    }

    #[test]
    fn a_bound_that_changes_holds_once_enough_have_left() {
        let pool = PermitPool::new(4);
        let mut inside: Vec<_> = (0..3).map(|_| pool.try_acquire().unwrap()).collect();
        assert_eq!(left(&pool), 1);
        pool.set(2);
        assert_eq!(left(&pool), 0, "three are inside");
        inside.pop();
        assert_eq!(left(&pool), 0, "two are");
        inside.pop();
        assert_eq!((left(&pool), pool.is_full()), (1, false));
        pool.set(5);
        assert_eq!(left(&pool), 4);
        pool.set(1);
        assert_eq!(left(&pool), 0);
        // The remaining debt is cancelled first.
        pool.set(3);
        assert_eq!(left(&pool), 2);
        inside.clear();
        assert_eq!(left(&pool), 3);
    }

    #[test]
    fn a_bound_may_fall_below_what_is_inside_and_rise_again_before_anyone_leaves() {
        let pool = PermitPool::new(3);
        let inside: Vec<_> = (0..3).map(|_| pool.try_acquire().unwrap()).collect();
        pool.set(1);
        pool.set(2);
        pool.set(4);
        assert_eq!(left(&pool), 1);
        drop(inside);
        assert_eq!(left(&pool), 4);
        pool.set(usize::MAX);
        assert!(pool.slots.available_permits() > 1_000_000);
    }
}
