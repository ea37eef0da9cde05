//! The eBPF programs: whether there are any, whether they divert, and what they were told last.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::intercept::{Counters, Enrol, Interception, Status};

/// The programs, or why there are none.
pub struct Programs {
    attached: Mutex<Result<Interception, String>>,
    /// How the last change of what is diverted went.
    pub diverted: Mutex<Diverted>,
    /// Whether weir disarmed for good, because it stops.
    stopping: AtomicBool,
}

/// How the last change of what is diverted went.
#[derive(Clone, Debug, Default)]
pub struct Diverted {
    /// Destinations that are not diverted because the table is full (`limits.destinations`).
    pub left_out: usize,
    /// Why the programs could not be told; to be tried again.
    pub failed: Option<String>,
}

/// The programs at one moment.
pub struct Reading {
    /// Whether they divert, and why not.
    pub status: Status,
    /// What they decided since they were loaded.
    pub counters: Counters,
}

impl Programs {
    pub(super) fn new(attached: Result<Interception, String>) -> Self {
        Self { attached: Mutex::new(attached), diverted: Mutex::default(), stopping: AtomicBool::new(false) }
    }

    /// The programs, for one caller at a time; or why there are none. Not to be held across an await.
    pub fn lock(&self) -> MutexGuard<'_, Result<Interception, String>> {
        self.attached.lock()
    }

    /// Stops diverting for good: from the next connect() on, connections go where they were dialled.
    pub fn disarm(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Ok(interception) = &mut *self.lock() {
            interception.disarm();
        }
    }

    /// Whether weir disarmed for good, because it stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Diverts (again), unless weir stops. `interception` is what [`Self::lock`] gave the caller.
    pub fn arm(&self, interception: &mut Interception) {
        if self.is_stopping() {
            return;
        }
        if let Err(error) = interception.arm() {
            tracing::error!("{error}");
        }
    }

    /// Whose connections are diverted; nothing when none are.
    pub fn enrols(&self) -> Option<Enrol> {
        self.lock().as_ref().ok().map(Interception::enrols)
    }

    /// How the programs are doing. The lock is held for a fixed number of system calls, and while nothing is written.
    ///
    /// # Errors
    ///
    /// Why there are no programs.
    pub fn read(&self) -> Result<Reading, String> {
        let attached = self.lock();
        let interception = attached.as_ref().map_err(Clone::clone)?;
        Ok(Reading { status: interception.status(), counters: interception.counters() })
    }
}
