//! weir's sockets in the pods' network namespaces (`transparent.sockets: pod`): what they need at start, and the task that
//! follows the folder in which the container runtime mounts the namespaces.

mod choice;
mod folder;
mod follow;
mod looks;
mod loopback;
mod publish;
mod reconcile;
mod wire;
mod without;

use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{INotifyWatcher, RecursiveMode, Watcher};
use tokio::sync::{Mutex, Notify};
use tokio::time::sleep_until;

use self::choice::is_alone;
pub(super) use self::choice::{Chosen, choose};
pub(super) use self::folder::Listing;
pub(super) use self::looks::{Looks, NoLook};
pub(super) use self::reconcile::Reconciler;
use super::tasks;
use crate::control::{NetnsState, SocketPlace, State};
use crate::intercept::PodSockets;
use crate::proxy::listener::Listener;
use crate::transport::NetnsThread;

/// Interval between looks at the folder, besides those after its changes.
const LOOK: Duration = Duration::from_secs(2);

/// Interval while a new file is not a namespace yet: the runtime makes the file first, and mounting causes no event.
const SOON: Duration = Duration::from_millis(20);

/// The pause before a look for a client that is not found.
const WANTED: Duration = Duration::from_millis(250);

/// The same in multiples of the time that the last look took: whoever asks costs at most a tenth of a core.
const PAUSE: u32 = 9;

/// What weir needs to have sockets in pods.
pub(super) struct Prepared {
    /// Makes the sockets for connections to endpoints.
    thread: NetnsThread,
    /// For everything else, which may take longer.
    looks: Looks,
    sockets: PodSockets,
    folder: PathBuf,
    /// Held: says to other weirs of this node that the port is taken. `None` once it is released.
    taken: Option<UnixDatagram>,
}

impl Prepared {
    /// The settings for the programs.
    pub(super) fn sockets(&self) -> PodSockets {
        self.sockets
    }
}

/// Says where weir's sockets are.
pub(super) fn tell_place(control: &State, place: SocketPlace) {
    let sees = "endpoints and NetworkPolicies see the node's address and not the pod's";
    let note = match (&place.why, &*control.programs.lock()) {
        (Some(why), _) => Some(format!("on the node, so {sees}: {why}")),
        (None, Err(why)) if place.in_pods => {
            Some(format!("in no pod, so {sees} where a client names weir as its proxy: {why}"))
        }
        (None, _) => None,
    };
    control.ready.note("sockets", note);
    let _ = control.netns.place.set(place);
}

/// Starts the task that listens in the pods, if interception works in that way. Diverted connections belong to the first of
/// the `listeners`, those of other weirs to the second.
pub(super) fn start(
    control: &Arc<State>,
    prepared: Option<anyhow::Result<Prepared>>,
    listeners: [Arc<Listener>; 2],
) -> Option<Arc<Mutex<Reconciler>>> {
    let prepared = prepared?.ok().filter(|_| control.programs.lock().is_ok())?;
    let folder = prepared.folder.clone();
    let _ = control.netns.thread.set(prepared.thread.clone());
    tell_unable(control);
    let reconciler = Arc::new(Mutex::new(Reconciler::new(control.clone(), prepared, listeners)));
    let (kept, state) = (reconciler.clone(), control.clone());
    let again = move || keep(state.clone(), kept.clone(), folder.clone());
    tasks::supervise(control.clone(), "netns", again);
    Some(reconciler)
}

/// Says why explicit clients in pods are not served, if they cannot be.
fn tell_unable(control: &State) {
    let why = match &control.shared.pods {
        Some(pods) => pods.unable(),
        None => Some("weir has no access to the programs' table of pods"),
    };
    if let Some(why) = why {
        tracing::error!(
            "explicit clients in pods are answered 503, and weir listens in none for them: {why}"
        );
        control.ready.note("explicit", Some(format!("clients in pods are not served: {why}")));
    }
}

/// Follows the folder as long as weir runs: at each change, and from time to time, since what it sees is compared with
/// what there is and not with what changed.
async fn keep(
    control: Arc<State>,
    reconciler: Arc<Mutex<Reconciler>>,
    folder: PathBuf,
) -> anyhow::Result<()> {
    let changed = Arc::new(Notify::new());
    let mut watcher = watch(&folder, &changed);
    let mut next = Instant::now();
    // The earliest time of the next look for a client, and whether one is wanted.
    let (mut earliest, mut is_wanted) = (next, false);
    loop {
        let begun = Instant::now();
        let is_thorough = begun >= next;
        let depth = match is_thorough {
            false => Depth::New,
            true => {
                if is_wanted {
                    Depth::Clients
                } else {
                    Depth::All
                }
            }
        };
        let awaits = reconciler.lock().await.look(depth).await;
        if is_thorough {
            let now = Instant::now();
            earliest = now + WANTED.max((now - begun) * PAUSE);
            next = begun + LOOK;
            is_wanted = false;
            watcher = watcher.or_else(|| watch(&folder, &changed));
        }
        let soon = awaits.then(|| Instant::now() + SOON);
        loop {
            tokio::select! {
                () = changed.notified() => break,
                () = control.netns.due.notified() => {
                    next = Instant::now();
                    break;
                }
                () = sleep_until(soon.map_or(next, |soon| soon.min(next)).into()) => break,
                () = wanted(&control), if !is_wanted => (next, is_wanted) = (next.min(earliest), true),
            }
        }
    }
}

/// What a look is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// Namespaces that are new or gone.
    New,
    /// Also what changes in the others.
    All,
    /// Also the pods' cgroups, for a client that is not found.
    Clients,
}

/// Waits until a client is not found.
async fn wanted(control: &State) {
    match &control.shared.pods {
        Some(pods) => pods.wanted().await,
        None => std::future::pending().await,
    }
}

/// Watches the folder. Without a watch, changes are seen at the next look.
fn watch(folder: &std::path::Path, changed: &Arc<Notify>) -> Option<INotifyWatcher> {
    let told = changed.clone();
    let handler = move |event: notify::Result<notify::Event>| {
        // A look opens the folder and its files, which is no change: it must not cause the next look.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            told.notify_one();
        }
    };
    let mut watcher = INotifyWatcher::new(handler, notify::Config::default()).ok()?;
    watcher.watch(folder, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

/// What was found in a pod's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    /// The pod's addresses.
    addresses: Vec<IpAddr>,
    /// Whether the loopback interface is up, so that connections can be diverted at all.
    is_up: bool,
    /// Whether IPv6 can be diverted there.
    v6: bool,
    /// Why weir may not enter it any more, if so: it could connect nowhere from there.
    refused: Option<Arc<str>>,
}

impl Facts {
    /// The first address of each family (IPv4, IPv6).
    fn own(&self) -> [Option<IpAddr>; 2] {
        let first = |v4| self.addresses.iter().find(|it| it.is_ipv4() == v4).copied();
        [first(true), first(false)]
    }

    /// Whether connections are diverted, by family (IPv4, IPv6).
    fn diverted(&self) -> [bool; 2] {
        let is_possible = self.is_up && self.refused.is_none();
        [is_possible, is_possible && self.v6]
    }

    /// Why connections of the pod go direct although weir listens there, if they do.
    fn direct(&self) -> Option<(NetnsState, Arc<str>)> {
        match &self.refused {
            Some(why) => Some((NetnsState::Refused, why.clone())),
            None if !self.is_up => Some((NetnsState::LoopbackDown, "its loopback interface is down".into())),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_where_weir_can_take_them() {
        let facts = Facts { addresses: Vec::new(), is_up: true, v6: true, refused: None };
        let of = |it: Facts| (it.diverted(), it.direct().map(|it| it.0));
        let refused = Facts { refused: Some("EPERM".into()), ..facts.clone() };
        assert_eq!(of(facts.clone()), ([true, true], None));
        assert_eq!(of(Facts { v6: false, ..facts.clone() }), ([true, false], None));
        assert_eq!(of(Facts { is_up: false, ..facts }), ([false; 2], Some(NetnsState::LoopbackDown)));
        assert_eq!(of(Facts { is_up: false, ..refused.clone() }), ([false; 2], Some(NetnsState::Refused)));
        assert_eq!(of(refused), ([false; 2], Some(NetnsState::Refused)));
    }

    #[tokio::test]
    async fn a_look_at_the_folder_is_no_change_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let changed = Arc::new(Notify::new());
        let _watch = watch(folder.path(), &changed).unwrap();
        std::fs::write(folder.path().join("pod"), "").unwrap();
        changed.notified().await;
        // What was written may be told by several events.
        while tokio::time::timeout(Duration::from_millis(200), changed.notified()).await.is_ok() {}
        assert_eq!(Listing::of(folder.path()).unwrap().files.len(), 1);
        let told = tokio::time::timeout(Duration::from_millis(500), changed.notified()).await;
        assert!(told.is_err(), "weir would look again at once, and so for ever");
        std::fs::remove_file(folder.path().join("pod")).unwrap();
        changed.notified().await;
    }
}
