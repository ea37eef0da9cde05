//! The network namespaces of pods in which weir listens, and those in which it does not.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::transport::NetnsThread;

/// Where weir's sockets for diverted connections are, as it was decided at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPlace {
    /// Whether they are in the pods' network namespaces, or on the node.
    pub in_pods: bool,
    /// Why they are on the node, where the configuration left that open.
    pub why: Option<Arc<str>>,
}

impl SocketPlace {
    /// Every name of a place in metrics and in the state.
    pub const NAMES: [&'static str; 3] = ["pod", "node", "fallback"];

    /// Its name.
    pub fn name(&self) -> &'static str {
        match (self.in_pods, &self.why) {
            (true, _) => "pod",
            (false, None) => "node",
            (false, Some(_)) => "fallback",
        }
    }
}

/// An enrolled pod in whose network namespace weir does not listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithoutListener {
    /// NAMESPACE/NAME.
    pub pod: Arc<str>,
    /// Since when.
    pub since: Instant,
    /// Why, in a word.
    pub state: NetnsState,
    /// Why, in words.
    pub why: Arc<str>,
}

/// What is known of the pods' network namespaces; nothing if weir's sockets are on the node.
#[derive(Debug, Default)]
pub struct Netns {
    /// Where weir's sockets are; empty where nothing is to be diverted.
    pub place: OnceLock<SocketPlace>,
    /// Enrolled pods without a listener, by UID.
    pub without: ArcSwap<BTreeMap<Arc<str>, WithoutListener>>,
    /// The thread that enters them.
    pub thread: OnceLock<NetnsThread>,
    /// Whether weir has looked at all of them once, and listens where it can.
    pub has_looked: AtomicBool,
    /// As they were at the last look.
    pub seen: ArcSwap<Vec<SeenNetns>>,
    /// The explicit proxy's sockets in pods that the weir before this one has handed over, by the namespace's cookie and port,
    /// until they are used or forgotten.
    inherited: Mutex<BTreeMap<(u64, u16), Vec<TcpListener>>>,
    /// Asks for a look at all of them.
    pub due: Notify,
}

impl Netns {
    /// Whether weir's sockets are in the pods.
    pub fn is_in_pods(&self) -> bool {
        self.place.get().is_some_and(|it| it.in_pods)
    }

    /// Keeps a socket of the pod whose network namespace has this cookie.
    pub fn inherit(&self, cookie: u64, socket: TcpListener) {
        if let Ok(at) = socket.local_addr() {
            self.inherited.lock().entry((cookie, at.port())).or_default().push(socket);
        }
    }

    /// Those of this namespace and port.
    pub fn take_inherited(&self, cookie: u64, port: u16) -> Vec<TcpListener> {
        self.inherited.lock().remove(&(cookie, port)).unwrap_or_default()
    }

    /// Closes those that nobody has taken: one alone keeps a namespace that has ended.
    pub fn forget_inherited(&self) {
        self.inherited.lock().clear();
    }
}

/// One network namespace, or a file that should be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenNetns {
    /// The name of its file.
    pub name: Arc<str>,
    /// The kernel's cookie, if weir listens there.
    pub cookie: Option<u64>,
    /// Whether IPv6 is diverted too.
    pub v6: bool,
    /// How its connections are treated.
    pub state: NetnsState,
    /// Why weir does not listen there, in words.
    pub why: Option<Arc<str>>,
    /// The ports of the explicit proxy at the loopback addresses there, and why it does not listen at one.
    pub loopback: Vec<(u16, Option<Arc<str>>)>,
}

/// How the connections of a network namespace are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetnsState {
    /// weir listens there.
    Listening,
    /// weir listens there, but processes of several pods connect from it: they go direct.
    Shared,
    /// weir listens there, but its loopback interface is down: its connections go direct.
    LoopbackDown,
    /// weir may not enter it, or not any more: its connections go direct.
    Refused,
    /// Of pods alone: it runs on a kernel of its own, so that its connections are not seen.
    OtherKernel,
    /// The file is no network namespace, or is not mounted yet.
    NoNamespace,
    /// It is the node's own.
    Node,
    /// A program of the pod has the port, or another weir.
    PortTaken,
    /// There are too many.
    NoRoom,
    /// A step there takes too long; it is tried again.
    Busy,
    /// The kernel refused a step.
    Failed,
}

impl NetnsState {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Listening,
        Self::Shared,
        Self::LoopbackDown,
        Self::Refused,
        Self::OtherKernel,
        Self::NoNamespace,
        Self::Node,
        Self::PortTaken,
        Self::NoRoom,
        Self::Busy,
        Self::Failed,
    ];

    /// Its name in metrics and in the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Shared => "shared",
            Self::LoopbackDown => "loopback_down",
            Self::Refused => "refused",
            Self::OtherKernel => "other_kernel",
            Self::NoNamespace => "no_namespace",
            Self::Node => "node",
            Self::PortTaken => "port_taken",
            Self::NoRoom => "no_room",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }
}

impl Netns {
    /// In how many network namespaces the explicit proxy listens at the loopback addresses, and in how many it cannot.
    pub fn loopback(&self) -> [usize; 2] {
        let seen = self.seen.load();
        let with = |fails: bool| {
            let is_with = |it: &&SeenNetns| it.loopback.iter().any(|(_, why)| why.is_some() == fails);
            seen.iter().filter(is_with).count()
        };
        [with(false), with(true)]
    }

    /// How many network namespaces are in each state.
    pub fn counts(&self) -> BTreeMap<NetnsState, usize> {
        let mut counts: BTreeMap<_, _> = NetnsState::ALL.map(|state| (state, 0)).into();
        for seen in self.seen.load().iter() {
            *counts.entry(seen.state).or_default() += 1;
        }
        counts
    }
}
