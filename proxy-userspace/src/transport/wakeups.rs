//! Saves a connection a wake-up that has no use.
//!
//! Whoever takes the last piece of an answer from hyper wakes the task of the connection that it came on, which has read the
//! end of the answer already, and finds nothing to do: for a small answer that is a third of all that the task does.
//! So that task is polled with a waker of weir's own ([`Relayed`]), and a wake-up that comes while a piece is taken
//! (`message_body.rs`) is held back ([`Hold`]) until it is known whether that was the last one.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

thread_local! {
    static WAKE_UPS: Cell<WakeUps> = const { Cell::new(WakeUps::Pass) };
}

/// What becomes of the wake-ups of connections on this thread.
#[derive(Default)]
enum WakeUps {
    /// They pass on.
    #[default]
    Pass,
    /// They are held back.
    Hold,
    /// This one is held back.
    Held(Arc<Relay>),
}

/// The waker of a connection, which wakes `task`.
struct Relay {
    task: Waker,
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        // Without the variable, its thread ends: nothing is held back then.
        match WAKE_UPS.try_with(Cell::take) {
            Ok(WakeUps::Pass) | Err(_) => self.task.wake_by_ref(),
            Ok(WakeUps::Hold) => WAKE_UPS.set(WakeUps::Held(self)),
            Ok(WakeUps::Held(held)) => {
                if !Arc::ptr_eq(&held, &self) {
                    self.task.wake_by_ref();
                }
                WAKE_UPS.set(WakeUps::Held(held));
            }
        }
    }
}

/// Holds the wake-ups of connections on this thread back until it is dropped. Nothing else may run meanwhile, and no second
/// one begin.
#[must_use = "dropped at once, it holds nothing back"]
pub(super) struct Hold(());

impl Hold {
    /// Begins now.
    pub(super) fn begin() -> Self {
        WAKE_UPS.set(WakeUps::Hold);
        Self(())
    }

    /// There was no use in what was held back.
    pub(super) fn discard(self) {
        WAKE_UPS.set(WakeUps::Pass);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let WakeUps::Held(relay) = WAKE_UPS.take() {
            relay.task.wake_by_ref();
        }
    }
}

/// A connection whose wake-ups can be held back.
pub struct Relayed<F> {
    connection: F,
    waker: Option<(Arc<Relay>, Waker)>,
}

impl<F> Relayed<F> {
    /// `connection`, which is polled by one task.
    pub fn new(connection: F) -> Self {
        Self { connection, waker: None }
    }
}

impl<F: Future + Unpin> Future for Relayed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { connection, waker } = &mut *self;
        let known = waker.take().filter(|(relay, _)| relay.task.will_wake(cx.waker()));
        let (_, waker) = waker.insert(known.unwrap_or_else(|| {
            let relay = Arc::new(Relay { task: cx.waker().clone() });
            (relay.clone(), relay.into())
        }));
        Pin::new(connection).poll(&mut Context::from_waker(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The waker that a connection is polled with, and how often its task was woken.
    fn relayed() -> (Waker, impl Fn() -> usize) {
        let count = Arc::new(Count::default());
        let task: Waker = count.clone().into();
        let mut wakers = Vec::new();
        let mut relayed = Relayed::new(std::future::poll_fn(|cx| {
            wakers.push(cx.waker().clone());
            Poll::<()>::Pending
        }));
        for _ in 0..2 {
            assert!(Pin::new(&mut relayed).poll(&mut Context::from_waker(&task)).is_pending());
        }
        drop(relayed);
        assert!(wakers[0].will_wake(&wakers[1]), "it stays the same");
        (wakers.remove(0), move || count.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_wake_up_passes_unless_it_was_held_back_and_discarded() {
        let ((one, woken), (other, other_woken)) = (relayed(), relayed());
        one.wake_by_ref();
        assert_eq!(woken(), 1);
        let hold = Hold::begin();
        one.wake_by_ref();
        one.wake_by_ref();
        assert_eq!(woken(), 1, "held back");
        other.wake_by_ref();
        assert_eq!(other_woken(), 1, "one is held back at a time");
        drop(hold);
        assert_eq!(woken(), 2, "it passed late");
        let hold = Hold::begin();
        one.wake_by_ref();
        hold.discard();
        assert_eq!(woken(), 2, "it had no use");
        one.wake_by_ref();
        assert_eq!(woken(), 3);
        drop(Hold::begin());
        assert_eq!((woken(), other_woken()), (3, 1));
    }

    #[test]
    fn what_another_thread_wakes_is_not_held_back() {
        let (one, woken) = relayed();
        let hold = Hold::begin();
        std::thread::scope(|scope| scope.spawn(|| one.wake_by_ref()).join().unwrap());
        assert_eq!(woken(), 1);
        hold.discard();
    }

    #[test]
    fn a_connection_that_moves_to_another_task_wakes_that_one() {
        let counts = [(); 2].map(|()| Arc::new(Count::default()));
        let mut last = None;
        let mut relayed = Relayed::new(std::future::poll_fn(|cx| {
            last = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        for count in &counts {
            let task: Waker = count.clone().into();
            assert!(Pin::new(&mut relayed).poll(&mut Context::from_waker(&task)).is_pending());
        }
        drop(relayed);
        last.unwrap().wake();
        assert_eq!(counts.map(|it| it.0.load(Ordering::Relaxed)), [0, 1]);
    }
}
