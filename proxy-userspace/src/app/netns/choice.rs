//! Where weir's sockets for diverted connections are: in the pods' network namespaces, or on the node. Decided once, at the
//! start.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context, bail};

use super::Prepared;
use super::looks::Looks;
use crate::config::{Settings, Sockets, Transparent};
use crate::control::SocketPlace;
use crate::intercept::PodSockets;
use crate::transport::NetnsThread;

/// The ports of diverted connections in pods: each weir of a node uses one of them, in all pods the same.
const PORTS: std::ops::RangeInclusive<u16> = 4136..=4139;

/// Where the sockets are, and what that needs.
pub(in crate::app) struct Chosen {
    pub(in crate::app) place: SocketPlace,
    /// With sockets in the pods: what they need, or in one sentence why that is not to be had.
    pub(in crate::app) in_pods: Option<anyhow::Result<Prepared>>,
}

impl Chosen {
    fn on_node(why: Option<String>) -> Self {
        Self { place: SocketPlace { in_pods: false, why: why.map(Into::into) }, in_pods: None }
    }

    fn in_pods(prepared: anyhow::Result<Prepared>) -> Self {
        Self { place: SocketPlace { in_pods: true, why: None }, in_pods: Some(prepared) }
    }
}

/// Chooses as `settings` say; `None` where nothing is to be diverted. With [`Sockets::Auto`] the sockets are in the pods unless
/// weir lacks the folder or the right to enter, or a key is set that there is only on the node.
///
/// What only lacks for a time, such as a free port, is no reason to go to the node: weir would lend its address to everybody.
pub(in crate::app) fn choose(settings: &Settings) -> Option<Chosen> {
    let transparent = settings.transparent.as_ref()?;
    let chosen = match transparent.sockets {
        Sockets::Node => Chosen::on_node(None),
        Sockets::Pod => Chosen::in_pods(
            enter(transparent)
                .and_then(|it| prepare(it, transparent))
                .map_err(|why| anyhow::anyhow!("{why:#}, or set transparent.sockets: node")),
        ),
        Sockets::Auto => match transparent.only_on_node() {
            Some(key) => {
                Chosen::on_node(Some(format!("transparent.{key} is set, which is only there on the node")))
            }
            None => match enter(transparent) {
                Ok(threads) => Chosen::in_pods(prepare(threads, transparent)),
                Err(why) => Chosen::on_node(Some(format!("{why:#}"))),
            },
        },
    };
    if let Some(why) = &chosen.place.why {
        tracing::warn!(
            "weir's sockets are on the node, so endpoints and NetworkPolicies see the node's address and not the pod's: {why}"
        );
    }
    Some(chosen)
}

/// Starts the threads that enter network namespaces.
fn enter(transparent: &Transparent) -> anyhow::Result<[NetnsThread; 2]> {
    if !transparent.netns.is_dir() {
        bail!(
            "{} is no folder: mount the one in which the container runtime mounts the pods' network namespaces \
             (hostPath, mountPropagation: HostToContainer), or name it in transparent.netns",
            transparent.netns.display()
        );
    }
    let start = || {
        let what = "weir may not enter the pods' network namespaces: give it CAP_SYS_ADMIN";
        NetnsThread::start().context(what)
    };
    Ok([start()?, start()?])
}

fn prepare([thread, looks]: [NetnsThread; 2], transparent: &Transparent) -> anyhow::Result<Prepared> {
    let (port, taken) = free_port()?;
    Ok(Prepared {
        thread,
        looks: Looks::new(looks),
        sockets: PodSockets { port, prefix6: transparent.pod_prefix6 },
        folder: transparent.netns.clone(),
        taken: Some(taken),
    })
}

/// The first port that no other weir of this node uses, and the socket that says so as long as this weir lives: a name in
/// the abstract namespace of the node's Unix sockets, which the kernel frees with the process.
fn free_port() -> anyhow::Result<(u16, UnixDatagram)> {
    for port in PORTS {
        match take(port) {
            Ok(taken) => return Ok((port, taken)),
            Err(cause) if cause.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(cause) => return Err(cause).context("a Unix socket that reserves the port in pods"),
        }
    }
    bail!(
        "other weirs of this node use every port of diverted connections in pods ({} to {}): end one of them",
        PORTS.start(),
        PORTS.end()
    )
}

fn take(port: u16) -> std::io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("weir-pod-port-{port}"))?)
}

/// Whether no other weir of this node has sockets in pods: what is shared with it may be removed.
pub(super) fn is_alone(own: u16) -> bool {
    PORTS.filter(|port| *port != own).all(|port| take(port).is_ok())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn chosen(transparent: Transparent) -> (bool, Option<String>, bool) {
        let settings = Settings { transparent: Some(transparent), ..Settings::default() };
        let it = choose(&settings).unwrap();
        let is_possible = it.in_pods.as_ref().is_none_or(Result::is_ok);
        (it.place.in_pods, it.place.why.as_deref().map(str::to_owned), is_possible)
    }

    #[test]
    fn what_lacks_sends_the_sockets_to_the_node_only_where_the_configuration_leaves_it_open() {
        assert!(choose(&Settings::default()).is_none());
        let nowhere = PathBuf::from("/nowhere/netns");
        let without = |sockets| Transparent { sockets, netns: nowhere.clone(), ..Transparent::default() };
        assert_eq!(chosen(without(Sockets::Node)), (false, None, true));
        assert_eq!(chosen(without(Sockets::Pod)), (true, None, false));
        let (in_pods, why, _) = chosen(without(Sockets::Auto));
        assert!(!in_pods && why.is_some_and(|why| why.starts_with("/nowhere/netns is no folder")));
    }

    #[test]
    fn keys_that_are_only_there_on_the_node_mean_it() {
        let divert = Some(vec!["10.0.0.0/8".parse().unwrap()]);
        let sources = vec!["10.0.0.7".parse().unwrap()];
        for (key, transparent) in [
            ("host", Transparent { host: true, ..Transparent::default() }),
            ("divert", Transparent { divert, ..Transparent::default() }),
            ("sourceAddresses", Transparent { source_addresses: sources, ..Transparent::default() }),
        ] {
            let why = format!("transparent.{key} is set, which is only there on the node");
            assert_eq!(chosen(transparent), (false, Some(why), true));
        }
    }
}
