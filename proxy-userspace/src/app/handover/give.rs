//! The old weir's side: it offers its listeners, and accepts on them until the next weir says that it serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{interval, sleep, timeout};

use super::message::{self, Message, VERSION};
use super::{Handover, meeting};
use crate::admin::Server;
use crate::app::intercept;
use crate::app::listeners::BoundListeners;
use crate::control::{HandoverResult, Stage, State};
use crate::transport::{Channel, ChannelListener, MOST_DESCRIPTORS};

/// Connections that are spoken with at the same time.
const MOST: usize = 16;

/// Time for the next weir's first message.
const FIRST: Duration = Duration::from_secs(5);

/// The next weir has to attach its programs before it says that it is alive.
const ATTACHED: Duration = Duration::from_mins(2);

/// From then on it says so each second until it serves. One that is silent for longer is given up.
const SILENT: Duration = Duration::from_secs(10);

/// How often the next weir is told what is still open.
const REPORT: Duration = Duration::from_secs(1);

/// The pause before the socket for the next weir is made again, or a connection accepted, after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// How often it is looked whether the socket is at its path.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// How often it is looked whether a weir that serves in place of a dead one is ready.
const READY: Duration = Duration::from_millis(250);

/// A note of `/ready`: why the next weir cannot take over.
const NOTE: &str = "upgrade";

/// What is offered.
pub(super) struct Giver {
    pub(super) handover: Arc<Handover>,
    pub(super) control: Arc<State>,
    pub(super) listeners: Arc<Mutex<BoundListeners>>,
    pub(super) server: Arc<Server>,
    /// The pod of the weir before this one. It must not take over again, should kubelet start its container anew, unless this
    /// one serves only because that one has ended.
    pub(super) from: Option<String>,
    /// The next weir was given up, and may have put its own socket at the path already.
    pub(super) displaced: Notify,
}

impl Giver {
    /// Listens for the next weir. `None` if that is not possible now: `/ready`, the log and a metric say so.
    pub(super) fn open(&self) -> Option<ChannelListener> {
        let opened = meeting::offer(&self.handover.settings.socket);
        self.control.handover.is_offered.store(opened.is_ok(), Ordering::Relaxed);
        let why = opened.as_ref().err().map(|why| format!("the next weir cannot take over: {why:#}"));
        let is_new = self.control.ready.note(NOTE, why.clone());
        if let Some(why) = why.filter(|_| is_new) {
            tracing::error!("{why}");
        }
        opened.ok()
    }

    /// Offers the listeners at `offered`, or at a new socket, until they are handed over.
    pub(super) async fn offer(self: Arc<Self>, offered: Option<ChannelListener>) {
        let given = |stage: &Stage| matches!(stage, Stage::Given(_));
        tokio::select! {
            () = self.accept(offered) => {}
            _ = self.control.handover.until(given) => {
                self.control.handover.is_offered.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Accepts without end.
    async fn accept(self: &Arc<Self>, mut offered: Option<ChannelListener>) {
        let room = Arc::new(Semaphore::new(MOST));
        let (mut is_due, mut looks) = (offered.is_none(), interval(LOOK));
        loop {
            if is_due && self.may_open() {
                offered = self.open();
                is_due = offered.is_none();
            }
            let Some(socket) = &offered else {
                sleep(AGAIN).await;
                continue;
            };
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = self.displaced.notified() => {
                    is_due = true;
                    continue;
                }
                _ = looks.tick() => {
                    // Somebody has removed it, say.
                    if self.may_open() && !socket.is_at_its_path() {
                        tracing::warn!("the socket for the next weir is gone: it is made again");
                        is_due = true;
                    }
                    continue;
                }
            };
            let channel = match accepted {
                Ok(channel) => channel,
                // The socket stays: at the path may be the next weir's by now.
                Err(cause) => {
                    tracing::error!("no connection of the next weir can be accepted: {cause}");
                    sleep(AGAIN).await;
                    continue;
                }
            };
            let Ok(place) = room.clone().try_acquire_owned() else { continue };
            let giver = self.clone();
            tokio::spawn(async move {
                if let Err(error) = giver.give(&channel).await {
                    giver.control.handover.count(HandoverResult::Lost);
                    tracing::warn!("the listeners stay here: {error:#}");
                }
                drop(place);
            });
        }
    }

    /// Whether the path is this weir's. While the next one takes over, it may be that one's already.
    fn may_open(&self) -> bool {
        matches!(*self.control.handover.stage.borrow(), Stage::Serves | Stage::Stops)
    }

    /// Speaks with whoever asks.
    async fn give(&self, channel: &Channel) -> anyhow::Result<()> {
        // A stranger gets neither a word nor a descriptor.
        if let Some(user) = meeting::stranger(channel)? {
            self.control.handover.count(HandoverResult::Stranger);
            tracing::warn!(user, "a process of another user asks for the listeners");
            return Ok(());
        }
        let first =
            timeout(FIRST, message::receive(channel)).await.context("the next weir asks for nothing")?;
        let pod = match first? {
            Some((Message::Next { version: VERSION, pod }, _)) => pod,
            Some((Message::Next { version, .. }, _)) => {
                return self.refuse(channel, &format!("the next weir speaks version {version}"), false).await;
            }
            Some((other, _)) => bail!("the next weir begins with {other:?}"),
            // It only looked whether anybody is here.
            None => return Ok(()),
        };
        let is_stopgap = self.is_stopgap();
        if pod.is_some() && pod == self.from && !is_stopgap {
            return self.refuse(channel, "this weir has taken over from that pod", false).await;
        }
        let stage = &self.control.handover.stage;
        let gives = stage.send_if_modified(|stage| {
            let serves = *stage == Stage::Serves;
            if serves {
                *stage = Stage::Gives;
            }
            serves
        });
        if !gives {
            let why = match *stage.borrow() {
                Stage::Stops => "this weir has been told to stop",
                _ => "another weir is taking over",
            };
            return self.refuse(channel, why, true).await;
        }
        // From now on both connect to endpoints.
        intercept::own(&self.control, pod.as_deref());
        self.hand_over(channel).await;
        Ok(())
    }

    /// Whether this weir serves only because the one before it has ended. Ready once, it is the one that serves. What the next
    /// one was told holds, though, when that one takes over.
    fn is_stopgap(&self) -> bool {
        let handover = &self.control.handover;
        let is_stopgap = &handover.is_stopgap;
        let serves = *handover.stage.borrow() == Stage::Serves;
        if serves && is_stopgap.load(Ordering::Relaxed) && self.control.ready.is_ready() {
            is_stopgap.store(false, Ordering::Relaxed);
        }
        is_stopgap.load(Ordering::Relaxed)
    }

    /// Waits until this weir is no stopgap any more: it may not be ready for long.
    pub(super) async fn until_it_stays(&self) {
        while self.is_stopgap() {
            sleep(READY).await;
        }
    }

    /// Hands over, or takes everything back.
    async fn hand_over(&self, channel: &Channel) {
        let stage = &self.control.handover.stage;
        let dismissed = self.control.handover.until(|it| matches!(it, Stage::Dismissed(_)));
        let served = tokio::select! {
            biased;
            // The weir before this one has the same sockets, and knows nothing of the next one.
            _ = dismissed => Err(anyhow!("the weir before it serves on, and it ends")),
            served = self.until_it_serves(channel) => served,
        };
        match served {
            Ok(unused) => {
                tracing::info!("the next weir serves");
                if let Err(error) = self.give_pods(channel).await {
                    tracing::warn!("the explicit proxy's sockets in pods are not handed over: {error:#}");
                }
                self.control.handover.count(HandoverResult::Given);
                self.control.handover.hand_over();
                stage.send_replace(Stage::Given(unused.into()));
                self.report(channel).await;
                self.control.handover.next_ended.send_replace(true);
            }
            Err(error) => {
                stage.send_if_modified(|stage| {
                    let gives = *stage == Stage::Gives;
                    if gives {
                        *stage = Stage::Serves;
                    }
                    gives
                });
                self.control.handover.count(HandoverResult::Lost);
                tracing::warn!("the listeners stay here: {error:#}");
                // It has the sockets, and must not accept on them.
                let _ = message::send(channel, &Message::Enough { why: format!("{error:#}") }).await;
                self.until_it_ends(channel).await;
            }
        }
    }

    /// Waits for the end of a weir that was given up.
    async fn until_it_ends(&self, channel: &Channel) {
        loop {
            match message::receive(channel).await {
                Ok(None) => break,
                // It serves, until it reads that it must not.
                Ok(Some((Message::Serves { .. }, _))) => self.displaced.notify_one(),
                Ok(Some(_)) => {}
                // Nobody knows when it ends: the sockets count as its own, too.
                Err(error) => {
                    tracing::warn!("a weir that was given up is not understood: {error:#}");
                    self.displaced.notify_one();
                    return;
                }
            }
        }
        self.listeners.lock().take_back();
        self.displaced.notify_one();
    }

    async fn refuse(&self, channel: &Channel, why: &str, later: bool) -> anyhow::Result<()> {
        tracing::info!("a weir asks for the listeners and does not get them: {why}");
        message::send(channel, &Message::No { version: VERSION, why: why.to_owned(), later }).await
    }

    /// Gives the listeners and goes on with everything until the next weir serves. Returns the addresses that it has no use
    /// for.
    async fn until_it_serves(&self, channel: &Channel) -> anyhow::Result<Vec<SocketAddr>> {
        let duplicates = self.listeners.lock().duplicates()?;
        let number = duplicates.len();
        if number > MOST_DESCRIPTORS {
            bail!("there are {number} listeners, and at most {MOST_DESCRIPTORS} can be handed over");
        }
        tracing::info!(listeners = number, "the next weir takes the listeners over");
        let (pod, waits) = (self.handover.pod.clone(), self.is_stopgap());
        let given = Message::Listeners { version: VERSION, pod, waits };
        message::send_with(channel, &given, &duplicates).await?;
        drop(duplicates);
        self.control.handover.next_diverts.store(false, Ordering::Relaxed);
        let (begun, mut patience) = (Instant::now(), ATTACHED);
        loop {
            let handover = self.control.settings().drain.handover.clone();
            let ready = handover.map_or(self.handover.settings.ready, |it| it.ready);
            let left = ready.saturating_sub(begun.elapsed());
            match timeout(patience.min(left), message::receive(channel)).await {
                Err(_) if begun.elapsed() >= ready => {
                    bail!("the next weir is not ready after {} s", ready.as_secs())
                }
                Err(_) => bail!("the next weir hangs"),
                Ok(Ok(Some((Message::Alive { diverts }, _)))) => {
                    self.control.handover.next_diverts.store(diverts, Ordering::Relaxed);
                    patience = SILENT;
                }
                Ok(Ok(Some((Message::Serves { unused }, _)))) => return Ok(unused),
                Ok(Ok(Some((other, _)))) => bail!("the next weir says {other:?}"),
                Ok(Ok(None)) => bail!("the next weir ended before it served"),
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    /// Gives the explicit proxy's sockets in pods. Accepts on them until it stops accepting.
    async fn give_pods(&self, channel: &Channel) -> anyhow::Result<()> {
        for sockets in self.control.shared.sockets.explicit_in_pods().chunks(MOST_DESCRIPTORS) {
            let duplicates = sockets.iter().map(|it| it.tcp.try_clone()).collect::<Result<Vec<_>, _>>()?;
            message::send_with(channel, &Message::Pods, &duplicates).await?;
            sockets.iter().for_each(|it| it.hand_over());
        }
        Ok(())
    }

    /// Tells the next weir what is still open here, until it ends.
    async fn report(&self, channel: &Channel) {
        let (mut ticks, handed) = (interval(REPORT), Instant::now());
        loop {
            ticks.tick().await;
            let before = self.control.handover.draining();
            let since = before.as_ref().map_or(handed, |it| it.since.min(handed));
            let (open, weirs) = before.map_or((0, 0), |it| (it.open, it.weirs));
            let report = Message::Drains {
                open: self.control.open_connections() + open,
                seconds: since.elapsed().as_secs(),
                weirs: 1 + weirs,
            };
            if message::send(channel, &report).await.is_err() {
                return;
            }
        }
    }
}
