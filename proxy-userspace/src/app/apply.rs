//! Applies a changed configuration while weir runs.
//!
//! Nearly every setting takes effect without closing a connection. A setting that cannot be applied (a port that is
//! taken, for example) keeps its old value, and the reason is reported. Two things wait for the next start: the number
//! of workers, because all per-worker state depends on it, and what [`waiting`] lists without a reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::listeners::BoundListeners;
use super::objects::Known;
use super::services::Services;
use super::{connector, descriptors, objects, reconciler};
use crate::admin::Server;
use crate::config::{Admin, Drain, Handover, Limits, Log, Outgoing, Probes, Settings, Transparent};
use crate::control::State;
use crate::discovery::dns::Dns;
use crate::proxy::routing::snapshot::{Node, RoutingConfig};
use crate::telemetry::log;

/// What a reload changes.
pub(super) struct Running {
    pub(super) control: Arc<State>,
    pub(super) server: Arc<Server>,
    pub(super) config: watch::Sender<RoutingConfig>,
    pub(super) listeners: Arc<Mutex<BoundListeners>>,
    pub(super) services: Services,
}

/// If a new configuration is not in force after this time, its new listeners open nevertheless.
const RECONCILED: Duration = Duration::from_secs(5);

/// The reason why settings are not in force, by section.
type Reasons = BTreeMap<&'static str, String>;

impl Running {
    /// Puts `written` into force. Returns the settings that are not in force afterwards.
    pub(super) async fn apply(&self, written: &Settings) -> Vec<String> {
        let now = self.control.settings();
        let in_pods = self.control.netns.is_in_pods();
        let mut next = changeable(&now, written, in_pods);
        let mut why = Reasons::new();
        self.discover(written, &mut next, &mut why).await;
        self.secure(&now, written, &mut next, &mut why);
        let listening = self.listen(&now, written, &mut next, &mut why);
        let limit = match descriptors::connections(&next, in_pods) {
            Ok(limit) => Some(limit),
            Err(error) => {
                why.insert("limits.connections", error.to_string());
                None
            }
        };
        self.narrow(&next, limit);
        self.connect(&now, &next);
        if now.log.level != next.log.level {
            log::set_level(next.log.level.as_str());
        }
        let routers = self.listeners.lock().routers.ids();
        let known = match &self.services.cluster {
            Some(cluster) => {
                // What is wanted for the first time has yet to be read. The rules in force need theirs until then.
                objects::want(cluster, &[&now, &next]);
                Known::within(cluster, next.limits.first_list).await
            }
            None => Known::default(),
        };
        // Nothing waits from here until it is handed over: what others change of it meanwhile would be lost.
        let node = Node { listeners: listening, routers, ..self.config.borrow().node.clone() };
        let config = reconciler::config(&next, node, &known);
        let waiting = waiting(&next, written, &why);
        self.control.configuration.reloaded(next, waiting.clone());
        // At an address that becomes another router's, clients wait for the rules of that.
        self.control.shared.sockets.leave_handed_over();
        self.put_into_force(config).await;
        if let Some(cluster) = &self.services.cluster {
            objects::want(cluster, &[&self.control.settings()]);
        }
        self.widen(limit);
        waiting
    }

    /// Closes the routers' listeners to clients that are not allowed any more. Those that are newly allowed have to wait
    /// for their rules, whatever else these wait for; see [`Self::widen`].
    fn narrow(&self, next: &Settings, limit: Option<usize>) {
        let listeners = self.listeners.lock();
        listeners.routers.narrow(next);
        if let Some(limit) = limit {
            listeners.follow_others(next, limit);
        }
    }

    /// Opens the routers' listeners to all clients in the settings in force, and the new ones to anybody: a client is
    /// never served by rules that were not meant for it.
    fn widen(&self, limit: Option<usize>) {
        let listeners = self.listeners.lock();
        if let Some(limit) = limit {
            listeners.routers.follow(&self.control.settings(), limit);
        }
        listeners.publish(&self.control);
    }

    /// Hands `config` to the reconciler, and waits for it a little.
    async fn put_into_force(&self, config: RoutingConfig) {
        let routing = &self.control.shared.routing;
        let mut moved = routing.moved.subscribe();
        self.config.send_replace(config);
        // Others may change it meanwhile: the newest one has these settings, too.
        let is_in_force = || routing.snapshot.load().config == *self.config.borrow();
        let in_force = async {
            while !is_in_force() {
                let _ = moved.changed().await;
            }
        };
        if timeout(RECONCILED, in_force).await.is_err() {
            tracing::error!("the reconciler does not take the new configuration over");
        }
    }

    /// Switches service discovery to its configured sources.
    async fn discover(&self, written: &Settings, next: &mut Settings, why: &mut Reasons) {
        let (now, wanted) = (&mut next.discovery, &written.discovery);
        if now.files != wanted.files {
            match self.services.folder.change(wanted.files.clone()).await {
                Ok(()) => {
                    super::tasks::pass_on(&self.control, &self.services.folder);
                    now.files.clone_from(&wanted.files);
                }
                Err(error) => drop(why.insert("discovery", format!("{error:#}"))),
            }
        }
        // Whether there is a cluster at all affects more than the service sources, so only a change of its settings is
        // applied.
        if let (Some(cluster), Some(wanted)) = (&self.services.cluster, &wanted.kubernetes)
            && now.kubernetes.as_ref() != Some(wanted)
        {
            cluster.change(wanted.clone());
            now.kubernetes = Some(wanted.clone());
        }
    }

    /// Moves listeners whose address changed and returns the addresses then in use. What failed is reset in `next`.
    fn listen(
        &self,
        now: &Settings,
        written: &Settings,
        next: &mut Settings,
        why: &mut Reasons,
    ) -> Vec<std::net::SocketAddr> {
        let mut listeners = self.listeners.lock();
        if self.control.shared.drain.is_closing() {
            // While weir drains it opens no listener: the next weir has its own.
            return listeners.bound();
        }
        let routers = |all: &Settings| {
            all.all_routers().map(|it| (it.label.clone(), it.listen.clone())).collect::<Vec<_>>()
        };
        if routers(now) != routers(written) {
            let failed = listeners.change_routers(written);
            if !failed.is_empty() {
                why.insert("outgoing", failed.join("; "));
            }
        }
        let in_force = std::iter::once(&mut next.outgoing).chain(&mut next.routers);
        in_force.zip(listeners.routers.addresses()).for_each(|(router, at)| router.listen = at);
        if now.admin.listen != written.admin.listen {
            match listeners.move_admin(&self.server, written.admin.listen) {
                Ok(()) => next.admin.listen = written.admin.listen,
                Err(error) => drop(why.insert("admin", format!("{error:#}"))),
            }
        }
        let listen = |probes: &Option<Probes>| probes.as_ref().map(|it| it.listen);
        if listen(&now.probes) != listen(&written.probes) && !why.contains_key("probes") {
            match listeners.move_probes(&self.server, listen(&written.probes)) {
                Ok(()) => match (&mut next.probes, &written.probes) {
                    (Some(next), Some(written)) => next.listen = written.listen,
                    // The socket is opened at start.
                    (next, written) => {
                        *next = written.clone().map(|it| Probes { socket: None, ..it });
                    }
                },
                Err(error) => drop(why.insert("probes", format!("{error:#}"))),
            }
        }
        listeners.bound()
    }

    /// Applies the TLS settings of the probes' listener. What failed is reset in `next`.
    fn secure(&self, now: &Settings, written: &Settings, next: &mut Settings, why: &mut Reasons) {
        let tls = |settings: &Settings| settings.probes.as_ref().map(|it| it.tls.clone());
        if tls(now) == tls(written) && now.readers().tokens == written.readers().tokens {
            return;
        }
        match (self.server.secure_probes(written), &mut next.probes, &written.probes) {
            (Ok(()), Some(next), Some(written)) => next.tls.clone_from(&written.tls),
            (Ok(()), _, _) => {}
            (Err(error), _, _) => drop(why.insert("probes", format!("{error:#}"))),
        }
    }

    /// Applies settings of upstream connections and of external names.
    fn connect(&self, now: &Settings, next: &Settings) {
        let shared = &self.control.shared;
        let received = shared.sockets.received.clone();
        shared.connecting.connector.store(Arc::new(connector(next, received)));
        if now.limits.outside != next.limits.outside {
            shared.routing.external.keep(next.limits.outside);
        }
        if now.names.dns != next.names.dns {
            shared.routing.external.ask(next.names.dns.as_ref().map(Dns::new));
        }
    }
}

/// The settings in force when `written` follows `now`, without the listeners' addresses, which must be bound first. With
/// weir's sockets `in_pods`, keys that there are only on the node wait for the next start.
fn changeable(now: &Settings, written: &Settings, in_pods: bool) -> Settings {
    let transparent = match (&now.transparent, &written.transparent) {
        (Some(now), Some(written)) => Some(Transparent {
            divert: if in_pods { now.divert.clone() } else { written.divert.clone() },
            exclude_namespaces: written.exclude_namespaces.clone(),
            allow: written.allow.clone(),
            via: written.via,
            required: written.required,
            source_addresses: if in_pods {
                now.source_addresses.clone()
            } else {
                written.source_addresses.clone()
            },
            adopt: written.adopt,
            adopt_idle: written.adopt_idle,
            adopt_every: written.adopt_every,
            ..now.clone()
        }),
        (now, _) => now.clone(),
    };
    let probes = match (&now.probes, &written.probes) {
        (Some(now), Some(written)) => {
            Some(Probes { allow: written.allow.clone(), metrics: written.metrics.clone(), ..now.clone() })
        }
        (now, _) => now.clone(),
    };
    Settings {
        outgoing: Outgoing { listen: now.outgoing.listen.clone(), ..written.outgoing.clone() },
        routers: written.routers.clone(),
        // The task `identity` reads the files of what is in force here.
        identity: written.identity.clone(),
        transparent,
        admin: Admin { listen: now.admin.listen, ..written.admin.clone() },
        probes,
        dtab: written.dtab.clone(),
        namers: written.namers.clone(),
        names: written.names.clone(),
        drain: Drain {
            grace: written.drain.grace,
            // Whether the next weir may take over, and where, is decided at start.
            handover: now.drain.handover.clone().map(|now| Handover {
                grace: written.drain.handover.as_ref().map_or(now.grace, |it| it.grace),
                ready: written.drain.handover.as_ref().map_or(now.ready, |it| it.ready),
                ..now
            }),
        },
        limits: Limits {
            tuples: now.limits.tuples,
            destinations: now.limits.destinations,
            ..written.limits.clone()
        },
        refuse: written.refuse.clone(),
        breaker: written.breaker.clone(),
        policies: written.policies.clone(),
        log: Log { level: written.log.level, ..now.log.clone() },
        workers: now.workers,
        discovery: now.discovery.clone(),
    }
}

/// The settings in `written` that are not `in_force`, with a reason unless they only wait for the next start.
fn waiting(in_force: &Settings, written: &Settings, why: &Reasons) -> Vec<String> {
    let (old, new) = (in_force, written);
    [
        ("outgoing", old.outgoing != new.outgoing || old.routers != new.routers),
        ("transparent", old.transparent != new.transparent),
        ("admin", old.admin != new.admin),
        ("probes", old.probes != new.probes),
        ("workers", old.workers != new.workers),
        ("discovery", old.discovery != new.discovery),
        ("drain", old.drain != new.drain),
        ("limits.connections", why.contains_key("limits.connections")),
        ("limits.tuples", old.limits.tuples != new.limits.tuples),
        ("limits.destinations", old.limits.destinations != new.limits.destinations),
        ("log", old.log != new.log),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(section, _)| match why.get(section) {
        Some(why) => format!("{section}: {why}"),
        None => section.to_owned(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Adopt;

    #[test]
    fn what_waits_stays_as_it_is_and_is_said_however_often_the_file_is_read() {
        let started = Settings { transparent: Some(Transparent::default()), ..Settings::default() };
        let mut written = started.clone();
        written.names.dns = None;
        written.workers = started.workers + 1;
        written.limits.attempts = 5;
        written.limits.tuples = 7;
        written.drain.grace *= 2;
        let divert = Some(vec!["10.0.0.0/8".parse().unwrap()]);
        written.transparent = Some(Transparent {
            ports: 2,
            divert: divert.clone(),
            via: true,
            adopt: Adopt::Off,
            ..Transparent::default()
        });
        let now = changeable(&started, &written, false);
        assert_eq!((&now.names.dns, now.workers), (&None, started.workers));
        assert_eq!((now.limits.tuples, now.limits.attempts), (started.limits.tuples, 5));
        assert_eq!(now.drain, written.drain);
        let transparent = now.transparent.as_ref().unwrap();
        assert_eq!((transparent.ports, &transparent.divert, transparent.via), (8, &divert, true));
        assert_eq!(transparent.adopt, Adopt::Off);
        let held = ["transparent", "workers", "limits.tuples"];
        let reasons = Reasons::new();
        assert_eq!(waiting(&now, &written, &reasons), held);
        assert_eq!(waiting(&changeable(&now, &written, false), &written, &reasons), held);
        assert_eq!(waiting(&changeable(&now, &started, false), &started, &reasons), [""; 0]);
        // There is no such thing with sockets in the pods: they would have to be on the node.
        let in_pods = changeable(&started, &written, true);
        assert_eq!(in_pods.transparent.as_ref().unwrap().divert, None);
        assert_eq!(waiting(&in_pods, &written, &reasons), held);
        let reasons =
            Reasons::from([("workers", "why".to_owned()), ("outgoing", "nothing differs".to_owned())]);
        assert_eq!(waiting(&now, &written, &reasons), ["transparent", "workers: why", "limits.tuples"]);
    }
}
