//! Every socket weir listens on, bound before anything else is started.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use anyhow::Context;

use super::descriptors::CONTROL_CONNECTIONS;
use crate::config::Settings;
use crate::proxy::session::{Door, Way};
use crate::transport::{bind, bind_range, refuse_new};

/// The sockets. Kept for the life of the process: workers accept on duplicates.
pub(super) struct Listeners {
    /// None where `outgoing.listen` is `none`.
    outgoing: Option<TcpListener>,
    /// Empty when interception is off.
    pub(super) transparent: Vec<TcpListener>,
    pub(super) admin: TcpListener,
    pub(super) probes: Option<TcpListener>,
}

/// The explicit proxy's socket, of a weir that drains.
pub(super) struct Explicit(Option<TcpListener>);

impl Explicit {
    /// It takes nobody new either. What is returned is to be kept until weir ends: as long as it is there, whoever connects
    /// is not refused but tries again a second later, and meets whoever listens then.
    pub(super) fn close(self) -> Option<Self> {
        // A socket that cannot refuse newcomers would go on connecting them, and nobody would accept them.
        refuse(self.0.as_slice()).then_some(self)
    }
}

/// From now on `listeners` take nobody new. Whether that could be done.
fn refuse(listeners: &[TcpListener]) -> bool {
    let causes: Vec<_> = listeners.iter().filter_map(|listener| refuse_new(listener).err()).collect();
    // One word on all of them: the cause is the same, mostly that newer kernels ask for a capability.
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
    /// Binds what `settings` asks for.
    ///
    /// # Errors
    ///
    /// One sentence: the address, why not, and what to do.
    pub(super) fn bind(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            outgoing: settings.outgoing.listen.map(bind).transpose()?,
            transparent: match &settings.transparent {
                Some(it) => bind_range(it.listen, it.ports)?,
                None => Vec::new(),
            },
            admin: bind(settings.admin.listen)?,
            probes: settings.probes.as_ref().map(|it| bind(it.listen)).transpose()?,
        })
    }

    /// Where they are: what weir must never connect to.
    pub(super) fn bound(&self) -> Vec<SocketAddr> {
        let all =
            [&self.admin].into_iter().chain(&self.outgoing).chain(&self.transparent).chain(&self.probes);
        all.filter_map(|it| it.local_addr().ok()).collect()
    }

    /// weir drains: the transparent sockets take nobody new, and are left to the workers. The explicit proxy's, which serves
    /// on, is returned.
    pub(super) fn drain(self) -> Explicit {
        refuse(&self.transparent);
        Explicit(self.outgoing)
    }

    /// What weir knows of its listeners, of which those of the data plane have room for `limit` connections each.
    pub(super) fn doors(&self, settings: &Settings, limit: usize) -> Vec<Arc<Door>> {
        let outgoing = &settings.outgoing;
        let mut doors = vec![Door::new(Way::Outgoing, outgoing.allow.clone(), limit, outgoing.via)];
        if let Some(it) = &settings.transparent {
            doors.push(Door::new(Way::Transparent, it.allow.clone(), limit, it.via));
        }
        doors.push(Door::new(Way::Admin, settings.admin.allow.clone(), CONTROL_CONNECTIONS, false));
        if let Some(it) = &settings.probes {
            doors.push(Door::new(Way::Probes, it.allow.clone(), CONTROL_CONNECTIONS, false));
        }
        doors
    }

    /// One worker's duplicates of the data plane's sockets.
    pub(super) fn for_worker(&self, doors: &[Arc<Door>]) -> anyhow::Result<Vec<(Arc<Door>, TcpListener)>> {
        let of = |way: Way| match way {
            Way::Outgoing => self.outgoing.as_slice(),
            Way::Transparent => &self.transparent,
            Way::Admin | Way::Probes => &[],
        };
        doors
            .iter()
            .flat_map(|door| of(door.way).iter().map(move |listener| (door, listener)))
            .map(|(door, listener)| Ok((door.clone(), listener.try_clone().context("no descriptor left")?)))
            .collect()
    }

    /// Says on standard output where weir listens: the one line that scripts may wait for.
    pub(super) fn announce(&self) {
        let at =
            |it: &TcpListener| it.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
        let outgoing = self.outgoing.as_ref().map_or_else(|| "none".to_owned(), at);
        let mut line = format!("weir: listening outgoing={outgoing} admin={}", at(&self.admin));
        if let Some(probes) = &self.probes {
            line += &format!(" probes={}", at(probes));
        }
        if let (Some(first), Some(last)) = (self.transparent.first(), self.transparent.last()) {
            let last = last.local_addr().map_or(0, |address| address.port());
            line += &format!(" transparent={}-{last}", at(first));
        }
        tracing::info!("{}", &line["weir: ".len()..]);
        // Nobody may be there to read it, which is no reason to fail, nor to wait: a thread of its own does.
        let written = thread::Builder::new().name("weir-announce".to_owned()).spawn(move || {
            let _ = writeln!(std::io::stdout(), "{line}");
        });
        if let Err(cause) = written {
            tracing::warn!(%cause, "no thread to say on standard output where weir listens");
        }
    }
}
