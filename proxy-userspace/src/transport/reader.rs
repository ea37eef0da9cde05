//! Which task reads a connection, so that the runtime is asked only when something may have arrived.

use std::task::{Context, Poll, Waker};

use tokio::task::coop::has_budget_remaining;

/// The task that reads. hyper polls for more several times during a request, mostly without data. Each poll of the
/// runtime would take a lock, only to register a task that is registered already.
#[derive(Debug, Default)]
pub(super) struct Reader {
    waker: Option<Waker>,
    /// The waker is registered with the runtime.
    waits: bool,
}

impl Reader {
    pub(super) fn waits_in(&self, cx: &Context<'_>) -> bool {
        self.waits && self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
    }

    /// Records the result of a read of the stream in `cx`: a pending read has registered the waker with the runtime,
    /// unless the task's coop budget was used up; then the task is polled again soon and has to read again. Returns the
    /// waker if it changed.
    pub(super) fn note<T>(&mut self, read: &Poll<T>, cx: &Context<'_>) -> Option<&Waker> {
        self.waits = read.is_pending() && has_budget_remaining();
        if self.waits && !self.waits_in(cx) {
            self.waker = Some(cx.waker().clone());
            return self.waker.as_ref();
        }
        None
    }
}
