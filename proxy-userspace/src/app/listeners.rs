//! All sockets weir listens on: bound before anything else starts, and rebound when the configuration changes.
//!
//! When a listener's address changes, the new socket is opened before the old one closes; if that fails, the old one
//! stays. Connections to the old socket are served, those in its accept queue too.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::Arc;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::descriptors::CONTROL_CONNECTIONS;
use super::routers::Routers;
use crate::admin::Server;
use crate::config::{Settings, Sockets};
use crate::control::State;
use crate::proxy::listener::sockets::Socket;
use crate::proxy::listener::{Listener, ListenerKind};
use crate::transport::{BindError, bind, bind_range, refuse_new};

/// The sockets, and the listeners whose connections they accept.
pub(super) struct BoundListeners {
    pub(super) routers: Routers,
    /// Empty when interception is off.
    pub(super) transparent: Vec<Arc<Socket>>,
    admin: Control,
    probes: Option<Control>,
    by_kind: Listeners,
}

/// The other listeners, in the order of metrics.
pub(super) struct Listeners {
    transparent: Arc<Listener>,
    admin: Arc<Listener>,
    probes: Arc<Listener>,
}

/// A listener of the control plane. Its server accepts on a duplicate.
struct Control {
    tcp: TcpListener,
    /// Retires the listener when dropped.
    in_use: DropGuard,
}

/// The explicit proxy's sockets while weir drains.
pub(super) struct Explicit(Vec<Arc<Socket>>);

impl Explicit {
    /// Stops accepting. Keep the returned value until weir ends: while it exists, a new client is not refused but
    /// retries a second later and reaches the next process that listens.
    pub(super) fn close(self) -> Option<Self> {
        // If a socket cannot refuse new connections, the kernel would still establish them, and nobody would accept
        // them.
        refuse(&self.0).then_some(self)
    }
}

/// Makes `sockets` refuse new connections. Returns whether that worked.
fn refuse(sockets: &[Arc<Socket>]) -> bool {
    let causes: Vec<_> = sockets.iter().filter_map(|it| refuse_new(&it.tcp).err()).collect();
    // One message for all: the cause is the same, usually that newer kernels require a capability.
    if let Some(cause) = causes.first() {
        let why = match cause.kind() {
            std::io::ErrorKind::PermissionDenied => "the kernel asks for CAP_NET_ADMIN".to_owned(),
            _ => cause.to_string(),
        };
        tracing::warn!("clients that connect while weir closes its listeners may be reset: {why}");
    }
    causes.is_empty()
}

impl Listeners {
    fn new() -> Self {
        let [transparent, admin, probes] =
            [ListenerKind::Transparent, ListenerKind::Admin, ListenerKind::Probes].map(Listener::new);
        Self { transparent, admin, probes }
    }

    /// Opens and closes listeners to match `settings`, with their allowed clients. Data plane listeners accept at most
    /// `limit` connections each.
    fn follow(&self, settings: &Settings, limit: usize) {
        match &settings.transparent {
            Some(it) => self.transparent.open_to(&it.allow, limit, it.via),
            None => self.transparent.close(),
        }
        self.admin.open_to(&settings.admin.allow, CONTROL_CONNECTIONS, false);
        match &settings.probes {
            Some(it) => self.probes.open_to(&it.allow, CONTROL_CONNECTIONS, false),
            None => self.probes.close(),
        }
    }
}

impl Control {
    fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let tcp = bind(address)?;
        Ok(Self { tcp, in_use: CancellationToken::new().drop_guard() })
    }

    /// The socket that its server accepts on, and the token that tells the server that the listener is retired.
    fn serve(&self) -> anyhow::Result<(TcpListener, CancellationToken)> {
        Ok((self.tcp.try_clone()?, self.in_use.token().clone()))
    }
}

impl BoundListeners {
    /// Binds what `settings` asks for.
    ///
    /// # Errors
    ///
    /// One sentence: the address, the cause, and what to do.
    pub(super) fn bind(settings: &Settings) -> Result<Self, BindError> {
        let by_kind = Listeners::new();
        Ok(Self {
            routers: Routers::bind(settings)?,
            transparent: match &settings.transparent {
                Some(it) if it.sockets == Sockets::Node => {
                    many(&by_kind.transparent, bind_range(it.listen, it.ports)?)
                }
                // In the pods, they come and go with those.
                Some(_) | None => Vec::new(),
            },
            admin: Control::bind(settings.admin.listen)?,
            probes: settings.probes.as_ref().map(|it| Control::bind(it.listen)).transpose()?,
            by_kind,
        })
    }

    /// The bound addresses: weir must never connect to them.
    pub(super) fn bound(&self) -> Vec<SocketAddr> {
        let data = self.data().into_iter().filter_map(|it| it.address());
        let control = [&self.admin].into_iter().chain(&self.probes);
        control.filter_map(|it| it.tcp.local_addr().ok()).chain(data).collect()
    }

    /// The data plane's sockets.
    pub(super) fn data(&self) -> Vec<Arc<Socket>> {
        self.routers.sockets().chain(&self.transparent).cloned().collect()
    }

    /// Starts draining: the transparent sockets accept no new connections and are left to the workers. Returns the
    /// explicit proxy's sockets, which still accept.
    pub(super) fn drain(&mut self) -> Explicit {
        refuse(&std::mem::take(&mut self.transparent));
        Explicit(self.routers.take())
    }

    /// The listener of diverted connections.
    pub(super) fn transparent_kind(&self) -> Arc<Listener> {
        self.by_kind.transparent.clone()
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
        let Listeners { transparent, admin, probes } = &self.by_kind;
        self.routers.listeners().chain([transparent, admin, probes]).cloned().collect()
    }

    /// Serves the control plane's listeners.
    ///
    /// # Errors
    ///
    /// A socket cannot be used.
    pub(super) fn serve(&self, server: &Arc<Server>) -> anyhow::Result<()> {
        let (tcp, retired) = self.admin.serve()?;
        super::tasks::serve(server, &self.by_kind.admin, tcp, retired)?;
        if let Some(probes) = &self.probes {
            let (tcp, retired) = probes.serve()?;
            super::tasks::serve(server, &self.by_kind.probes, tcp, retired)?;
        }
        Ok(())
    }

    /// Makes the routers of the explicit proxy those of `written`. Old sockets accept no new connections from now on; new
    /// ones do after [`Self::publish`]. Returns what could not be bound.
    pub(super) fn change_routers(&mut self, written: &Settings) -> Vec<String> {
        let (gone, failed) = self.routers.change(written);
        refuse(&gone);
        failed
    }

    /// Has the workers accept on all sockets, and tells the control plane of all listeners. Those that are gone are
    /// retired: the workers serve who is already connected.
    pub(super) fn publish(&self, control: &State) {
        control.shared.sockets.set(self.data());
        control.follow(self.all());
    }

    /// Moves the admin's listener.
    ///
    /// # Errors
    ///
    /// The new address cannot be bound or served; the old listener stays.
    pub(super) fn move_admin(&mut self, server: &Arc<Server>, to: SocketAddr) -> anyhow::Result<()> {
        let new = Control::bind(to)?;
        let (tcp, retired) = new.serve()?;
        super::tasks::serve(server, &self.by_kind.admin, tcp, retired)?;
        self.admin = new;
        moved(ListenerKind::Admin, None, self.admin.tcp.local_addr().ok().as_slice());
        Ok(())
    }

    /// Moves the probes' listener; `None` closes it.
    ///
    /// # Errors
    ///
    /// The new address cannot be bound or served; the old listener stays.
    pub(super) fn move_probes(&mut self, server: &Arc<Server>, to: Option<SocketAddr>) -> anyhow::Result<()> {
        let new = to.map(Control::bind).transpose()?;
        if let Some(new) = &new {
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
        let mut line = format!("weir: listening outgoing={outgoing} admin={}", at(&self.admin));
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
        // Only once: a container's log has both outputs. If nobody reads standard output, it goes to the other.
        if !takes_a_line(&std::io::stdout()) {
            return tracing::info!("{}", &line["weir: ".len()..]);
        }
        // The output may be full by now: wait for it on a separate thread.
        let written = thread::Builder::new().name("weir-announce".to_owned()).spawn(move || {
            let _ = writeln!(std::io::stdout(), "{line}");
        });
        if let Err(cause) = written {
            tracing::warn!(%cause, "no thread to say on standard output where weir listens");
        }
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

/// Whether the output has a reader and a line can be written without blocking.
fn takes_a_line(output: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
    let has_room = poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        && polled[0].revents().is_some_and(|it| {
            it.contains(PollFlags::POLLOUT) && !it.intersects(PollFlags::POLLERR | PollFlags::POLLHUP)
        });
    has_room && !is_null(output)
}

/// Whether the output is /dev/null.
fn is_null(output: &impl AsFd) -> bool {
    let device = |file: File| file.metadata().map(|it| (it.file_type().is_char_device(), it.rdev())).ok();
    let (Ok(output), Ok(null)) = (output.as_fd().try_clone_to_owned(), File::open("/dev/null")) else {
        return false;
    };
    device(output.into()) == device(null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_line_is_for_whoever_reads_it_and_waits_for_nobody() {
        assert!(takes_a_line(&tempfile::tempfile().unwrap()));
        assert!(!takes_a_line(&File::options().write(true).open("/dev/null").unwrap()));
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(takes_a_line(&writer));
        drop(reader);
        assert!(!takes_a_line(&writer), "nobody reads any more");
        let (full, other) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while (&full).write(&[0; 4096]).is_ok() {}
        assert!(!takes_a_line(&full));
        drop(other);
    }
}
