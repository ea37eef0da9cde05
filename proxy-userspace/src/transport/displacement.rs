//! The end of a connection whose place belongs to another one from now on.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use super::Activity;

/// Whether a connection has to end at once.
#[derive(Debug, Default)]
pub(super) struct Displacement {
    is_due: AtomicBool,
    /// The task that ends then.
    task: Mutex<Option<Waker>>,
}

impl Activity {
    /// Its place belongs to another connection from now on: it ends at once, whatever it does. Where it does nothing, it
    /// can do so in order.
    pub fn displace(&self) {
        let displacement = self.displacement();
        displacement.is_due.store(true, Ordering::Release);
        self.ask_for_room();
        let task = displacement.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Whether it has to end at once.
    pub fn is_displaced(&self) -> bool {
        self.displacement().is_due.load(Ordering::Acquire)
    }

    /// Ready once it has to end at once. One task may wait: that which closes the connection when it ends.
    pub fn displaced(&self) -> impl Future<Output = ()> + use<> {
        let (this, mut is_known) = (self.clone(), false);
        poll_fn(move |cx| {
            // A task's waker never changes.
            if !std::mem::replace(&mut is_known, true) {
                *this.displacement().task.lock() = Some(cx.waker().clone());
            }
            if this.is_displaced() { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;
    use std::time::Instant;

    use super::*;

    #[test]
    fn one_that_is_displaced_before_anybody_waits_ends_at_once() {
        let activity = Activity::new(Instant::now());
        let mut early = pin!(activity.displaced());
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(early.as_mut().poll(cx).is_pending() && !activity.is_displaced());
        activity.displace();
        assert!(early.as_mut().poll(cx).is_ready() && activity.is_displaced());
        assert!(pin!(activity.displaced()).poll(cx).is_ready());
    }
}
