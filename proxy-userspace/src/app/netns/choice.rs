//! Where weir's sockets for diverted connections are: in the pods' network namespaces, or on the node. Decided once, at the
//! start.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::sleep;

use super::Prepared;
use super::looks::Looks;
use crate::app::inherited::FREED;
use crate::config::{Settings, Sockets, Transparent};
use crate::control::SocketPlace;
use crate::intercept::{self, PodSockets};
use crate::transport::NetnsThread;

/// The ports of diverted connections in pods: each weir of a node uses one of them, in all pods the same.
const PORTS: std::ops::RangeInclusive<u16> = 4136..=4139;

/// What the names that reserve them start with.
const RESERVED: &str = "weir-pod-port-";

/// Files of the folder that are tried at the start, until one can be entered.
const TRIED: usize = 64;

/// Where the sockets are, and what that needs.
pub(in crate::app) struct Chosen {
    /// `None` where nothing is to be diverted.
    pub(in crate::app) place: Option<SocketPlace>,
    /// With sockets in the pods: what they need, or in one sentence why that is not to be had.
    pub(in crate::app) in_pods: Option<anyhow::Result<Prepared>>,
}

impl Chosen {
    fn on_node(why: Option<String>) -> Self {
        let place = SocketPlace { in_pods: false, why: why.map(Into::into) };
        Self { place: Some(place), in_pods: None }
    }

    fn in_pods(prepared: anyhow::Result<Prepared>) -> Self {
        Self { place: Some(SocketPlace { in_pods: true, why: None }), in_pods: Some(prepared) }
    }
}

/// Chooses as `settings` say. With [`Sockets::Auto`] the sockets are in the pods unless
/// weir lacks the folder or the right to enter, or a key is set that there is only on the node.
///
/// What only lacks for a time, such as a free port or descriptor, is no reason to go to the node: weir would lend its address to
/// everybody for as long as it runs.
pub(in crate::app) async fn choose(settings: &Settings) -> Chosen {
    let Some(transparent) = &settings.transparent else { return Chosen { place: None, in_pods: None } };
    let wait = if settings.drain.handover.is_some() { FREED } else { Duration::ZERO };
    let chosen = match transparent.sockets {
        Sockets::Node => Chosen::on_node(None),
        Sockets::Pod => {
            let prepared = match enter(transparent) {
                Ok(threads) => prepare(threads, transparent, wait).await,
                Err(why) => Err(why),
            };
            let or = |why| anyhow::anyhow!("{why:#}, or set transparent.sockets: node");
            Chosen::in_pods(prepared.map_err(or))
        }
        Sockets::Auto => match transparent.only_on_node() {
            Some(key) => {
                Chosen::on_node(Some(format!("transparent.{key} is set, which is only there on the node")))
            }
            None => automatic(transparent, wait).await,
        },
    };
    if let Some(why) = chosen.place.as_ref().and_then(|it| it.why.as_ref()) {
        tracing::warn!(
            "weir's sockets are on the node, so endpoints and NetworkPolicies see the node's address and not the pod's: {why}"
        );
    }
    chosen
}

/// In the pods, if weir may enter their network namespaces.
async fn automatic(transparent: &Transparent, wait: Duration) -> Chosen {
    let threads = match enter(transparent) {
        Ok(threads) => threads,
        Err(why) if passes(&why) => return Chosen::in_pods(Err(why)),
        Err(why) => return Chosen::on_node(Some(format!("{why:#}"))),
    };
    match refusal(&transparent.netns, &threads[1]).await {
        Some(why) => Chosen::on_node(Some(why)),
        None => Chosen::in_pods(prepare(threads, transparent, wait).await),
    }
}

/// Whether this may be over at the next start.
fn passes(why: &anyhow::Error) -> bool {
    let errno = why.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    matches!(errno, Some(libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

/// Why weir may enter none of the network namespaces that are there now. `None` if it may enter one, or there is none yet:
/// where it may enter only some, the others' pods go direct, each with its reason.
async fn refusal(folder: &Path, thread: &NetnsThread) -> Option<String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
            return Some(format!("{} cannot be listed: {cause}", folder.display()));
        }
        Err(_) => return None,
    };
    let mut refused = None;
    for path in entries.flatten().take(TRIED).map(|it| it.path()) {
        let (netns, shown) = (path.clone(), path.display());
        match thread.run(move || Ok(intercept::open_netns(&netns)?.0), || Ok(())).await {
            Ok(()) => return None,
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                refused.get_or_insert_with(|| {
                    format!("weir may enter none of the pods' network namespaces: {shown}: {cause}")
                });
            }
            // Another file, or gone meanwhile: it says nothing.
            Err(_) => {}
        }
    }
    refused
}

/// Starts the threads that enter network namespaces.
fn enter(transparent: &Transparent) -> anyhow::Result<[NetnsThread; 2]> {
    let folder = transparent.netns.display();
    match fs::metadata(&transparent.netns) {
        Ok(it) if it.is_dir() => {}
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            return Err(cause).with_context(|| format!("{folder} cannot be looked at"));
        }
        Ok(_) | Err(_) => bail!(
            "{folder} is no folder: mount the one in which the container runtime mounts the pods' network namespaces \
             (hostPath, mountPropagation: HostToContainer), or name it in transparent.netns"
        ),
    }
    let start = || {
        let what = "weir may not enter the pods' network namespaces: give it CAP_SYS_ADMIN";
        NetnsThread::start().context(what)
    };
    Ok([start()?, start()?])
}

async fn prepare(
    [thread, looks]: [NetnsThread; 2],
    transparent: &Transparent,
    wait: Duration,
) -> anyhow::Result<Prepared> {
    let (port, taken) = free_port(RESERVED, wait).await?;
    Ok(Prepared {
        thread,
        looks: Looks::new(looks),
        sockets: PodSockets { port, prefix6: transparent.pod_prefix6 },
        folder: transparent.netns.clone(),
        taken: Some(taken),
    })
}

/// The first port that no other weir of this node uses, and the socket that says so as long as this weir lives: a name in
/// the abstract namespace of the node's Unix sockets, which the kernel frees with the process. Weirs that have handed over free
/// theirs within `wait`.
async fn free_port(reserved: &str, wait: Duration) -> anyhow::Result<(u16, UnixDatagram)> {
    let end = Instant::now() + wait;
    loop {
        for port in PORTS {
            match take(reserved, port) {
                Ok(taken) => return Ok((port, taken)),
                Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {}
                Err(cause) => return Err(cause).context("a Unix socket that reserves the port in pods"),
            }
        }
        if Instant::now() >= end {
            bail!(
                "other weirs of this node use every port of diverted connections in pods ({} to {}): end one of them",
                PORTS.start(),
                PORTS.end()
            );
        }
        // Probes are answered meanwhile.
        sleep(Duration::from_millis(20)).await;
    }
}

fn take(reserved: &str, port: u16) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("{reserved}{port}"))?)
}

/// Whether no other weir of this node has sockets in pods: what is shared with it may be removed.
pub(super) fn is_alone(own: u16) -> bool {
    PORTS.filter(|port| *port != own).all(|port| take(RESERVED, port).is_ok())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    async fn chosen(transparent: Transparent) -> (bool, Option<String>, bool) {
        let settings = Settings { transparent: Some(transparent), ..Settings::default() };
        let Chosen { place: Some(place), in_pods } = choose(&settings).await else { panic!("no place") };
        let is_possible = in_pods.as_ref().is_none_or(Result::is_ok);
        assert_eq!(place.in_pods, in_pods.is_some());
        (place.in_pods, place.why.as_deref().map(str::to_owned), is_possible)
    }

    #[tokio::test]
    async fn what_lacks_sends_the_sockets_to_the_node_only_where_the_configuration_leaves_it_open() {
        let off = choose(&Settings::default()).await;
        assert!(off.place.is_none() && off.in_pods.is_none());
        let nowhere = PathBuf::from("/nowhere/netns");
        let without = |sockets| Transparent { sockets, netns: nowhere.clone(), ..Transparent::default() };
        assert_eq!(chosen(without(Sockets::Node)).await, (false, None, true));
        assert_eq!(chosen(without(Sockets::Pod)).await, (true, None, false));
        let (in_pods, why, _) = chosen(without(Sockets::Auto)).await;
        assert!(!in_pods && why.is_some_and(|why| why.starts_with("/nowhere/netns is no folder")));
    }

    #[tokio::test]
    async fn keys_that_are_only_there_on_the_node_mean_it() {
        let divert = Some(vec!["10.0.0.0/8".parse().unwrap()]);
        let sources = vec!["10.0.0.7".parse().unwrap()];
        for (key, transparent) in [
            ("host", Transparent { host: true, ..Transparent::default() }),
            ("divert", Transparent { divert, ..Transparent::default() }),
            ("sourceAddresses", Transparent { source_addresses: sources, ..Transparent::default() }),
        ] {
            let why = format!("transparent.{key} is set, which is only there on the node");
            assert_eq!(chosen(transparent).await, (false, Some(why), true));
        }
    }

    #[tokio::test]
    async fn where_every_port_is_taken_weir_waits_for_those_that_have_handed_over() {
        let reserved = format!("weir-unit-{}-", std::process::id());
        let mut others = Vec::new();
        for expected in PORTS {
            let (port, taken) = free_port(&reserved, Duration::ZERO).await.unwrap();
            assert_eq!(port, expected);
            others.push(taken);
        }
        let why = free_port(&reserved, Duration::from_millis(30)).await.unwrap_err();
        assert!(why.to_string().contains("end one of them"), "{why}");
        let freed = async {
            sleep(Duration::from_millis(30)).await;
            drop(others.remove(2));
        };
        let (found, ()) = tokio::join!(free_port(&reserved, Duration::from_secs(60)), freed);
        assert_eq!(found.unwrap().0, 4138);
    }

    #[test]
    fn only_what_does_not_pass_is_a_reason_to_go_to_the_node() {
        for (errno, is_over_soon) in [
            (libc::EPERM, false),
            (libc::EACCES, false),
            (libc::ENOSYS, false),
            (libc::EINVAL, false),
            (libc::ENOENT, false),
            (libc::EAGAIN, true),
            (libc::EMFILE, true),
            (libc::ENFILE, true),
            (libc::ENOMEM, true),
        ] {
            let why = Err::<(), _>(io::Error::from_raw_os_error(errno)).context("weir may not enter");
            assert_eq!(passes(&why.unwrap_err()), is_over_soon, "{errno}");
        }
        assert!(!passes(&anyhow::anyhow!("/nowhere is no folder")));
    }

    #[tokio::test]
    async fn files_that_are_no_namespaces_say_nothing_of_the_right_to_enter() {
        let Ok(thread) = NetnsThread::start() else { return };
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(refusal(folder.path(), &thread).await, None);
        assert_eq!(refusal(Path::new("/nowhere/netns"), &thread).await, None);
        fs::write(folder.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", folder.path().join("pod")).unwrap();
        assert_eq!(refusal(folder.path(), &thread).await, None);
    }
}
