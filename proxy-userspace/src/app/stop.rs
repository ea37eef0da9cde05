//! How weir stops: it drains by itself, or after the next weir has taken over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::{sleep, timeout_at};
use tokio_util::task::TaskTracker;

use super::handover::{Handed, handed_over};
use super::signals::Signals;
use super::{listeners, netns};
use crate::config;
use crate::control::State;
use crate::drain::Drain;

/// The time between disarming the programs and refusing new connections: a connect() diverted just before disarming
/// sends its SYN only after the decision, and on a busy node its thread may be preempted in between.
const DISARMED: Duration = Duration::from_millis(20);

/// How long before the end of `drain.grace` the explicit proxy stops accepting, so that the last accepted clients have
/// time to be answered; a quarter of `drain.grace` if that is shorter.
const LAST_CALL: Duration = Duration::from_secs(1);

/// The time after which every accept queue of diverted connections is empty and closed: workers take half a second at most.
const ACCEPTED: Duration = Duration::from_secs(1);

/// How often it is looked whether the weirs before this one have ended.
const LOOK: Duration = Duration::from_millis(200);

/// What is stopped. Each worker holds `alive`.
pub(super) struct Stopping<'a> {
    pub(super) control: &'a Arc<State>,
    pub(super) drain: &'a Drain,
    pub(super) listeners: &'a Mutex<listeners::BoundListeners>,
    pub(super) alive: &'a TaskTracker,
}

impl Stopping<'_> {
    /// Runs until weir is told to stop or the next one takes over, and stops. Returns the result of
    /// [`listeners::Explicit::close`].
    pub(super) async fn run(
        &self,
        signals: &mut Signals,
        handed: &mut Handed,
        pods: Option<&tokio::sync::Mutex<netns::Reconciler>>,
    ) -> Option<listeners::Explicit> {
        tokio::select! {
            why = signals.stop(self.control) => return self.stop(why, handed).await,
            () = handed_over(handed) => {}
        }
        // Whoever started it ends it, too, and might start it again otherwise.
        let ((), why) = tokio::join!(self.hand_over(pods), signals.stop(self.control));
        tracing::info!(why, "the end");
        None
    }

    /// Stops accepting and waits until open connections have ended, at most for `drain.grace`; then closes the rest.
    /// Returns the result of [`listeners::Explicit::close`].
    async fn stop(&self, why: &str, handed: &mut Handed) -> Option<listeners::Explicit> {
        let grace = self.control.settings().drain.grace;
        tracing::info!(why, grace_s = grace.as_secs_f64(), "draining");
        self.control.ready.set("drain", Err("weir is draining".to_owned()));
        self.control.programs.disarm();
        sleep(DISARMED).await;
        let end = Instant::now() + grace;
        let explicit = self.listeners.lock().drain();
        self.drain.close();
        self.control.shared.sockets.let_go();
        // Clients that use weir as their explicit proxy have no alternative: they are served as long as weir runs anyway.
        let last = (end - LAST_CALL.min(grace / 4)).into();
        tokio::select! {
            last = timeout_at(last, self.drain.tasks().wait()) => {
                tracing::debug!(nothing_open = last.is_ok(), "no more explicit clients are taken");
                let explicit = explicit.close();
                self.drain.call_last();
                self.end(end).await;
                explicit
            }
            // The next weir was not ready yet when this one was told to stop.
            () = handed_over(handed) => {
                let end = self.leave_listeners(explicit);
                self.end(end).await;
                None
            }
        }
    }

    /// Leaves everything to the next weir, which serves already, and waits until open connections have ended, at most for
    /// `drain.handover.grace`; then closes the rest.
    async fn hand_over(&self, pods: Option<&tokio::sync::Mutex<netns::Reconciler>>) {
        let condition = "weir is draining: the next one of this node has its listeners";
        self.control.ready.set("drain", Err(condition.to_owned()));
        self.control.programs.disarm();
        sleep(DISARMED).await;
        let explicit = self.listeners.lock().drain();
        self.drain.close();
        self.control.shared.sockets.let_go();
        let end = self.leave_listeners(explicit);
        sleep(ACCEPTED).await;
        if let Ok(interception) = &mut *self.control.programs.lock() {
            interception.release_ports();
        }
        if let Some(pods) = pods {
            pods.lock().await.release_port();
        }
        self.end(end).await;
        // The next weir knows only by this one what is open in those before it.
        let before_ends = async {
            while self.control.handover.draining().is_some() {
                sleep(LOOK).await;
            }
        };
        let _ = timeout_at(end.into(), before_ends).await;
        tracing::info!("nothing is open any more: waiting for SIGTERM");
    }

    /// Closes the sockets that the next weir has. Returns when what is open must end.
    fn leave_listeners(&self, explicit: listeners::Explicit) -> Instant {
        explicit.hand_over();
        self.listeners.lock().hand_over_control();
        self.drain.call_last();
        let handover: config::Handover = self.control.settings().drain.handover.clone().unwrap_or_default();
        let open = self.control.open_connections();
        tracing::info!(open, grace_s = handover.grace.as_secs_f64(), "draining: the next weir serves");
        Instant::now() + handover.grace
    }

    /// Waits until the workers have ended, at most until `end`, and then closes what is open.
    async fn end(&self, end: Instant) {
        // The workers signal their end themselves. A thread that joins them might not start on a full node.
        self.alive.close();
        if timeout_at(end.into(), self.alive.wait()).await.is_err() {
            tracing::warn!(
                open = self.control.open_connections(),
                "the grace period is over: what is still open is cut"
            );
            self.drain.end();
            self.alive.wait().await;
        }
    }
}
