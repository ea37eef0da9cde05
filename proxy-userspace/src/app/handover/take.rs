//! The next weir's side: it takes the listeners of the weir before it, answers the probes, and serves once it is ready.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use tokio::time::{sleep, timeout};

use super::Handover;
use super::kin::Doubt;
use super::message::{self, Message, VERSION};
use super::names::{self, Attested};
use crate::control::{Before, HandoverResult, State};
use crate::transport::Channel;

/// How long a weir that offers its listeners may take to give them: it may be in the middle of another hand-over, or not
/// know yet whose pod asks.
const WITHIN: Duration = Duration::from_secs(15);

/// Interval between attempts.
const AGAIN: Duration = Duration::from_millis(250);

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A name is attested just after it was made.
const ATTESTED: Duration = Duration::from_millis(500);

/// How often the weir before this one is told that this one is alive, and readiness is looked at.
const ALIVE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// The weir before this one.
pub(in crate::app) struct Predecessor {
    channel: Attested<Channel>,
    /// Its pod, if that is another one.
    pub(super) pod: Option<Box<str>>,
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

impl Handover {
    /// Takes the listeners of the weir before this one; `None` if there is none, or none that gives them.
    pub(in crate::app) async fn take(&self) -> Option<(Predecessor, Vec<TcpListener>)> {
        let begun = Instant::now();
        let mut said = String::new();
        loop {
            let why = match self.attempt(begun).await {
                Attempt::Nobody => return None,
                Attempt::Taken(before, listeners) => {
                    tracing::info!(listeners = listeners.len(), "taking over from the weir before this one");
                    return Some((before, listeners));
                }
                Attempt::Never(why) => {
                    tracing::warn!("the weir before this one cannot be taken over from: {why}");
                    return None;
                }
                Attempt::Later(why) => why,
            };
            if begun.elapsed() >= WITHIN {
                tracing::warn!("the weir before this one does not hand over: {why}");
                return None;
            }
            if why != said {
                tracing::info!("waiting for the weir before this one: {why}");
                said = why;
            }
            sleep(AGAIN).await;
        }
    }

    async fn attempt(&self, begun: Instant) -> Attempt {
        let offers = match names::offers() {
            Ok(offers) => offers,
            Err(cause) => return Attempt::Never(format!("the list of Unix sockets cannot be read: {cause}")),
        };
        let mut found = Attempt::Nobody;
        for (name, number) in offers {
            let pod = match self.kin.check(number) {
                Ok(pod) => pod,
                Err(Doubt::Untold(why)) => {
                    found = Attempt::Later(why);
                    continue;
                }
                Err(Doubt::Stranger(why)) => {
                    if begun.elapsed() < ATTESTED {
                        found = Attempt::Later(format!("{name}: {why}"));
                    } else {
                        tracing::warn!("{name} is not a weir of this node: {why}");
                    }
                    continue;
                }
            };
            match self.ask(&name, pod).await {
                Ok(Attempt::Nobody) => {}
                Ok(other) => return other,
                Err(error) => found = Attempt::Later(format!("{error:#}")),
            }
        }
        found
    }

    /// Asks a weir of this node for its listeners.
    async fn ask(&self, name: &str, pod: Option<Box<str>>) -> anyhow::Result<Attempt> {
        let channel = names::ask(name)?;
        let next = Message::Next { version: VERSION, name: self.settings.name.clone() };
        message::send(&channel.socket, &next).await?;
        match timeout(ANSWER, message::receive(&channel.socket)).await {
            Err(_) => bail!("it does not answer"),
            Ok(Err(error)) => Ok(Attempt::Never(format!("{error:#}"))),
            Ok(Ok(None)) => bail!("it closes without an answer"),
            Ok(Ok(Some((Message::Listeners { version: VERSION }, listeners)))) => {
                Ok(Attempt::Taken(Predecessor { channel, pod }, listeners))
            }
            Ok(Ok(Some((Message::No { why, later: true, .. }, _)))) => Ok(Attempt::Later(why)),
            // A weir of another name is not the one before this one.
            Ok(Ok(Some((Message::No { version: VERSION, why, .. }, _)))) => {
                tracing::info!("{name}: {why}");
                Ok(Attempt::Nobody)
            }
            Ok(Ok(Some((Message::No { version, why, .. }, _)))) => Ok(Attempt::Never(format!(
                "it speaks version {version} of the hand-over, not {VERSION}: {why}"
            ))),
            Ok(Ok(Some((other, _)))) => Ok(Attempt::Never(format!("it answers {other:?}"))),
        }
    }
}

impl Predecessor {
    /// Waits until this weir is ready, or is alone. `false` if it is alone.
    pub(super) async fn until_ready(&self, control: &Arc<State>) -> bool {
        let channel = &self.channel.socket;
        if message::send(channel, &Message::Probes).await.is_err() {
            return false;
        }
        let mut told = Instant::now();
        loop {
            // Nothing is expected before this weir serves but the end.
            match timeout(LOOK, message::receive(channel)).await {
                Ok(_) => return false,
                Err(_) if is_ready(control) => return true,
                Err(_) => {}
            }
            if told.elapsed() >= ALIVE {
                told = Instant::now();
                if message::send(channel, &Message::Alive).await.is_err() {
                    return false;
                }
            }
        }
    }

    /// Tells the weir before this one that this one serves, and follows its drain to its end.
    pub(super) async fn follow(&self, control: &Arc<State>) -> anyhow::Result<()> {
        message::send(&self.channel.socket, &Message::Serves).await?;
        control.handover.count(HandoverResult::Taken);
        let ended = loop {
            match message::receive(&self.channel.socket).await {
                Ok(Some((Message::Drains { open, seconds }, _))) => {
                    let now = Instant::now();
                    let since = now.checked_sub(Duration::from_secs(seconds)).unwrap_or(now);
                    control.handover.before.store(Some(Arc::new(Before { since, open })));
                }
                Ok(Some((other, _))) => break Err(anyhow!("the weir before this one says {other:?}")),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        control.handover.before.store(None);
        ended
    }
}

/// Whether this weir can serve as the one before it did.
fn is_ready(control: &State) -> bool {
    let in_pods = control.shared.pods.is_some();
    control.ready.is_ready_but_for(super::CONDITION)
        && control.catalogs.is_complete()
        && (!in_pods || control.netns.has_looked.load(std::sync::atomic::Ordering::SeqCst))
}
