//! How weir stops: it drains by itself, or after the next weir has taken over.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::bail;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::explicit::Explicit;
use super::signals::Signals;
use super::{handover, listeners, netns};
use crate::config;
use crate::control::{Stage, State};
use crate::drain::Drain;

/// The time between disarming the programs and refusing new connections: a connect() diverted just before disarming
/// sends its SYN only after the decision, and on a busy node its thread may be preempted in between.
const DISARMED: Duration = Duration::from_millis(20);

/// How long before the end of `drain.grace` the explicit proxy stops accepting, so that the last accepted clients have
/// time to be answered; a quarter of `drain.grace` if that is shorter.
const LAST_CALL: Duration = Duration::from_secs(1);

/// The time after which the ports of diverted connections are closed, if every accept queue is empty by then. Workers take half a
/// second, and longer only where the node leaves them without a turn.
const ACCEPTED: Duration = Duration::from_secs(1);

/// The longest time until then: another weir needs the ports.
pub(super) const ACCEPTED_AT_LAST: Duration = Duration::from_secs(10);

/// How often it is looked whether the weirs before this one have ended.
const LOOK: Duration = Duration::from_millis(200);

/// How often it is looked whether any weir serves, once the one that took over has ended, and how often none must be found: its
/// container is started again within some seconds.
const MISSED_EVERY: Duration = Duration::from_secs(3);
const MISSED: u32 = 6;

/// What is stopped. Each worker holds `alive`.
pub(super) struct Stopping<'a> {
    pub(super) control: &'a Arc<State>,
    pub(super) drain: &'a Drain,
    pub(super) listeners: &'a Mutex<listeners::BoundListeners>,
    pub(super) alive: &'a TaskTracker,
}

impl Stopping<'_> {
    /// Runs until weir is told to stop or the next one takes over, and stops. Returns the result of
    /// [`Explicit::close`].
    ///
    /// # Errors
    ///
    /// The weir before this one serves on, so this one must not.
    pub(super) async fn run(
        &self,
        signals: &mut Signals,
        pods: Option<&tokio::sync::Mutex<netns::Reconciler>>,
    ) -> anyhow::Result<Option<Explicit>> {
        let handover = &self.control.handover;
        tokio::select! {
            why = signals.stop(self.control) => {
                let told = Instant::now();
                if !self.is_followed(why).await {
                    return Ok(self.stop(why).await);
                }
                self.hand_over(pods, told).await;
            }
            stage = handover.until(|it| matches!(it, Stage::Given(_) | Stage::Dismissed(_))) => {
                if let Stage::Dismissed(why) = stage {
                    self.leave().await;
                    bail!("the weir before this one serves on: {why}");
                }
                self.drain_until_told(signals, pods).await?;
            }
        }
        Ok(None)
    }

    /// Drains after the next weir has taken over, until this one is told to stop and nothing is open.
    ///
    /// # Errors
    ///
    /// This one was never ready, and is to begin again: as the next one of the weir that serves now.
    async fn drain_until_told(
        &self,
        signals: &mut Signals,
        pods: Option<&tokio::sync::Mutex<netns::Reconciler>>,
    ) -> anyhow::Result<()> {
        let is_stopgap = self.control.handover.is_stopgap.load(Ordering::Relaxed);
        let mut draining = pin!(self.hand_over(pods, Instant::now()));
        let why = tokio::select! {
            why = signals.stop(self.control) => {
                draining.await;
                why
            }
            // Its pod may be the only one left on this node.
            () = self.nobody_serves(), if is_stopgap => {
                let open = self.control.open_connections();
                tracing::warn!(open, "no weir serves this node any more: what is still open is cut");
                self.drain.end();
                bail!("this weir was never ready, and no other one serves now");
            }
            () = &mut draining => {
                if is_stopgap {
                    bail!("this weir was never ready, and another one serves now");
                }
                tracing::info!("nothing is open any more: waiting for SIGTERM");
                // If this process ended by itself, kubelet would start its container again. That is wanted only when no weir
                // serves the node.
                tokio::select! {
                    why = signals.stop(self.control) => why,
                    () = self.nobody_serves() => "no weir serves this node any more",
                }
            }
        };
        tracing::info!(why, "weir ends");
        Ok(())
    }

    /// Returns once the next weir has ended, and for some time no other serves.
    async fn nobody_serves(&self) {
        let mut ended = self.control.handover.next_ended.subscribe();
        if ended.wait_for(|it| *it).await.is_err() {
            std::future::pending::<()>().await;
        }
        let mut missed = 0;
        while missed < MISSED {
            sleep(MISSED_EVERY).await;
            missed = if handover::somebody_serves(&self.control.settings()) { 0 } else { missed + 1 };
        }
    }

    /// Told to stop while the next weir is about to take over: goes on until it has. Returns whether it has.
    async fn is_followed(&self, why: &str) -> bool {
        let handover = &self.control.handover;
        match &*handover.stage.borrow() {
            Stage::Gives => {}
            // At the same moment.
            Stage::Given(_) => return true,
            Stage::Serves | Stage::Waits | Stage::Stops | Stage::Dismissed(_) => return false,
        }
        let grace = self.handover().grace;
        tracing::info!(
            why,
            grace_s = grace.as_secs_f64(),
            "serving until the next weir does, which is about to"
        );
        let stage = timeout(grace, handover.until(|it| *it != Stage::Gives)).await;
        matches!(stage, Ok(Stage::Given(_)))
    }

    fn handover(&self) -> config::Handover {
        self.control.settings().drain.handover.clone().unwrap_or_default()
    }

    /// Stops accepting and waits until open connections have ended, at most for `drain.grace`; then closes the rest.
    /// Returns the result of [`Explicit::close`].
    async fn stop(&self, why: &str) -> Option<Explicit> {
        let grace = self.control.settings().drain.grace;
        tracing::info!(why, grace_s = grace.as_secs_f64(), "draining");
        self.control.ready.set("drain", Err("weir is draining".to_owned()));
        let handover = &self.control.handover;
        let mut another_diverts = false;
        handover.stage.send_if_modified(|stage| {
            another_diverts = match stage {
                Stage::Waits | Stage::Dismissed(_) => true,
                Stage::Gives => handover.next_diverts.load(Ordering::Relaxed),
                _ => false,
            };
            // One that is dismissed may not let the next one serve either.
            let may_be_followed = !matches!(stage, Stage::Dismissed(_));
            if may_be_followed {
                *stage = Stage::Stops;
            }
            may_be_followed
        });
        // With `fail: closed` the programs of this one would refuse what the other one's divert.
        match another_diverts {
            true => self.control.programs.hand_over(),
            false => self.control.programs.disarm(),
        }
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
            // The next weir was not ready for all the time that it was given.
            _ = self.control.handover.until(|it| matches!(it, Stage::Given(_))) => {
                self.control.programs.hand_over();
                let end = self.leave_listeners(explicit, Instant::now());
                self.end(end).await;
                None
            }
        }
    }

    /// Leaves everything to the next weir, which serves already, and waits until open connections have ended, at most for
    /// `drain.handover.grace` after `since`; then closes the rest.
    async fn hand_over(&self, pods: Option<&tokio::sync::Mutex<netns::Reconciler>>, since: Instant) {
        // From now on whoever asks there is answered by the next one.
        self.listeners.lock().hand_over_control();
        let condition = "weir is draining: the next one of this node has its listeners";
        self.control.ready.set("drain", Err(condition.to_owned()));
        // The next one's programs are in effect. Those of this one must not refuse what it diverts (`fail: closed`).
        self.control.programs.hand_over();
        sleep(DISARMED).await;
        let explicit = self.listeners.lock().drain();
        self.drain.close();
        self.control.shared.sockets.let_go();
        let end = self.leave_listeners(explicit, since);
        sleep(ACCEPTED).await;
        // Who is in a queue that is closed is reset.
        if timeout(ACCEPTED_AT_LAST - ACCEPTED, self.drain.accepts().wait()).await.is_err() {
            tracing::warn!("diverted connections that no worker has accepted yet are reset");
        }
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
    }

    /// Leaves everything to the weir before this one, which serves on, and waits until what this one has accepted has ended,
    /// at most for `drain.grace`; then closes the rest.
    async fn leave(&self) {
        let end = Instant::now() + self.control.settings().drain.grace;
        self.listeners.lock().hand_over_control();
        self.control.ready.set("drain", Err("weir is draining: the one before it serves on".to_owned()));
        self.control.programs.hand_over();
        sleep(DISARMED).await;
        let explicit = self.listeners.lock().drain();
        self.drain.close();
        self.control.shared.sockets.let_go();
        explicit.hand_over();
        self.drain.call_last();
        self.end(end).await;
    }

    /// Closes the sockets that the next weir has. Returns when what is open must end.
    fn leave_listeners(&self, explicit: Explicit, since: Instant) -> Instant {
        match &*self.control.handover.stage.borrow() {
            Stage::Given(unused) => explicit.hand_over_but(unused),
            _ => explicit.hand_over(),
        }
        self.listeners.lock().hand_over_control();
        self.drain.call_last();
        let (grace, open) = (self.handover().grace, self.control.open_connections());
        tracing::info!(open, grace_s = grace.as_secs_f64(), "draining: the next weir serves");
        since + grace
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
