//! One weir follows another on a node, without a moment in which nobody serves.
//!
//! The next weir asks the one before it for its listeners, and gets duplicates of the sockets: one accept queue, so no client
//! is refused or reset. In order:
//!
//! 1. They meet at a socket in a folder that only weir's user can write to (`meeting`), and each looks whether the other end
//!    is of its own user.
//! 2. The next one attaches its programs, with its own ports, and lists the services. The old one serves, and answers at the
//!    admin's and the probes' listeners. Each weir answers exec probes for itself (`app::probe_socket`).
//! 3. Once the next one is ready it listens for the weir after it, accepts on all sockets, and says so. Only then does the old
//!    one stop accepting: it detaches its programs on connect(), and drains for `drain.handover.grace`.
//!
//! If the next one ends, hangs or is not ready within `drain.handover.ready`, the old one goes on, and tells it to end. The old
//! one's word counts, also where it crosses the next one's that it serves: that one ends, with whoever has asked it meanwhile,
//! and the old one listens at the path again. If the old one dies, the next one, which has the sockets, serves at once. One that
//! was not ready then is a stopgap: whoever asks may take over from it, the pod of the old one too, and it ends once it has
//! drained, or nobody serves any more, to begin again as the next one.
//!
//! An old weir that has drained does not end before it is told to: kubelet would start its container again. But it does once
//! nobody serves any more.

mod give;
mod meeting;
mod message;
mod take;

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use self::give::Giver;
pub(super) use self::take::Predecessor;
use self::take::{Found, Turn};
use super::inherited::Inherited;
use super::intercept;
use super::listeners::BoundListeners;
use crate::admin::Server;
use crate::config::{self, Settings};
use crate::control::{Stage, State};
use crate::transport::{BindError, ChannelListener};

/// The condition of readiness.
const CONDITION: &str = "handover";

/// How long a weir looks for the one that has its ports: that one makes its socket again within a third of it.
const FOUND: Duration = give::LOOK.saturating_mul(3);

/// The pause before it looks again.
const AGAIN: Duration = Duration::from_secs(1);

/// The UID of the pod that weir runs in, from the downward API.
const POD: &str = "POD_UID";

/// What a weir has before it serves: what hand-overs need, if they are configured, the weir before it, and its listeners.
pub(super) type Bound = (Option<Arc<Handover>>, Option<Predecessor>, BoundListeners);

/// Binds all listeners, those of the weir before this one by taking them over, if there is one.
///
/// # Errors
///
/// As [`BoundListeners::bind`].
pub(super) async fn bind(settings: &Settings, in_pods: bool) -> Result<Bound, BindError> {
    let Some(handover) = Handover::prepare(settings) else {
        return Ok((None, None, BoundListeners::bind(settings, in_pods, Inherited::default()).await?));
    };
    let end = Instant::now() + FOUND;
    loop {
        let found = handover.take().await;
        let is_nobody = matches!(found, Found::Nobody);
        let (before, inherited) = match found {
            Found::Weir(before, listeners) => (Some(before), Inherited::new(listeners)),
            Found::Nobody | Found::Unfit => (None, Inherited::default()),
        };
        match BoundListeners::bind(settings, in_pods, inherited).await {
            // Who has it may be a weir whose socket somebody has removed.
            Err(why) if is_nobody && why.is_in_use() && Instant::now() < end => {
                tracing::info!("looking for the weir before this one: {why}");
                sleep(AGAIN).await;
            }
            bound => return Ok((Some(handover), before, bound?)),
        }
    }
}

/// Whether a weir serves at the socket that is configured.
pub(super) fn somebody_serves(settings: &Settings) -> bool {
    let handover = settings.drain.handover.as_ref();
    handover.is_some_and(|it| meeting::ask(&it.socket).is_ok_and(|it| it.is_some()))
}

/// What hand-overs need.
pub(super) struct Handover {
    settings: config::Handover,
    pod: Option<String>,
}

impl Handover {
    /// Prepares for taking over and for handing over; `None` if it is not configured.
    fn prepare(settings: &Settings) -> Option<Arc<Self>> {
        let settings = settings.drain.handover.clone()?;
        if let Some(folder) = settings.socket.parent() {
            // Where that is not possible, `meeting::check` says why there is no fit folder.
            let _ = DirBuilder::new().mode(0o700).create(folder);
        }
        let pod = std::env::var(POD).ok().filter(|uid| !uid.is_empty());
        Some(Arc::new(Self { settings, pod }))
    }
}

/// Starts to offer the listeners, after taking over from the weir before this one, if there is one.
pub(super) fn start(
    handover: Option<Arc<Handover>>,
    before: Option<Predecessor>,
    control: &Arc<State>,
    server: &Arc<Server>,
    listeners: &Arc<Mutex<BoundListeners>>,
) {
    let Some(handover) = handover else { return };
    let control = control.clone();
    let giver = Arc::new(Giver {
        handover,
        control: control.clone(),
        listeners: listeners.clone(),
        server: server.clone(),
        from: before.as_ref().filter(|it| !it.waits).and_then(|it| it.pod.clone()),
        displaced: Notify::new(),
    });
    if let Some(before) = &before {
        intercept::own(&control, before.pod.as_deref());
        control.handover.stage.send_replace(Stage::Waits);
        let why = "the weir before this one serves until this one is ready";
        control.ready.set(CONDITION, Err(why.to_owned()));
    }
    tokio::spawn(async move {
        let offered = match before {
            None => None,
            Some(before) => match before.until_ready(&giver.control, &giver.handover.settings.socket).await {
                Turn::Ready => {
                    let (unused, offered) = giver.serve();
                    tracing::info!("serving in place of the weir before this one, which drains");
                    tokio::spawn(follow(before, unused, giver.clone()));
                    offered
                }
                Turn::Alone => {
                    tracing::warn!("the weir before this one has ended: serving at once");
                    let is_stopgap = !take::is_ready(&control);
                    control.handover.is_stopgap.store(is_stopgap, Ordering::Relaxed);
                    let (_, offered) = giver.serve();
                    giver.listeners.lock().disown();
                    let stays = giver.clone();
                    tokio::spawn(async move { stays.until_it_stays().await });
                    // Nobody is in its way in the pods.
                    control.netns.due.notify_one();
                    offered
                }
                Turn::Dismissed(why) => {
                    giver.control.handover.stage.send_replace(Stage::Dismissed(why.into()));
                    return before.until_it_ends().await;
                }
            },
        };
        giver.offer(offered).await;
    });
}

impl Giver {
    /// Accepts on all sockets, and listens for the next weir. Returns the addresses of sockets that were handed over and are of
    /// no use.
    fn serve(&self) -> (Vec<SocketAddr>, Option<ChannelListener>) {
        // Before it stops, the weir before this one must not be the one that others find.
        let offered = self.open();
        let unused = self.listeners.lock().take_over(&self.control, &self.server);
        self.control.ready.set(CONDITION, Ok(()));
        self.control.handover.stage.send_if_modified(|stage| {
            let waits = *stage == Stage::Waits;
            if waits {
                *stage = Stage::Serves;
            }
            waits
        });
        (unused, offered)
    }
}

/// Follows the drain of the weir before this one.
async fn follow(before: Predecessor, unused: Vec<SocketAddr>, giver: Arc<Giver>) {
    match before.follow(unused, &giver.control, &giver.listeners).await {
        Ok(None) => {}
        // It had given this one up before it read that this one serves.
        Ok(Some(why)) => {
            giver.control.handover.stage.send_if_modified(|stage| {
                let serves = matches!(stage, Stage::Serves | Stage::Gives);
                if serves {
                    *stage = Stage::Dismissed(why.into());
                }
                serves
            });
            return before.until_it_ends().await;
        }
        Err(error) => tracing::warn!("the weir before this one is not followed any more: {error:#}"),
    }
    giver.listeners.lock().disown();
}
