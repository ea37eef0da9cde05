//! The old weir's side: it offers its listeners, and accepts on them until the next weir says that it serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::{interval, sleep, timeout};

use super::Handover;
use super::kin::Doubt;
use super::message::{self, Message, VERSION};
use super::names;
use crate::admin::Server;
use crate::app::listeners::BoundListeners;
use crate::control::{HandoverResult, State};
use crate::transport::{Channel, MOST_DESCRIPTORS};

/// Connections that are looked at and spoken with at the same time.
const MOST: usize = 16;

/// Time for the next weir's first message.
const FIRST: Duration = Duration::from_secs(5);

/// The next weir has to attach its programs before it answers the probes.
const ATTACHED: Duration = Duration::from_mins(2);

/// From then on it says something each second until it serves. One that is silent for longer is given up.
const SILENT: Duration = Duration::from_secs(6);

/// The pause after a stranger, whose check costs some work.
const STRANGER: Duration = Duration::from_millis(20);

/// How often the next weir is told what is still open.
const REPORT: Duration = Duration::from_secs(1);

/// What is offered.
pub(super) struct Giver {
    pub(super) handover: Arc<Handover>,
    pub(super) control: Arc<State>,
    pub(super) listeners: Arc<Mutex<BoundListeners>>,
    pub(super) server: Arc<Server>,
    /// Set once the next weir serves.
    pub(super) handed: watch::Sender<bool>,
    /// The pod of the weir before this one. It must not take over again, should kubelet start its container anew.
    pub(super) from: Option<Box<str>>,
    /// One hand-over at a time.
    pub(super) one: tokio::sync::Mutex<()>,
}

impl Giver {
    /// Offers the listeners until they are handed over.
    pub(super) async fn offer(self: Arc<Self>) -> anyhow::Result<()> {
        let offered = names::offer().context("no socket for the next weir")?;
        let room = Arc::new(Semaphore::new(MOST));
        let mut handed = self.handed.subscribe();
        loop {
            let channel = tokio::select! {
                accepted = offered.socket.accept() => accepted?,
                _ = handed.wait_for(|it| *it) => return Ok(()),
            };
            // A stranger gets nothing: neither a word nor a descriptor.
            let number = channel.peer_name().and_then(|name| names::asks(&name));
            let checked = match number {
                Some(number) => self.handover.kin.check(number),
                None => Err(Doubt::Stranger("its name is no weir's".to_owned())),
            };
            let pod = match checked {
                Ok(pod) => pod,
                Err(Doubt::Stranger(why) | Doubt::Untold(why)) => {
                    self.control.handover.count(HandoverResult::Stranger);
                    tracing::warn!(
                        "somebody who is not known as a weir of this node asks for the listeners: {why}"
                    );
                    sleep(STRANGER).await;
                    continue;
                }
            };
            let Ok(place) = room.clone().try_acquire_owned() else { continue };
            let giver = self.clone();
            tokio::spawn(async move {
                if let Err(error) = giver.give(&channel, pod).await {
                    giver.control.handover.count(HandoverResult::Lost);
                    tracing::warn!("the listeners stay here: {error:#}");
                }
                drop(place);
            });
        }
    }

    /// Speaks with a weir of this node that asks.
    async fn give(&self, channel: &Channel, pod: Option<Box<str>>) -> anyhow::Result<()> {
        let first =
            timeout(FIRST, message::receive(channel)).await.context("the next weir asks for nothing")?;
        let no = |why: &str, later| Message::No { version: VERSION, why: why.to_owned(), later };
        let answer = match first? {
            Some((Message::Next { version: VERSION, name }, _)) if name == self.handover.settings.name => {
                None
            }
            Some((Message::Next { version: VERSION, name }, _)) => {
                Some(no(&format!("it is not the weir {name}"), false))
            }
            Some((Message::Next { version, .. }, _)) => {
                Some(no(&format!("the next weir speaks version {version}"), false))
            }
            Some((other, _)) => bail!("the next weir begins with {other:?}"),
            None => bail!("the next weir leaves without a word"),
        };
        if let Some(answer) = answer {
            tracing::warn!("a weir asks for the listeners and does not get them: {answer:?}");
            return message::send(channel, &answer).await;
        }
        if pod.is_some() && pod == self.from {
            tracing::warn!("the weir before this one asks for the listeners: it does not get them back");
            return message::send(channel, &no("this weir has taken over from that pod", false)).await;
        }
        let Ok(_one) = self.one.try_lock() else {
            return message::send(channel, &no("another weir is taking over", true)).await;
        };
        if *self.handed.borrow() {
            return message::send(channel, &no("another weir has taken over", true)).await;
        }
        let duplicates = self.listeners.lock().duplicates()?;
        if duplicates.len() > MOST_DESCRIPTORS {
            bail!(
                "there are {} listeners, and at most {MOST_DESCRIPTORS} can be handed over",
                duplicates.len()
            );
        }
        tracing::info!(listeners = duplicates.len(), "the next weir takes the listeners over");
        message::send_with(channel, &Message::Listeners { version: VERSION }, &duplicates).await?;
        drop(duplicates);
        let served = self.until_it_serves(channel).await;
        if let Err(error) = served {
            // It may have answered the probes.
            self.listeners.lock().serve(&self.server)?;
            return Err(error);
        }
        tracing::info!("the next weir serves");
        self.control.handover.count(HandoverResult::Given);
        self.control.handover.hand_over();
        self.handed.send_replace(true);
        self.report(channel).await
    }

    async fn until_it_serves(&self, channel: &Channel) -> anyhow::Result<()> {
        let mut patience = ATTACHED;
        loop {
            match timeout(patience, message::receive(channel)).await.context("the next weir hangs")?? {
                Some((Message::Probes, _)) => {
                    self.listeners.lock().pause_control();
                    patience = SILENT;
                }
                Some((Message::Alive, _)) => {}
                Some((Message::Serves, _)) => return Ok(()),
                Some((other, _)) => bail!("the next weir says {other:?}"),
                None => bail!("the next weir ended before it served"),
            }
        }
    }

    /// Tells the next weir what is still open here, until it ends.
    async fn report(&self, channel: &Channel) -> anyhow::Result<()> {
        let (mut ticks, handed) = (interval(REPORT), Instant::now());
        loop {
            ticks.tick().await;
            let before = self.control.handover.before.load_full();
            let since = before.as_ref().map_or(handed, |it| it.since.min(handed));
            let open = self.control.open_connections() + before.map_or(0, |it| it.open);
            let report = Message::Drains { open, seconds: since.elapsed().as_secs() };
            if message::send(channel, &report).await.is_err() {
                return Ok(()); // The next weir has ended.
            }
        }
    }
}
