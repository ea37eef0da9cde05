//! Interim answers (1xx, RFC 9110 §15.2), which a client of HTTP/2 gets as they come.

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use parking_lot::Mutex;

use crate::proxy::clock::Clock;
use crate::proxy::exchange::interim;
use crate::proxy::exchange::session::Session;
use crate::proxy::upstream::InterimAnswers;
use crate::proxy::worker::Worker;
use crate::transport::remove_specific;

/// Interim answers that wait to be written; more are dropped, as they may be.
const MOST: usize = 16;

/// The interim answers to one request that were not written yet.
pub(super) struct Interim {
    queue: Arc<Mutex<Vec<Response<()>>>>,
    worker: Rc<Worker>,
    session: Rc<Session>,
}

impl Interim {
    /// Those of the endpoint that gets `request`. The task that `clock` wakes is woken for each.
    pub(super) fn of<B>(
        request: &mut Request<B>,
        clock: &Clock,
        worker: Rc<Worker>,
        session: Rc<Session>,
    ) -> Self {
        let (queue, clock) = (Arc::new(Mutex::new(Vec::new())), clock.clone());
        let waiting = queue.clone();
        InterimAnswers::of(request, move |head| {
            let mut waiting = waiting.lock();
            if waiting.len() < MOST {
                waiting.push(head);
                clock.wake();
            }
        });
        Self { queue, worker, session }
    }

    /// Takes what has come, as the client may see it.
    pub(super) fn take(&self) -> Vec<Response<()>> {
        let mut heads = std::mem::take(&mut *self.queue.lock());
        for head in &mut heads {
            interim::prepare(&self.worker, &self.session, head.headers_mut());
            remove_specific(head.headers_mut());
        }
        heads
    }
}
