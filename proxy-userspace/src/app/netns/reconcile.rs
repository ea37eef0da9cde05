//! Which network namespaces there are, and weir's sockets in them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::folder::Listing;
use super::follow::{facts, is_refused, refusal};
use super::looks::{LIMIT, NoLook};
use super::loopback::Loopback;
use super::{Depth, Facts, Prepared};
use crate::app::descriptors;
use crate::control::{NetnsState, State};
use crate::intercept::{self, NetnsId};
use crate::proxy::listener::Listener;
use crate::proxy::listener::sockets::Socket;
use crate::transport::PodNetns;

/// How long a file may take to become a namespace before it is looked at less often.
const MOUNTS: Duration = Duration::from_secs(5);

/// How many addresses of each family a pod is known by.
pub(super) const MOST_ADDRESSES: usize = 8;

/// Keeps weir's sockets in the pods' network namespaces.
pub(in crate::app) struct Reconciler {
    pub(super) control: Arc<State>,
    pub(super) prepared: Prepared,
    listener: Arc<Listener>,
    /// That of other weirs' connections.
    pub(super) incoming: Arc<Listener>,
    pub(super) joined: BTreeMap<NetnsId, Joined>,
    /// Why weir does not listen in these.
    pub(super) left: BTreeMap<NetnsId, Left>,
    /// Files that are no namespaces, by name, and since when.
    pub(super) files: BTreeMap<PathBuf, Instant>,
    /// Files of which nothing is known, and why.
    pub(super) unknown: BTreeMap<PathBuf, Arc<str>>,
    /// The folder could not be listed at the last look.
    pub(super) is_blind: bool,
    /// The folder had more files than are looked at.
    pub(super) has_more: bool,
    /// Pods of which it was said that they have been without a listener for long, by UID.
    pub(super) told_late: HashSet<Arc<str>>,
    /// The namespace whose addresses were followed last.
    pub(super) followed: Option<NetnsId>,
    /// When namespaces of several pods were forgotten last.
    pub(super) unshared: Instant,
    /// What was said last of connections of other weirs that are not taken, by what could not be done.
    pub(super) said: BTreeMap<Arc<str>, String>,
}

pub(super) struct Joined {
    pub(super) name: Arc<str>,
    pub(super) path: PathBuf,
    pub(super) pod: Arc<PodNetns>,
    pub(super) facts: Facts,
    /// The explicit proxy at its loopback addresses.
    pub(super) loopback: Vec<Loopback>,
    /// The socket for other weirs' connections; only the workers' own keep it open.
    pub(super) wire: Option<Weak<Socket>>,
}

pub(super) struct Left {
    pub(super) name: Arc<str>,
    /// Its pod's addresses, as far as they are known.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) state: NetnsState,
    pub(super) why: Arc<str>,
}

/// What is made in a namespace before connections are diverted there.
struct Made {
    listener: TcpListener,
    facts: Facts,
}

impl Reconciler {
    pub(super) fn new(
        control: Arc<State>,
        prepared: Prepared,
        [listener, incoming]: [Arc<Listener>; 2],
    ) -> Self {
        tracing::debug!(port = prepared.sockets.port, "port in pods");
        Self {
            control,
            prepared,
            listener,
            incoming,
            joined: BTreeMap::new(),
            left: BTreeMap::new(),
            files: BTreeMap::new(),
            unknown: BTreeMap::new(),
            is_blind: false,
            has_more: false,
            told_late: HashSet::new(),
            followed: None,
            unshared: Instant::now(),
            said: BTreeMap::new(),
        }
    }

    /// Compares what there is with what weir has. A deeper look also tries again where weir does not listen, and
    /// follows the pods' own addresses. Returns whether a file is expected to become a namespace soon.
    ///
    /// While weir stops, it only ends what has gone.
    pub(super) async fn look(&mut self, depth: Depth) -> bool {
        let (begun, thorough) = (Instant::now(), depth >= Depth::All);
        let listing = match Listing::of(&self.prepared.folder) {
            Ok(listing) => listing,
            // What was joined stays: the folder itself may come again.
            Err(cause) => {
                if !std::mem::replace(&mut self.is_blind, true) {
                    let folder = self.prepared.folder.display();
                    tracing::error!("{folder} cannot be listed, so pods that come go direct: {cause}");
                }
                self.publish_without();
                return false;
            }
        };
        self.is_blind = false;
        self.leave_gone(&listing).await;
        let Listing { present, files, unknown, has_more } = listing;
        self.has_more = has_more;
        if let (Some((path, why)), true) = (unknown.first_key_value(), self.unknown.is_empty()) {
            let path = path.display();
            tracing::warn!(
                files = unknown.len(),
                "files cannot be opened, so nothing is known of them: {path}: {why}"
            );
        }
        self.unknown = unknown;
        let now = Instant::now();
        self.files.retain(|path, _| files.contains(path));
        for path in files {
            self.files.entry(path).or_insert(now);
        }
        if self.control.programs.is_stopping() {
            self.publish();
            return false;
        }
        self.join_new(present, thorough).await;
        self.follow_wire().await;
        if thorough {
            self.follow().await;
            self.follow_loopback().await;
        }
        self.publish();
        if let (Some(pods), Depth::Clients) = (&self.control.shared.pods, depth) {
            match pods.ids().cgroups() {
                Ok(cgroups) => pods.tell_cgroups(cgroups, begun),
                Err(cause) => tracing::warn!("the pods' cgroups cannot be listed: {cause}"),
            }
        }
        self.files.values().any(|since| now.saturating_duration_since(*since) < MOUNTS)
    }

    async fn leave_gone(&mut self, listing: &Listing) {
        let gone = self.joined.iter().filter(|(id, joined)| listing.is_without(**id, &joined.path));
        for id in gone.map(|it| *it.0).collect::<Vec<_>>() {
            if let Some(joined) = self.joined.remove(&id) {
                self.leave(&joined);
            }
        }
        self.left.retain(|id, _| listing.present.contains_key(id));
        self.prepared.looks.forget_ended();
    }

    /// Listens in namespaces that are new, and then, if the look is `thorough`, where it failed before.
    async fn join_new(&mut self, present: BTreeMap<NetnsId, PathBuf>, thorough: bool) {
        let there = present.into_iter().filter(|(id, _)| !self.joined.contains_key(id));
        let (again, new): (Vec<_>, Vec<_>) = there.partition(|(id, _)| self.left.contains_key(id));
        for (id, path) in new.into_iter().chain(again.into_iter().filter(|_| thorough)) {
            if !self.join(id, &path).await {
                // The others would wait in vain behind it.
                break;
            }
        }
    }

    /// Stops listening everywhere, and leaves nothing behind.
    pub(in crate::app) async fn leave_all(&mut self) {
        for (id, joined) in std::mem::take(&mut self.joined) {
            // Another weir needs the same route, as one does that has taken over from this one.
            if self.prepared.taken.is_some() && super::is_alone(self.prepared.sockets.port) {
                self.remove_route(id, &joined).await;
            }
            self.leave(&joined);
        }
    }

    /// Says that the port in the pods is free for the weir after the next one. The programs' listeners are closed by then.
    pub(in crate::app) fn release_port(&mut self) {
        self.prepared.taken = None;
    }

    /// Returns whether the next one can be tried: not while the thread for looks is busy.
    async fn join(&mut self, id: NetnsId, path: &Path) -> bool {
        let name = name_of(path);
        match self.try_join(id, path).await {
            Ok((pod, facts)) => {
                tracing::info!(
                    netns = &*name,
                    cookie = pod.cookie(),
                    "listening in a pod's network namespace"
                );
                self.left.remove(&id);
                self.joined.insert(
                    id,
                    Joined { name, path: path.to_owned(), pod, facts, loopback: Vec::new(), wire: None },
                );
                true
            }
            Err((state, why)) => {
                let addresses = self.addresses_of(id, path).await;
                let left = Left { name, addresses, state, why: why.into() };
                if self.left.get(&id).is_none_or(|before| before.why != left.why) {
                    tracing::debug!(
                        netns = &*left.name,
                        state = state.name(),
                        why = &*left.why,
                        "not listening there"
                    );
                }
                self.left.insert(id, left);
                state != NetnsState::Busy
            }
        }
    }

    /// The addresses in a namespace in which weir does not listen: of which pod it is, for people.
    async fn addresses_of(&mut self, id: NetnsId, path: &Path) -> Vec<IpAddr> {
        let path = path.to_owned();
        let open = move || match intercept::open_netns(&path)? {
            (netns, opened) if opened == id => Ok(netns),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        self.prepared.looks.run(id, open, || intercept::addresses(MOST_ADDRESSES)).await.unwrap_or_default()
    }

    async fn try_join(
        &mut self,
        id: NetnsId,
        path: &Path,
    ) -> Result<(Arc<PodNetns>, Facts), (NetnsState, String)> {
        let failed = |what: &str, cause: io::Error| (NetnsState::Failed, format!("{what}: {cause}"));
        let most = descriptors::pods(&self.control.settings());
        if self.joined.len() >= most {
            let why = match most {
                intercept::MOST_PODS => format!("weir listens in {most} already"),
                _ => format!("weir has no descriptors for more than {most} (RLIMIT_NOFILE)"),
            };
            return Err((NetnsState::NoRoom, why));
        }
        let (netns, opened) = intercept::open_netns(path).map_err(|cause| failed("open", cause))?;
        if opened != id {
            return Err((NetnsState::NoNamespace, "it has just been replaced".to_owned()));
        }
        let own = fs::metadata("/proc/self/ns/net").map(|it| (it.dev(), it.ino()));
        if own.is_ok_and(|own| own == id) {
            return Err((NetnsState::Node, "it is the node's own".to_owned()));
        }
        let sockets = self.prepared.sockets;
        let entered = netns.try_clone().map_err(|cause| failed("dup", cause))?;
        let made = self.prepared.looks.run(
            id,
            move || Ok(entered),
            move || {
                let listener = intercept::listen_in_pod(sockets.port)?;
                Ok(Made { listener, facts: facts(sockets.prefix6)? })
            },
        );
        let Made { listener, facts } = made.await.map_err(|why| match why {
            NoLook::Failed(cause) if cause.kind() == io::ErrorKind::AddrInUse => {
                (NetnsState::PortTaken, format!("port {} is taken there", sockets.port))
            }
            NoLook::Failed(cause) if is_refused(&cause) => (NetnsState::Refused, refusal(&cause)),
            NoLook::Failed(cause) => failed("listen", cause),
            NoLook::Busy => (NetnsState::Busy, format!("no answer from the kernel within {LIMIT:?}")),
        })?;
        self.divert(&name_of(path), netns, listener, facts)
            .map_err(|why| (NetnsState::Failed, format!("{why:#}")))
    }

    /// Has the workers accept on the listener, and then connections diverted to it.
    fn divert(
        &self,
        name: &str,
        netns: OwnedFd,
        listener: TcpListener,
        facts: Facts,
    ) -> anyhow::Result<(Arc<PodNetns>, Facts)> {
        let Ok(interception) = &mut *self.control.programs.lock() else { anyhow::bail!("no programs") };
        if self.control.programs.is_stopping() {
            // This look began before. The ports are closed already, maybe, and another weir's from now on.
            anyhow::bail!("weir stops");
        }
        let cookie = interception.join(netns.as_fd(), listener.as_fd())?;
        let told = interception.tell_pod(cookie, facts.own(), facts.diverted()).map_err(anyhow::Error::from);
        let kept = told.and_then(|()| Ok(OwnedFd::from(listener.try_clone()?)));
        let kept = kept.inspect_err(|_| interception.leave(cookie))?;
        let thread = self.prepared.thread.clone();
        let pod = PodNetns::new(cookie, self.prepared.sockets.prefix6, kept, intercept::netns_of, thread);
        pod.set_own(facts.own());
        // Its first connection is made as it already.
        pod.set_account(self.account_of(name).as_ref());
        self.control.shared.sockets.add(Socket::in_pod(&self.listener, listener, pod.clone()));
        Ok((pod, facts))
    }

    /// Removes the route of weir's prefix from a namespace that lives on.
    async fn remove_route(&mut self, id: NetnsId, Joined { name, pod, .. }: &Joined) {
        let (prefix, pod) = (self.prepared.sockets.prefix6, pod.clone());
        let removed =
            self.prepared.looks.run(id, move || pod.open(), move || intercept::remove_route(prefix));
        if let Err(NoLook::Failed(cause)) = removed.await {
            tracing::debug!(netns = &**name, %cause, "the route of weir's prefix was not removed");
        }
    }

    /// Ends everything of a pod: first nothing more is diverted, then its sockets are closed.
    ///
    /// The route of weir's prefix goes with the namespace. Without it, the sockets of connections that are closed now would wait for
    /// answers for minutes, and keep the namespace, and its link, for as long.
    fn leave(&mut self, Joined { name, pod, .. }: &Joined) {
        let cookie = pod.cookie();
        if let Ok(interception) = &mut *self.control.programs.lock() {
            interception.leave(cookie);
        }
        // Ended first: the workers then do not wait for an empty accept queue, which keeps the listener open.
        match &self.control.shared.pods {
            Some(pods) => pods.end(pod),
            None => pod.end(),
        }
        self.control.shared.sockets.remove_pod(cookie);
        tracing::info!(netns = &**name, cookie, "not listening in a pod's network namespace any more");
    }
}

pub(super) fn name_of(path: &Path) -> Arc<str> {
    path.file_name().unwrap_or_default().to_string_lossy().into()
}
