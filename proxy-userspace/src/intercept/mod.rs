//! Floor 2: diversion of applications' connections to weir by eBPF programs on the pods' cgroup.
//!
//! [`Interception::attach`] loads the programs and puts them in place; from then on a connect() to a known
//! destination arrives at one of weir's transparent ports instead. The data workers ask [`OriginalDsts`] for
//! the address the application dialled, right after accept. What is known is told by
//! [`Interception::divert`]; that weir still moves, by [`Heartbeat`].
//!
//! Three things must never happen, and the order of everything here follows from them:
//! - A diverted connection without a dialled address: the program that files it is attached before the
//!   ones that divert, and detached after them.
//! - A connection diverted to a weir that is not there: the kernel empties the listener's slot when weir
//!   dies, and `disarm` empties it before a planned stop.
//! - weir diverting itself: its own cgroup is never enrolled, and its sockets carry a mark.
//!
//! Synchronous throughout: all calls are short system calls. Deliberately absent: pinning (the programs go
//! with the process), and every policy about *what* to divert, which the caller has.

mod attach;
mod capabilities;
mod cgroup;
mod counters;
mod error;
mod heartbeat;
mod logs;
mod node;
mod object;
mod options;
mod original_dsts;
mod owners;
mod pods;
mod release;
mod scope;
mod status;
mod sweep;
mod syn;
mod sys;
mod verifier;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{Array, MapData};
use ipnet::IpNet;

pub use attach::Refusal;
pub use cgroup::{find_cgroup, living};
pub use counters::Counters;
pub use error::InterceptError;
pub use heartbeat::{Heartbeat, monotonic_ns};
pub use node::{default_addresses, node_addresses, reachable_addresses};
pub use options::{Enrol, InterceptOptions};
pub use original_dsts::{Original, OriginalDsts, TOO_OLD, Unknown};
pub use owners::{Filer, Owners, Pods};
pub use pods::diverted;
pub use proxy_ebpf::decide::Fail;
pub use proxy_ebpf::{Count, Pod, Policy};
pub use scope::{Applied, Destination};
pub use status::Status;
pub use sweep::{Found, Sweep};
pub use syn::save_syns;

/// Programs in place, and the maps they share with weir. Dropping it detaches them: connections then go
/// where they were dialled, and those already diverted stay with weir.
pub struct Interception {
    // Links first and in this order: fields are dropped from the top.
    links: attach::Links,
    cgroup: cgroup::Cgroup,
    /// A descriptor of the listener of our own, so that the slot stays full until weir itself is gone, not
    /// until the one data worker whose listener it happens to be.
    listener: OwnedFd,
    slot: OwnedFd,
    scope: scope::Table,
    pods: pods::Table,
    enrol: Enrol,
    /// The programs, to be attached again when the pods' cgroup was made anew.
    object: object::Object,
    counts: counters::Table,
    heart: Heartbeat,
    original_dsts: OriginalDsts,
    addresses: Vec<std::net::IpAddr>,
    logs: logs::Forwarder,
}

impl Interception {
    /// Loads the programs, enrols the plan's cgroup with everything below it (weir's own cgroup
    /// excepted), arms the listener's slot and attaches. Nothing is diverted before [`Self::divert`].
    ///
    /// To be called in the node's own network namespace: the calling thread's is taken to be that.
    ///
    /// `listener` is one of the sockets that accept on the transparent ports; as long as it listens, weir
    /// is taken to be there. Each of them should keep SYNs ([`save_syns`]). The first heartbeat is given here.
    ///
    /// # Errors
    ///
    /// One sentence on what is missing (a capability, cgroup2, a kernel feature, a sensible plan) and what
    /// to do. Nothing is left attached.
    pub fn attach(options: &InterceptOptions, listener: BorrowedFd<'_>) -> Result<Self, InterceptError> {
        options.check()?;
        sys::is_listening(listener).map_err(InterceptError::Listener)?;
        let cgroup = cgroup::Cgroup::open(&options.cgroup)?;
        // Before the object, of which older kernels say something that misleads.
        let netns = sys::netns_cookie().map_err(InterceptError::lacks("SO_NETNS_COOKIE"))?;
        let mut object = object::Object::load(options)?;
        let settings = options.settings(netns);
        let mut table: Array<MapData, wire::Wire<proxy_ebpf::Settings>> = object.map("SETTINGS")?;
        table.set(0, wire::Wire(settings), 0).map_err(InterceptError::map("SETTINGS"))?;
        let heart = Heartbeat::new(object.heart()?);
        heart.beat()?;
        let listener = listener.try_clone_to_owned().map_err(InterceptError::kernel("dup"))?;
        let mut this = Self {
            links: attach::Links::none(),
            cgroup,
            slot: object.slot()?,
            listener,
            scope: scope::Table::new(object.map("SCOPE")?, options.destinations),
            pods: pods::Table::new(object.map("PODS")?),
            enrol: options.enrol,
            counts: counters::Table::new(object.map("COUNTS")?),
            heart,
            original_dsts: object.original_dsts(Owners::new(netns, node_addresses()?))?,
            addresses: options.used(),
            logs: logs::Forwarder::none(),
            object,
        };
        this.enrol_cgroup()?;
        this.arm()?;
        this.links = this.object.attach(&this.cgroup)?;
        this.logs = this.object.logs()?;
        Ok(this)
    }

    /// Enters the cgroup's own policy, and weir's.
    fn enrol_cgroup(&mut self) -> Result<(), InterceptError> {
        if let Some(own) = self.cgroup.own()? {
            self.enrol(own, Policy::LeaveAlone)?;
        }
        match self.enrol {
            Enrol::All => self.enrol(self.cgroup.id(), Policy::Divert),
            Enrol::Pods => Ok(()),
        }
    }

    /// Attaches the programs again if another cgroup is at the pods' cgroup's path: kubelet was set up anew, say. The
    /// programs at the old one went with it. Whether it was so.
    ///
    /// # Errors
    ///
    /// As [`Self::attach`]; nothing is changed then.
    pub fn follow_cgroup(&mut self) -> Result<bool, InterceptError> {
        if self.cgroup.is_there() {
            return Ok(false);
        }
        let new = cgroup::Cgroup::open(self.cgroup.path())?;
        let links = self.object.attach(&new)?;
        let old = std::mem::replace(&mut self.cgroup, new);
        self.links = links;
        self.pods.remove(old.id())?;
        self.enrol_cgroup()?;
        Ok(true)
    }

    /// The handle by which data workers learn what a diverted connection's application dialled.
    pub fn original_dsts(&self) -> OriginalDsts {
        self.original_dsts.clone()
    }

    /// The handle by which weir shows that it moves. Two seconds without a beat, and connections go direct
    /// (or are refused).
    pub fn heart(&self) -> Heartbeat {
        self.heart.clone()
    }

    /// Makes `wanted` the set of what is diverted, changing only what differs from what is there.
    ///
    /// Loopback, link-local, unspecified and multicast addresses and those of this node are never diverted,
    /// whatever `wanted` says.
    ///
    /// # Errors
    ///
    /// The kernel refused an entry. The set then lies between the old and the new one; what is excluded is
    /// excluded all the same.
    pub fn divert(&mut self, wanted: &BTreeSet<Destination>) -> Result<Applied, InterceptError> {
        self.divert_except(wanted, &BTreeSet::new())
    }

    /// As [`Self::divert`], and never diverts what lies in `except` (the API server's address, say).
    ///
    /// # Errors
    ///
    /// As [`Self::divert`].
    pub fn divert_except(
        &mut self,
        wanted: &BTreeSet<Destination>,
        except: &BTreeSet<IpNet>,
    ) -> Result<Applied, InterceptError> {
        let node = node_addresses()?;
        self.original_dsts.owners().tell_node(&node);
        let own = node.into_iter().chain(self.addresses.iter().copied()).map(IpNet::from);
        let excluded = scope::standing_exclusions().chain(own).chain(except.iter().copied());
        self.scope.ask(scope::Asked::new(wanted.clone(), excluded.collect()))
    }

    /// As [`Self::divert_except`] with what it was called with last, but without `gone` and with `come`. When all of that are
    /// single addresses the work is in proportion to the difference.
    ///
    /// # Errors
    ///
    /// As [`Self::divert`].
    pub fn amend(&mut self, gone: &[Destination], come: &[Destination]) -> Result<Applied, InterceptError> {
        self.scope.amend(gone, come)
    }

    /// Sets what happens to the connections of processes in the cgroup with this id and below; the nearest
    /// such cgroup above a process decides.
    ///
    /// # Errors
    ///
    /// The map is full (4,096 cgroups), or the kernel has no memory.
    pub fn enrol(&mut self, cgroup: u64, policy: Policy) -> Result<(), InterceptError> {
        self.pods.fix(cgroup, policy)
    }

    /// Makes `wanted` the pods that are diverted, by the ids of their cgroups; returns those there was no room for: the
    /// table holds 4,096.
    ///
    /// # Errors
    ///
    /// The kernel refused for another reason. The set then lies between the old and the new one.
    pub fn enrol_pods(&mut self, wanted: &BTreeMap<u64, Pod>) -> Result<BTreeSet<u64>, InterceptError> {
        self.pods.apply(wanted)
    }

    /// The cgroups of this node's pods, by the UIDs in their names.
    ///
    /// # Errors
    ///
    /// The pods' parent cgroup cannot be listed.
    pub fn pod_cgroups(&self) -> io::Result<BTreeMap<Box<str>, u64>> {
        pods::cgroups(self.cgroup.path())
    }

    /// The path of the cgroup whose processes can be diverted, at which [`living`] looks.
    pub fn cgroup(&self) -> &std::path::Path {
        self.cgroup.path()
    }

    /// Undoes [`Self::enrol`].
    ///
    /// # Errors
    ///
    /// The kernel refused. That there was nothing to undo is no error.
    pub fn forget(&mut self, cgroup: u64) -> Result<(), InterceptError> {
        self.pods.remove(cgroup)
    }

    /// Puts the listener (back) into its slot: connections are diverted again.
    ///
    /// # Errors
    ///
    /// The socket is not a listening TCP socket.
    pub fn arm(&mut self) -> Result<(), InterceptError> {
        sys::set_slot(self.slot.as_fd(), self.listener.as_fd()).map_err(InterceptError::Listener)
    }

    /// Empties the listener's slot: from the next connect() on, connections go direct (or are refused). To
    /// be called before a planned stop.
    pub fn disarm(&mut self) {
        // The only failure is an empty slot, which is what was wanted.
        let _ = sys::clear_slot(self.slot.as_fd());
    }

    /// What a connection gets that weir cannot take: what the plan says, as far as this kernel can.
    pub fn refusal(&self) -> Refusal {
        self.object.refusal()
    }

    /// Whose connections are diverted.
    pub fn enrols(&self) -> Enrol {
        self.enrol
    }

    /// Where connections are diverted to.
    pub fn addresses(&self) -> &[std::net::IpAddr] {
        &self.addresses
    }

    /// How often the programs took each decision.
    pub fn counters(&self) -> Counters {
        self.counts.read()
    }

    /// How interception is doing.
    pub fn status(&self) -> Status {
        Status {
            attached: self.links.in_effect(&self.cgroup),
            slot: sys::slot_cookie(self.slot.as_fd()),
            listener: sys::socket_cookie(self.listener.as_fd()).ok(),
            heart_age: self.heart.age(),
            destinations: self.scope.len(),
            waiting: self.original_dsts.found().waiting(),
        }
    }
}

// Data workers share the one, and some thread owns the other.
const _: fn() = || {
    fn shared<T: Send + Sync + Clone>() {}
    fn sent<T: Send>() {}
    shared::<OriginalDsts>();
    shared::<Heartbeat>();
    sent::<Interception>();
};

impl Drop for Interception {
    fn drop(&mut self) {
        self.disarm();
    }
}
