//! All sockets weir listens on: bound before anything else starts, and rebound when the configuration changes.
//!
//! When a listener's address changes, the new socket is opened before the old one closes; if that fails, the old one
//! stays. Connections to the old socket are served, those in its accept queue too.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::DropGuard;

use super::announce;
use super::descriptors::CONTROL_CONNECTIONS;
use super::explicit::{Explicit, refuse};
use super::inherited::{Inherited, Waits, bind_transparent};
use super::routers::Routers;
use crate::admin::{Retired, Server};
use crate::config::Settings;
use crate::control::State;
use crate::proxy::listener::sockets::Socket;
use crate::proxy::listener::{Listener, ListenerKind};
use crate::transport::{BindError, bind, start_listening};

/// The sockets, and the listeners whose connections they accept.
pub(super) struct BoundListeners {
    pub(super) routers: Routers,
    /// Empty when interception is off.
    pub(super) transparent: Vec<Arc<Socket>>,
    /// `None` once it is handed over.
    admin: Option<Control>,
    probes: Option<Control>,
    by_kind: Listeners,
    /// Why the ports of diverted connections are not bound, if they are not.
    pub(super) no_transparent: Option<String>,
    /// What this weir must not accept on, since the weir before it serves.
    waits: Option<Waits>,
    /// Whether the weir before this one may still have the sockets.
    inherited: bool,
    /// How many weirs have duplicates and have not ended: the next one, and those that were given up.
    given: usize,
}

/// The other listeners, in the order of metrics.
pub(super) struct Listeners {
    transparent: Arc<Listener>,
    incoming: Arc<Listener>,
    admin: Arc<Listener>,
    probes: Arc<Listener>,
}

/// A listener of the control plane. Its server accepts on a duplicate.
struct Control {
    tcp: TcpListener,
    /// Retires the listener when dropped; `None` while another weir accepts in its place.
    in_use: Option<(DropGuard, Retired)>,
}

impl Listeners {
    fn new() -> Self {
        use ListenerKind::{Admin, Incoming, Probes, Transparent};
        let [transparent, incoming, admin, probes] =
            [Transparent, Incoming, Admin, Probes].map(Listener::new);
        Self { transparent, incoming, admin, probes }
    }

    /// Opens and closes listeners to match `settings`, with their allowed clients. Data plane listeners accept at most
    /// `limit` connections each.
    fn follow(&self, settings: &Settings, limit: usize) {
        match &settings.transparent {
            Some(it) => self.transparent.open_to(&it.allow, limit, it.via),
            None => self.transparent.close(),
        }
        match settings.identity.as_ref().and_then(|it| it.wire.as_ref()) {
            Some(it) => self.incoming.open_to(&it.allow, limit, false),
            None => self.incoming.close(),
        }
        self.admin.open_to(&settings.admin.allow, CONTROL_CONNECTIONS, false);
        match &settings.probes {
            Some(it) => self.probes.open_to(&it.allow, CONTROL_CONNECTIONS, false),
            None => self.probes.close(),
        }
    }
}

impl Control {
    fn new(tcp: TcpListener) -> Self {
        Self { tcp, in_use: None }
    }

    /// The socket that its server accepts on, and the token that tells the server that the listener is retired.
    fn serve(&mut self) -> anyhow::Result<(TcpListener, Retired)> {
        let (tcp, retired) = (self.tcp.try_clone()?, Retired::default());
        self.in_use = Some((retired.token.clone().drop_guard(), retired.clone()));
        Ok((tcp, retired))
    }

    /// Leaves the queue to the next weir.
    fn pause(&mut self) {
        if let Some((guard, retired)) = self.in_use.take() {
            retired.handed_over.store(true, Ordering::SeqCst);
            drop(guard);
        }
    }
}

impl BoundListeners {
    /// Binds what `settings` asks for; listeners of diverted connections only where they are not to be in the pods.
    ///
    /// # Errors
    ///
    /// One sentence: the address, the cause, and what to do.
    pub(super) async fn bind(
        settings: &Settings,
        in_pods: bool,
        mut inherited: Inherited,
    ) -> Result<Self, BindError> {
        let by_kind = Listeners::new();
        let routers = Routers::bind(settings, &mut inherited)?;
        let mut control = |at: SocketAddr| inherited.take_or_bind(at).map(Control::new);
        let admin = Some(control(settings.admin.listen)?);
        let probes = settings.probes.as_ref().map(|it| control(it.listen)).transpose()?;
        let waits = inherited.finish();
        let transparent = match &settings.transparent {
            Some(it) if !in_pods => bind_transparent(it, settings.drain.handover.is_some()).await,
            // In the pods, they come and go with those.
            Some(_) | None => Ok(Vec::new()),
        };
        let (transparent, no_transparent) = match transparent {
            Ok(bound) => (bound, None),
            // The weir before this one goes on.
            Err(why) if waits.is_some() => (Vec::new(), Some(why.to_string())),
            Err(why) => return Err(why),
        };
        Ok(Self {
            routers,
            admin,
            probes,
            transparent: many(&by_kind.transparent, transparent),
            no_transparent,
            by_kind,
            inherited: waits.as_ref().is_some_and(|it| !it.taken.is_empty()),
            waits,
            given: 0,
        })
    }

    /// The bound addresses: weir must never connect to them.
    pub(super) fn bound(&self) -> Vec<SocketAddr> {
        let data = self.data().into_iter().filter_map(|it| it.address());
        let control = self.admin.iter().chain(&self.probes);
        control.filter_map(|it| it.tcp.local_addr().ok()).chain(data).collect()
    }

    /// The data plane's sockets.
    pub(super) fn data(&self) -> Vec<Arc<Socket>> {
        self.routers.sockets().chain(&self.transparent).cloned().collect()
    }

    /// As [`Self::data`], without those that the weir before this one still accepts on.
    pub(super) fn open_data(&self) -> Vec<Arc<Socket>> {
        self.data().into_iter().filter(|it| it.address().is_some_and(|at| self.may_accept(at))).collect()
    }

    fn may_accept(&self, at: SocketAddr) -> bool {
        self.waits.as_ref().is_none_or(|it| it.permits(at))
    }

    /// Serves in place of the weir before this one. Returns the addresses of its sockets that this one has no use for.
    pub(super) fn take_over(&mut self, control: &State, server: &Arc<Server>) -> Vec<SocketAddr> {
        let Some(waits) = self.waits.take() else { return Vec::new() };
        let control_sockets = self.admin.iter().chain(&self.probes).map(|it| &it.tcp);
        for socket in self.data().iter().map(|it| &it.tcp).chain(control_sockets) {
            if socket.local_addr().is_ok_and(|at| waits.silent.contains(&at))
                && let Err(cause) = start_listening(socket)
            {
                tracing::error!(at = ?socket.local_addr().ok(), "cannot listen there: {cause}");
            }
        }
        self.publish(control);
        if let Err(error) = self.serve(server) {
            tracing::error!("the admin's and the probes' listeners are not served: {error:#}");
        }
        waits.unused
    }

    /// Starts draining: the transparent sockets accept no new connections and are left to the workers. Returns the
    /// explicit proxy's sockets, which still accept.
    pub(super) fn drain(&mut self) -> Explicit {
        refuse(&std::mem::take(&mut self.transparent));
        // What is done to a socket is done to all its duplicates.
        Explicit::new(self.routers.take(), self.inherited || self.given > 0)
    }

    /// Duplicates of all sockets that the next weir takes over.
    ///
    /// # Errors
    ///
    /// There is no descriptor left.
    pub(super) fn duplicates(&mut self) -> std::io::Result<Vec<TcpListener>> {
        // From now on, also where the hand-over fails: until that weir has ended.
        self.given += 1;
        let control = self.admin.iter().chain(&self.probes).map(|it| it.tcp.try_clone());
        self.routers.sockets().map(|it| it.tcp.try_clone()).chain(control).collect()
    }

    /// A weir that was given up has ended, and the duplicates with it. It cannot have passed them on.
    pub(super) fn take_back(&mut self) {
        self.given = self.given.saturating_sub(1);
    }

    /// The weir before this one has ended, and its duplicates with it.
    pub(super) fn disown(&mut self) {
        self.inherited = false;
    }

    /// Gives up the control plane's sockets: the next weir has them.
    pub(super) fn hand_over_control(&mut self) {
        for mut it in [self.admin.take(), self.probes.take()].into_iter().flatten() {
            it.pause();
        }
    }

    /// The listeners whose sockets are in the pods: of diverted connections, and of those of other weirs.
    pub(super) fn in_pods(&self) -> [Arc<Listener>; 2] {
        [self.by_kind.transparent.clone(), self.by_kind.incoming.clone()]
    }

    /// Opens and closes listeners to match `settings`, with their allowed clients. Data plane listeners accept at most
    /// `limit` connections each.
    pub(super) fn follow(&self, settings: &Settings, limit: usize) {
        self.routers.follow(settings, limit);
        self.follow_others(settings, limit);
    }

    /// The same for all but the routers' listeners.
    pub(super) fn follow_others(&self, settings: &Settings, limit: usize) {
        self.by_kind.follow(settings, limit);
    }

    /// The listeners as a list.
    pub(super) fn all(&self) -> Vec<Arc<Listener>> {
        let Listeners { transparent, incoming, admin, probes } = &self.by_kind;
        self.routers.listeners().chain([transparent, incoming, admin, probes]).cloned().collect()
    }

    /// Serves those of the control plane's listeners that are not served yet, but for those that the weir before this one
    /// serves.
    ///
    /// # Errors
    ///
    /// A socket cannot be used.
    pub(super) fn serve(&mut self, server: &Arc<Server>) -> anyhow::Result<()> {
        let waits = &self.waits;
        let is_due = |it: &Control| {
            let at = it.tcp.local_addr().ok();
            it.in_use.is_none() && waits.as_ref().is_none_or(|waits| at.is_some_and(|at| waits.permits(at)))
        };
        if let Some(admin) = self.admin.as_mut().filter(|it| is_due(it)) {
            let (tcp, retired) = admin.serve()?;
            super::tasks::serve(server, &self.by_kind.admin, tcp, retired)?;
        }
        if let Some(probes) = self.probes.as_mut().filter(|it| is_due(it)) {
            let (tcp, retired) = probes.serve()?;
            super::tasks::serve(server, &self.by_kind.probes, tcp, retired)?;
        }
        Ok(())
    }

    /// Makes the routers of the explicit proxy those of `written`. Old sockets accept no new connections from now on; new
    /// ones do after [`Self::publish`]. Returns what could not be bound.
    pub(super) fn change_routers(&mut self, written: &Settings) -> Vec<String> {
        let (gone, failed) = self.routers.change(written);
        // What is done to a socket is done to all its duplicates: one that another weir has is only closed.
        let is_shared = |it: &Arc<Socket>| {
            let at = it.address();
            self.given > 0
                || at.is_some_and(|at| self.waits.as_ref().is_some_and(|waits| waits.taken.contains(&at)))
        };
        let (shared, own): (Vec<_>, Vec<_>) = gone.into_iter().partition(is_shared);
        shared.iter().for_each(|it| it.hand_over());
        if let Some(waits) = &mut self.waits {
            waits.unused.extend(shared.iter().filter_map(|it| it.address()));
        }
        refuse(&own);
        failed
    }

    /// Has the workers accept on all sockets that the weir before this one does not accept on, and tells the control plane of all listeners. Those that are gone are
    /// retired: the workers serve who is already connected.
    pub(super) fn publish(&self, control: &State) {
        control.shared.sockets.set(self.open_data());
        control.follow(self.all());
    }

    /// Moves the admin's listener.
    ///
    /// # Errors
    ///
    /// The new address cannot be bound or served; the old listener stays.
    pub(super) fn move_admin(&mut self, server: &Arc<Server>, to: SocketAddr) -> anyhow::Result<()> {
        let mut new = Control::new(bind(to)?);
        let (tcp, retired) = new.serve()?;
        super::tasks::serve(server, &self.by_kind.admin, tcp, retired)?;
        moved(ListenerKind::Admin, None, new.tcp.local_addr().ok().as_slice());
        self.admin = Some(new);
        Ok(())
    }

    /// Moves the probes' listener; `None` closes it.
    ///
    /// # Errors
    ///
    /// The new address cannot be bound or served; the old listener stays.
    pub(super) fn move_probes(&mut self, server: &Arc<Server>, to: Option<SocketAddr>) -> anyhow::Result<()> {
        let mut new = to.map(|at| bind(at).map(Control::new)).transpose()?;
        if let Some(new) = &mut new {
            let (tcp, retired) = new.serve()?;
            super::tasks::serve(server, &self.by_kind.probes, tcp, retired)?;
        }
        self.probes = new;
        let at = self.probes.as_ref().and_then(|it| it.tcp.local_addr().ok());
        moved(ListenerKind::Probes, None, at.as_slice());
        Ok(())
    }

    /// Prints on standard output where weir listens: the one line that scripts may wait for.
    pub(super) fn announce(&self) {
        let text = |it: Option<SocketAddr>| it.map_or_else(|| "?".to_owned(), |address| address.to_string());
        let at = |it: &Control| text(it.tcp.local_addr().ok());
        let all = |addresses: Vec<SocketAddr>| match addresses.as_slice() {
            [] => "none".to_owned(),
            all => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        let mut routers = self.routers.bound();
        let outgoing = all(routers.next().map(|(_, addresses)| addresses).unwrap_or_default());
        let admin = self.admin.as_ref().map_or_else(|| "none".to_owned(), at);
        let mut line = format!("weir: listening outgoing={outgoing} admin={admin}");
        for (label, addresses) in routers {
            line += &format!(" outgoing.{label}={}", all(addresses));
        }
        if let Some(probes) = &self.probes {
            line += &format!(" probes={}", at(probes));
        }
        if let (Some(first), Some(last)) = (self.transparent.first(), self.transparent.last()) {
            let last = last.address().map_or(0, |address| address.port());
            line += &format!(" transparent={}-{last}", text(first.address()));
        }
        announce::say(line);
    }
}

fn many(listener: &Arc<Listener>, listeners: Vec<TcpListener>) -> Vec<Arc<Socket>> {
    listeners.into_iter().map(|it| Socket::new(listener, it)).collect()
}

/// Logs that a listener, that of `router` if there are several, listens at other addresses.
pub(super) fn moved(kind: ListenerKind, router: Option<&str>, to: &[SocketAddr]) {
    for at in to {
        tracing::info!(listener = kind.label(), router, %at, "listening there now");
    }
    if to.is_empty() {
        tracing::info!(listener = kind.label(), router, "not listening any more");
    }
}
