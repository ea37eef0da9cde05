//! The eBPF programs: whether they are loaded, whether they divert, and the last update.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::intercept::{Counters, Enrol, Interception, Status};

/// The programs, or why they are not loaded.
pub struct Programs {
    attached: Mutex<Result<Interception, String>>,
    /// The result of the last change of the diverted destinations.
    pub diverted: Mutex<Diverted>,
    /// Whether weir disarmed the programs for good because it stops.
    stopping: AtomicBool,
}

/// The result of the last change of the diverted destinations.
#[derive(Clone, Debug, Default)]
pub struct Diverted {
    /// Destinations that are not diverted because the table is full (`limits.destinations`).
    pub left_out: usize,
    /// Why the programs could not be updated; retried later.
    pub failed: Option<String>,
}

/// A reading of the programs' state.
pub struct Reading {
    /// Whether they divert, and the reason if not.
    pub status: Status,
    /// The decisions since they were loaded.
    pub counters: Counters,
}

impl Programs {
    pub(super) fn new(attached: Result<Interception, String>) -> Self {
        Self { attached: Mutex::new(attached), diverted: Mutex::default(), stopping: AtomicBool::new(false) }
    }

    /// Locks the programs, or the reason why they are not loaded. Do not hold the lock across an await.
    pub fn lock(&self) -> MutexGuard<'_, Result<Interception, String>> {
        self.attached.lock()
    }

    /// Stops diverting for good: from the next connect() on, connections go to their original destination.
    pub fn disarm(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Ok(interception) = &mut *self.lock() {
            interception.disarm();
        }
    }

    /// As [`Self::disarm`], and decides nothing more: another weir's programs do.
    pub fn hand_over(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Ok(interception) = &mut *self.lock() {
            interception.hand_over();
        }
    }

    /// Whether weir disarmed the programs for good because it stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Arms the programs (again), unless weir stops. `interception` is what [`Self::lock`] returned.
    pub fn arm(&self, interception: &mut Interception) {
        if self.is_stopping() {
            return;
        }
        if let Err(error) = interception.arm() {
            tracing::error!("{error}");
        }
    }

    /// Whose connections are diverted; `None` without programs.
    pub fn enrols(&self) -> Option<Enrol> {
        self.lock().as_ref().ok().map(Interception::enrols)
    }

    /// Reads the programs' state. The lock is held for a fixed number of system calls, and not while output is written.
    ///
    /// # Errors
    ///
    /// Why the programs are not loaded.
    pub fn read(&self) -> Result<Reading, String> {
        let attached = self.lock();
        let interception = attached.as_ref().map_err(Clone::clone)?;
        Ok(Reading { status: interception.status(), counters: interception.counters() })
    }
}
