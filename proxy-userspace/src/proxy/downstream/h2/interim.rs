//! Interim answers (1xx, RFC 9110 §15.2), which a client of HTTP/2 gets as they come.

use std::sync::Arc;

use http::{Request, Response};
use parking_lot::Mutex;

use crate::proxy::clock::Clock;
use crate::proxy::upstream::InterimAnswers;

/// Interim answers that wait to be written; more are dropped, as they may be.
const MOST: usize = 16;

/// The interim answers to one request that were not written yet.
pub(super) struct Interim(Arc<Mutex<Vec<Response<()>>>>);

impl Interim {
    /// Those of the endpoint that gets `request`. The task that `clock` wakes is woken for each.
    pub(super) fn of<B>(request: &mut Request<B>, clock: &Clock) -> Self {
        let (queue, clock) = (Arc::new(Mutex::new(Vec::new())), clock.clone());
        let waiting = queue.clone();
        InterimAnswers::of(request, move |head| {
            let mut waiting = waiting.lock();
            if waiting.len() < MOST {
                waiting.push(head);
                clock.wake();
            }
        });
        Self(queue)
    }

    /// Takes what has come.
    pub(super) fn take(&self) -> Vec<Response<()>> {
        std::mem::take(&mut *self.0.lock())
    }
}
