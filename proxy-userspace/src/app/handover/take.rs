//! The next weir's side: it takes the listeners of the weir before it, and serves once it is ready.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::message::{self, Message, VERSION};
use super::{Handover, meeting};
use crate::app::listeners::BoundListeners;
use crate::control::{Before, HandoverResult, Stage, State};
use crate::intercept;
use crate::transport::Channel;

/// How long a weir that offers its listeners may take to give them: it may be in the middle of another hand-over, or be
/// stopping.
const WITHIN: Duration = Duration::from_secs(15);

/// Interval between attempts.
const AGAIN: Duration = Duration::from_millis(250);

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How often the weir before this one is told that this one is alive, and readiness is looked at.
const ALIVE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// A process that dies closes its sockets one after the other, within this time. It needs some milliseconds of a core, which a
/// busy node, or a limit of its container's, may not give it at once. Nobody is served worse meanwhile if it has not died.
const DYING: Duration = Duration::from_secs(5);

/// The time after which a pod's socket that was handed over is not used any more: its pod has ended.
const USED: Duration = Duration::from_secs(10);

/// The weir before this one.
pub(in crate::app) struct Predecessor {
    channel: Channel,
    /// Its pod, if it is in one.
    pub(super) pod: Option<String>,
    /// Whether it has never been ready, and may take over again.
    pub(super) waits: bool,
}

/// What a weir that starts finds.
pub(super) enum Found {
    /// Nobody offers listeners.
    Nobody,
    /// There is a weir, and it cannot be taken over from, or somebody else.
    Unfit,
    /// The weir before it, and its listeners.
    Weir(Predecessor, Vec<TcpListener>),
}

/// What came of one attempt.
enum Attempt {
    /// Nobody offers.
    Nobody,
    /// It has to be tried again.
    Later(String),
    /// There is a weir, and it cannot be taken over from.
    Never(String),
    Taken(Predecessor, Vec<TcpListener>),
}

/// What ends the wait for readiness.
pub(super) enum Turn {
    /// This weir is ready.
    Ready,
    /// The weir before it has ended.
    Alone,
    /// The weir before it goes on, and this one must not serve.
    Dismissed(String),
}

impl Handover {
    /// Takes the listeners of the weir before this one.
    pub(super) async fn take(&self) -> Found {
        if let Err(why) = meeting::check(&self.settings.socket) {
            tracing::warn!("the weir before this one, if there is one, cannot be taken over from: {why:#}");
            return Found::Unfit;
        }
        let begun = Instant::now();
        let mut said = String::new();
        loop {
            let why = match self.attempt().await {
                Attempt::Nobody => return Found::Nobody,
                Attempt::Taken(before, listeners) => {
                    tracing::info!(listeners = listeners.len(), "taking over from the weir before this one");
                    return Found::Weir(before, listeners);
                }
                Attempt::Never(why) => {
                    tracing::warn!("the weir before this one cannot be taken over from: {why}");
                    return Found::Unfit;
                }
                Attempt::Later(why) => why,
            };
            if begun.elapsed() >= WITHIN {
                tracing::warn!("the weir before this one does not hand over: {why}");
                return Found::Unfit;
            }
            if why != said {
                tracing::info!("waiting for the weir before this one: {why}");
                said = why;
            }
            sleep(AGAIN).await;
        }
    }

    async fn attempt(&self) -> Attempt {
        let channel = match meeting::ask(&self.settings.socket) {
            Ok(Some(channel)) => channel,
            Ok(None) => return Attempt::Nobody,
            Err(cause) => return Attempt::Later(cause.to_string()),
        };
        match meeting::stranger(&channel) {
            Ok(None) => self.ask(channel).await.unwrap_or_else(|error| Attempt::Later(format!("{error:#}"))),
            Ok(Some(user)) => Attempt::Never(format!("it is of user {user}")),
            Err(cause) => Attempt::Later(cause.to_string()),
        }
    }

    /// Asks for the listeners.
    async fn ask(&self, channel: Channel) -> anyhow::Result<Attempt> {
        message::send(&channel, &Message::Next { version: VERSION, pod: self.pod.clone() }).await?;
        match timeout(ANSWER, message::receive(&channel)).await {
            Err(_) => bail!("it does not answer"),
            Ok(Err(error)) => Ok(Attempt::Never(format!("{error:#}"))),
            Ok(Ok(None)) => bail!("it closes without an answer"),
            Ok(Ok(Some((Message::Listeners { version: VERSION, pod, waits }, listeners)))) => {
                Ok(Attempt::Taken(Predecessor { channel, pod, waits }, listeners))
            }
            Ok(Ok(Some((Message::No { why, later: true, .. }, _)))) => Ok(Attempt::Later(why)),
            Ok(Ok(Some((Message::No { version: VERSION, why, .. }, _)))) => Ok(Attempt::Never(why)),
            Ok(Ok(Some((Message::No { version, why, .. }, _)))) => Ok(Attempt::Never(format!(
                "it speaks version {version} of the hand-over, not {VERSION}: {why}"
            ))),
            Ok(Ok(Some((other, _)))) => Ok(Attempt::Never(format!("it answers {other:?}"))),
        }
    }
}

impl Predecessor {
    /// Waits until this weir is ready, or may not wait any longer.
    pub(super) async fn until_ready(&self, control: &State, socket: &Path) -> Turn {
        let mut told: Option<Instant> = None;
        loop {
            if told.is_none_or(|it| it.elapsed() >= ALIVE) {
                told = Some(Instant::now());
                let diverts = control.programs.read().is_ok_and(|it| it.status.is_armed());
                // If it cannot be told, there is an end to be received.
                let _ = message::send(&self.channel, &Message::Alive { diverts }).await;
            }
            match timeout(LOOK, message::receive(&self.channel)).await {
                Ok(Ok(Some((Message::Enough { why }, _)))) => return Turn::Dismissed(why),
                Ok(_) => return left(socket).await,
                Err(_) if is_ready(control) => return Turn::Ready,
                Err(_) => {}
            }
        }
    }

    /// Tells the weir before this one that this one serves, and follows its drain to its end. Returns why this one must not
    /// serve, if that one had given it up before.
    pub(super) async fn follow(
        &self,
        unused: Vec<SocketAddr>,
        control: &Arc<State>,
        listeners: &Mutex<BoundListeners>,
    ) -> anyhow::Result<Option<String>> {
        match message::send(&self.channel, &Message::Serves { unused }).await {
            Ok(()) => control.handover.count(HandoverResult::Taken),
            // That it has ended or has given up is received below.
            Err(error) => {
                tracing::warn!("the weir before this one is not told that this one serves: {error:#}")
            }
        }
        let ended = loop {
            match message::receive(&self.channel).await {
                Ok(Some((Message::Drains { open, seconds, weirs }, _))) => {
                    let now = Instant::now();
                    let since = now.checked_sub(Duration::from_secs(seconds)).unwrap_or(now);
                    let weirs = weirs.max(1);
                    control.handover.before.store(Some(Arc::new(Before { since, open, weirs })));
                    // It says so only once it accepts no more.
                    listeners.lock().disown();
                }
                Ok(Some((Message::Pods, sockets))) => inherit(control, sockets),
                Ok(Some((Message::Enough { why }, _))) => break Ok(Some(why)),
                Ok(Some((other, _))) => break Err(anyhow!("the weir before this one says {other:?}")),
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        control.handover.before.store(None);
        // Its ports in pods are free, where it has not handed them over.
        control.netns.due.notify_one();
        ended
    }

    /// Keeps the connection, by whose end the weir before this one learns that this one has ended.
    pub(super) async fn until_it_ends(&self) {
        while let Ok(Some(_)) = message::receive(&self.channel).await {}
    }
}

/// Uses the explicit proxy's sockets in pods from now on.
fn inherit(control: &Arc<State>, sockets: Vec<TcpListener>) {
    if !control.netns.is_in_pods() {
        // This weir's sockets are on the node: kept open, these would be served by nobody.
        return;
    }
    for socket in sockets {
        match intercept::netns_cookie_of(socket.as_fd()) {
            Ok(cookie) => control.netns.inherit(cookie, socket),
            Err(cause) => tracing::warn!("a pod's socket of the weir before this one is of no use: {cause}"),
        }
    }
    control.netns.due.notify_one();
    let control = control.clone();
    tokio::spawn(async move {
        sleep(USED).await;
        control.netns.forget_inherited();
    });
}

/// The connection to the weir before this one has ended without a word: has that one, too?
async fn left(socket: &Path) -> Turn {
    let end = Instant::now() + DYING;
    // It listens for the next weir for as long as it serves.
    while !matches!(meeting::ask(socket), Ok(None)) {
        if Instant::now() >= end {
            return Turn::Dismissed("it serves on, and has closed the connection".to_owned());
        }
        sleep(LOOK).await;
    }
    Turn::Alone
}

/// Whether this weir can serve as the one before it did.
pub(super) fn is_ready(control: &State) -> bool {
    let in_pods = control.shared.pods.is_some();
    *control.handover.stage.borrow() == Stage::Waits
        && control.ready.is_ready_but_for(super::CONDITION)
        && control.catalogs.is_complete()
        && (!in_pods || control.netns.has_looked.load(std::sync::atomic::Ordering::SeqCst))
}
