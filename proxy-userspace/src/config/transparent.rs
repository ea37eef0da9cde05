//! `transparent`: the listeners for connections that the eBPF program diverts.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::fields::Section;
use super::problem::{Mistake, quoted};
use super::tree::Node;
use super::{Allow, values};

/// Interception: which connections are diverted, and to which ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transparent {
    /// `sockets`: where weir listens for diverted connections, and where its connections to endpoints come from. Default
    /// [`Sockets::Auto`].
    pub sockets: Sockets,
    /// `netns`: the folder in which the container runtime mounts the pods' network namespaces, for [`Sockets::Pod`].
    /// Default `/run/netns`.
    pub netns: PathBuf,
    /// `podPrefix6`: a /64 whose addresses stand for destinations in pods, for [`Sockets::Pod`]. It leads nowhere outside a
    /// pod. Default `fd6a:9c1e:57b4:4136::/64`.
    pub pod_prefix6: Ipv6Addr,
    /// `listen`: the first of [`ports`](Self::ports) consecutive ports. Default `[::]:4142`.
    pub listen: SocketAddr,
    /// `ports`: how many ports, 1 to 64. A single port would limit each pod to one range of ephemeral ports for its
    /// connections to all services together. Default 8.
    pub ports: u16,
    /// `addresses`: this node's addresses that pods can reach. Default, empty: find them. Only those that `listen`
    /// covers are used.
    pub addresses: Vec<IpAddr>,
    /// `sourceAddresses`: this node's addresses that connections to endpoints come from, for [`Sockets::Node`]; each client
    /// begins with one, and goes on to the next when no port of it is left. Default, empty: the one that the kernel chooses.
    pub source_addresses: Vec<IpAddr>,
    /// `cgroup`: the cgroup whose connections are diverted, an absolute path on the cgroup2 file system. Default: the
    /// parent of the pods' cgroups, found automatically.
    pub cgroup: Option<PathBuf>,
    /// `enrol`: whose connections are diverted. Default: [`Enrol::Pods`] if pods are known (`discovery.kubernetes`),
    /// else [`Enrol::All`].
    pub enrol: Option<Enrol>,
    /// `excludeNamespaces`: namespaces whose pods are not diverted unless annotated with `weir.dev/divert: enabled`.
    /// weir's own namespace is always excluded. Default `[kube-system]`.
    pub exclude_namespaces: Vec<String>,
    /// `divert`: the destinations that are diverted. Default: the addresses and ports of known services, except those
    /// in the namespace `kube-system`.
    pub divert: Option<Vec<IpNet>>,
    /// `host`: whether clients in the node's own network namespace are diverted too. Default false.
    pub host: bool,
    /// `required`: whether `/ready` fails without the configured interception. Default true; with `fail: closed` it
    /// always does.
    pub required: bool,
    /// `allow`: clients that may connect. Default: everyone, unlike for the other listeners. Here the eBPF program's
    /// entry for the connection is the permission: only clients in the pods' cgroup of this node get one, pods may have
    /// public addresses, and a connection without an entry is closed whatever its source.
    pub allow: Allow,
    /// `fail`: what happens to a connection that weir cannot accept. Default [`Fail::Open`].
    pub fail: Fail,
    /// `adopt`: what becomes of connections that enrolled pods opened while nothing diverted them. Default [`Adopt::Count`].
    pub adopt: Adopt,
    /// `adoptIdle`: for how long nothing has passed on a connection that [`Adopt::CloseIdle`] ends. Default 5 min.
    pub adopt_idle: Duration,
    /// `adoptEvery`: how often they are counted. Default 30 s.
    pub adopt_every: Duration,
    /// `via`: whether requests and responses get `Via: 1.1 weir`. Default false: an application that does not know of a
    /// proxy should not notice it.
    pub via: bool,
}

/// Where weir's sockets for diverted connections are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sockets {
    /// `auto`: as [`Self::Pod`] where weir may enter the pods' network namespaces, otherwise as [`Self::Node`].
    #[default]
    Auto,
    /// `node`: in the node's network namespace. Endpoints see the node's address.
    Node,
    /// `pod`: in each pod's own network namespace. Endpoints and network policies see the pod.
    Pod,
}

/// Whose connections are diverted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrol {
    /// `all`: those of every process in the pods' parent cgroup and below; annotations are ignored.
    All,
    /// `pods`: those of this node's pods, depending on annotations and `excludeNamespaces`.
    Pods,
}

/// What becomes of connections that were opened while nothing diverted them. They lead to the Service itself for as long as
/// they live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adopt {
    /// `count`: they are counted, pod by pod.
    #[default]
    Count,
    /// `close-idle`: those that are idle are ended too, so that their applications open others, which are diverted.
    CloseIdle,
    /// `off`: nobody looks for them.
    Off,
}

impl Adopt {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::CloseIdle => "close-idle",
            Self::Off => "off",
        }
    }
}

/// What happens to connections that weir cannot accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fail {
    /// `open`: they go directly to the original destination, without weir's policy.
    #[default]
    Open,
    /// `closed`: they are refused. This applies while weir's process exists (even if it hangs, drains, or has a full
    /// table). The programs are not pinned: when the process ends, the kernel detaches them, and connections go direct
    /// until the next weir attaches its own. So it is not a security boundary.
    Closed,
}

impl Transparent {
    /// The key, if one is set, that there is only with weir's sockets on the node: [`Sockets::Auto`] then means that.
    pub fn only_on_node(&self) -> Option<&'static str> {
        let keys = [
            ("host", self.host),
            ("divert", self.divert.is_some()),
            ("sourceAddresses", !self.source_addresses.is_empty()),
        ];
        keys.into_iter().find(|(_, is_set)| *is_set).map(|(key, _)| key)
    }

    /// Whether weir is unready without interception: if `required`, and always with `fail: closed`.
    pub fn is_due(&self) -> bool {
        self.required || self.fail == Fail::Closed
    }
}

impl Default for Transparent {
    fn default() -> Self {
        Self {
            sockets: Sockets::default(),
            netns: PathBuf::from("/run/netns"),
            pod_prefix6: Ipv6Addr::new(0xfd6a, 0x9c1e, 0x57b4, 0x4136, 0, 0, 0, 0),
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 4142)),
            ports: 8,
            addresses: Vec::new(),
            source_addresses: Vec::new(),
            cgroup: None,
            enrol: None,
            exclude_namespaces: vec!["kube-system".to_owned()],
            divert: None,
            host: false,
            required: true,
            allow: Allow::everyone(),
            fail: Fail::default(),
            adopt: Adopt::default(),
            adopt_idle: Duration::from_mins(5),
            adopt_every: Duration::from_secs(30),
            via: false,
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Transparent {
    let mut transparent = Transparent::default();
    let sockets = values::choice(&[("auto", Sockets::Auto), ("node", Sockets::Node), ("pod", Sockets::Pod)]);
    section.set("sockets", &mut transparent.sockets, sockets);
    section.set("netns", &mut transparent.netns, netns);
    section.set("podPrefix6", &mut transparent.pod_prefix6, prefix6);
    section.set("listen", &mut transparent.listen, values::listen);
    section.set("ports", &mut transparent.ports, values::count(1..=64));
    if let Some(addresses) = section.list("addresses", values::ip) {
        transparent.addresses = addresses;
    }
    if let Some(addresses) = section.list("sourceAddresses", values::ip) {
        transparent.source_addresses = addresses;
    }
    section.set("cgroup", &mut transparent.cgroup, |node| cgroup(node).map(Some));
    let enrol = values::choice(&[("all", Enrol::All), ("pods", Enrol::Pods)]);
    section.set("enrol", &mut transparent.enrol, |node| enrol(node).map(Some));
    if let Some(namespaces) = section.list("excludeNamespaces", values::label) {
        transparent.exclude_namespaces = namespaces;
    }
    transparent.divert = section.list("divert", values::cidr);
    section.set("host", &mut transparent.host, values::boolean);
    section.set("required", &mut transparent.required, values::boolean);
    transparent.allow = Allow::read_or(&mut section, Allow::everyone());
    section.set(
        "fail",
        &mut transparent.fail,
        values::choice(&[("open", Fail::Open), ("closed", Fail::Closed)]),
    );
    read_adopt(&mut transparent, &mut section);
    section.set("via", &mut transparent.via, values::boolean);
    check_ports(&transparent, &mut section);
    check_pods(&transparent, &mut section);
    section.finish();
    transparent
}

fn read_adopt(transparent: &mut Transparent, section: &mut Section<'_, '_>) {
    let choices = &[("count", Adopt::Count), ("close-idle", Adopt::CloseIdle), ("off", Adopt::Off)];
    section.set("adopt", &mut transparent.adopt, values::choice(choices));
    let second = Duration::from_secs(1);
    let idle = values::duration(second..=Duration::from_hours(24));
    section.set("adoptIdle", &mut transparent.adopt_idle, idle);
    let every = values::duration(second..=Duration::from_hours(1));
    section.set("adoptEvery", &mut transparent.adopt_every, every);
}

fn cgroup(node: &Node) -> Result<PathBuf, Mistake> {
    let text = values::text(node)?;
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    Err(Mistake::new(format!("{} is not an absolute path", quoted(text)))
        .hint("give the folder on the cgroup2 file system, as in /sys/fs/cgroup/kubepods.slice"))
}

fn netns(node: &Node) -> Result<PathBuf, Mistake> {
    let text = values::path(node, "the folder of the pods' network namespaces, as in /run/netns")?;
    if text.starts_with('/') {
        return Ok(PathBuf::from(text));
    }
    Err(Mistake::new(format!("{} is not an absolute path", quoted(text)))
        .hint("give the folder in which the container runtime mounts network namespaces, as in /run/netns"))
}

fn prefix6(node: &Node) -> Result<Ipv6Addr, Mistake> {
    match values::cidr(node)? {
        IpNet::V6(net) if net.prefix_len() == 64 && net.addr().is_unique_local() => Ok(net.network()),
        net => Err(Mistake::new(format!("{net} is no /64 of unique local addresses"))
            .hint("give one that nothing else uses, as in fd6a:9c1e:57b4:4136::/64 (RFC 4193)")),
    }
}

/// What does not go together with weir's sockets in the pods.
fn check_pods(transparent: &Transparent, section: &mut Section<'_, '_>) {
    if transparent.sockets != Sockets::Pod {
        return;
    }
    if transparent.host {
        let mistake =
            Mistake::new("clients in the node's own network namespace are not diverted with `sockets: pod`")
                .hint("leave `host` out, or set `sockets: node`");
        section.mistake("host", mistake);
    }
    if !transparent.source_addresses.is_empty() {
        let mistake =
            Mistake::new("with `sockets: pod` connections to endpoints come from the pods' addresses")
                .hint("leave `sourceAddresses` out, or set `sockets: node`");
        section.mistake("sourceAddresses", mistake);
    }
    if transparent.divert.is_some() {
        let mistake = Mistake::new("only the addresses of known services are diverted with `sockets: pod`")
            .hint("leave `divert` out, or set `sockets: node`");
        section.mistake("divert", mistake);
    }
}

fn check_ports(transparent: &Transparent, section: &mut Section<'_, '_>) {
    let (first, ports) = (transparent.listen.port(), transparent.ports);
    if first == 0 && ports > 1 {
        let mistake = Mistake::new(format!("port 0 cannot be the first of {ports} consecutive ports"))
            .hint("name the first port, or set `ports: 1`");
        section.mistake("listen", mistake);
    } else if first.checked_add(ports - 1).is_none() {
        let mistake = Mistake::new(format!("{ports} ports from {first} on go beyond 65535"))
            .hint(format!("start at {} or lower", u16::MAX - (ports - 1)));
        section.mistake("listen", mistake);
    }
}
