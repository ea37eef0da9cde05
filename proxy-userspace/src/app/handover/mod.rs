//! One weir follows another on a node, without a moment in which nobody serves.
//!
//! The next weir asks the one before it for its listeners, and gets duplicates of the sockets: one accept queue, so no client
//! is refused or reset. In order:
//!
//! 1. Both look at whether the other is a weir of this node (`kin`): the next one before it says a word, the old one before it
//!    answers.
//! 2. The next one has the sockets of the admin and the probes at once and answers there: kubelet's question whether it is
//!    ready is for it. The old one stops accepting there. Both pods' probes reach it then, and it says that it lives.
//! 3. It attaches its programs, with its own ports, and lists the services. The old one serves.
//! 4. Once it is ready it accepts on all sockets, and says so. Only then does the old one stop accepting: it takes its keys
//!    out of the programs' maps, and drains for `drain.handover.grace`.
//!
//! If the next one dies or hangs before step 4, the old one goes on with everything. If the old one dies, the next one, which
//! has the sockets, serves at once.
//!
//! An old weir that has drained does not end before it is told to: kubelet would start its container again.

mod give;
mod kin;
mod message;
mod names;
mod take;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::give::Giver;
use self::kin::Kin;
pub(super) use self::take::Predecessor;
use super::inherited::Inherited;
use super::listeners::BoundListeners;
use super::services::Services;
use crate::admin::Server;
use crate::config::{self, Settings};
use crate::control::State;

/// The condition of readiness.
const CONDITION: &str = "handover";

/// The pause before a socket for the next weir is made again, after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Takes the listeners of the weir before this one, if there is one.
pub(super) async fn begin(
    settings: &Settings,
    services: &Services,
) -> (Option<Arc<Handover>>, Option<Predecessor>, Inherited) {
    let handover = Handover::prepare(settings, services);
    let taken = match &handover {
        Some(handover) => {
            handover.follow_early(services);
            handover.take().await
        }
        None => None,
    };
    let (before, listeners) = taken.unzip();
    (handover, before, Inherited::new(listeners.unwrap_or_default()))
}

/// What hand-overs need.
pub(super) struct Handover {
    settings: config::Handover,
    kin: Kin,
}

impl Handover {
    /// Prepares for taking over and for handing over; `None` if it is not configured, or not possible here.
    pub(super) fn prepare(settings: &Settings, services: &Services) -> Option<Arc<Self>> {
        let configured = settings.drain.handover.clone()?;
        let node_pods = services.cluster.as_ref().map(|it| it.node_pods());
        match Kin::new(settings, node_pods) {
            Ok(kin) => Some(Arc::new(Self { settings: configured, kin })),
            Err(why) => {
                tracing::warn!("no weir can take over from another here: {why}");
                None
            }
        }
    }

    /// Follows the API server already now, where only it can tell whether the process that offers listeners is a weir.
    pub(super) fn follow_early(&self, services: &Services) {
        let (Some(cluster), Some(pods)) = (&services.cluster, self.kin.node_pods()) else { return };
        let offered = names::offers().is_ok_and(|it| !it.is_empty());
        if offered && !pods.borrow().known {
            services.begun.lock().replace(tokio::spawn(cluster.follow()));
        }
    }
}

/// Says whether the next weir has taken over; `None` where none can.
pub(super) type Handed = Option<watch::Receiver<bool>>;

/// Waits until the next weir has taken over.
pub(super) async fn handed_over(handed: &mut Handed) {
    let over = match handed {
        Some(handed) => handed.wait_for(|it| *it).await.is_ok(),
        None => false,
    };
    if !over {
        std::future::pending::<()>().await;
    }
}

/// Starts to offer the listeners, after taking over from the weir before this one, if there is one.
pub(super) fn start(
    handover: Option<Arc<Handover>>,
    before: Option<Predecessor>,
    control: &Arc<State>,
    server: &Arc<Server>,
    listeners: &Arc<Mutex<BoundListeners>>,
) -> Handed {
    let handover = handover?;
    let (handed, has_handed) = watch::channel(false);
    let giver = Arc::new(Giver {
        handover,
        control: control.clone(),
        listeners: listeners.clone(),
        server: server.clone(),
        handed,
        from: before.as_ref().and_then(|it| it.pod.clone()),
        one: tokio::sync::Mutex::default(),
    });
    if before.is_some() {
        control
            .ready
            .set(CONDITION, Err("the weir before this one serves until this one is ready".to_owned()));
    }
    tokio::spawn(async move {
        let _draining = match before {
            Some(before) => Some(take_over(before, &giver).await),
            None => None,
        };
        while let Err(error) = giver.clone().offer().await {
            tracing::error!("the next weir cannot take over: {error:#}");
            sleep(AGAIN).await;
        }
    });
    Some(has_handed)
}

/// Serves once this weir is ready. Returns the task that follows the drain of the weir before it.
async fn take_over(before: Predecessor, giver: &Giver) -> JoinHandle<()> {
    let control = giver.control.clone();
    let is_ready = before.until_ready(&control).await;
    giver.listeners.lock().publish(&control);
    control.ready.set(CONDITION, Ok(()));
    if is_ready {
        tracing::info!("serving in place of the weir before this one, which drains");
    } else {
        tracing::warn!("the weir before this one has ended: serving at once");
    }
    let listeners = giver.listeners.clone();
    tokio::spawn(async move {
        if is_ready {
            match before.follow(&control).await {
                Ok(()) => listeners.lock().disown(),
                Err(error) => tracing::warn!("the weir before this one is not followed any more: {error:#}"),
            }
        }
    })
}
