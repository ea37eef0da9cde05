//! Floor 2: diversion of applications' connections to weir by eBPF programs on the pods' cgroup.
//!
//! [`Interception::attach`] loads and attaches the programs; from then on a connect() to a known destination arrives at
//! one of weir's transparent ports instead. The data workers ask [`OriginalDsts`] for the address the application
//! dialled, right after accept. [`Interception::divert`] sets the destinations; [`Heartbeat`] reports that weir is
//! alive.
//!
//! Three things must never happen, and they determine the order of all steps:
//! - A diverted connection without its original destination: the program that records it is attached before the ones
//!   that divert, and detached after them.
//! - A connection diverted to a weir that is not running: the kernel empties the listener's slot when weir dies, and
//!   `disarm` empties it before a planned stop.
//! - weir diverting itself: its own cgroup has a policy of its own. The kernel says who is in it; a mark on its sockets could
//!   be set by others, too.
//!
//! Synchronous throughout: all calls are short system calls. Deliberately absent: pinning (the programs end with the
//! process), and any policy on *what* to divert, which is the caller's.

mod attach;
mod capabilities;
mod cgroup;
mod counters;
mod error;
mod heartbeat;
mod in_pods;
mod kernel_memory;
mod logs;
mod node;
mod object;
mod options;
mod original_dsts;
mod owners;
mod pods;
mod refused;
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
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{Array, MapData};
use ipnet::IpNet;

pub use attach::Refusal;
pub use cgroup::{find_cgroup, living};
pub use counters::Counters;
pub use error::InterceptError;
pub use heartbeat::{Heartbeat, monotonic_ns};
pub use in_pods::{
    Caller, Callers, MOST_PODS, NetnsId, Numbers, PodCgroup, PodIds, PodOf, PodSockets, add_route, addresses,
    is_loopback_up, listen_at, listen_in_pod, listen_on_wire, netns_of, open_netns, own_addresses,
    remove_route, usual_number,
};
pub use kernel_memory::{KernelMemory, kernel_memory};
pub use node::{default_addresses, node_addresses, reachable_addresses};
pub use options::{Enrol, InterceptOptions};
pub use original_dsts::{Original, OriginalDsts, TOO_OLD, Unknown};
pub use owners::{Filer, Owners, Pods};
pub use pods::diverted;
pub use proxy_ebpf::decide::Fail;
pub use proxy_ebpf::pods::WIRE_PORTS;
pub use proxy_ebpf::{Count, Pod, Policy};
pub use scope::{Applied, Destination, standing_exclusions};
pub use status::Status;
pub use sweep::{Found, Sweep};
pub use syn::save_syns;
pub use sys::netns_cookie_of;

/// Attached programs, and the maps they share with weir. Dropping it detaches them: new connections then go to their
/// original destination, and those already diverted stay with weir.
pub struct Interception {
    // Links first and in this order: fields are dropped from the top.
    links: attach::Links,
    cgroup: cgroup::Cgroup,
    /// A duplicate of the listener's descriptor, so that the slot stays filled until weir itself is gone, not only
    /// until the worker that owns this listener ends.
    listener: Option<OwnedFd>,
    slot: OwnedFd,
    /// With weir's sockets in the pods; then there is no `listener`, and `slot` stays empty.
    in_pods: Option<in_pods::InPods>,
    scope: scope::Table,
    refused: refused::Table,
    pods: pods::Table,
    enrol: Enrol,
    /// The programs, to be attached again when the pods' cgroup is recreated.
    object: object::Object,
    counts: counters::Table,
    heart: Heartbeat,
    original_dsts: OriginalDsts,
    addresses: Vec<IpAddr>,
    logs: logs::Forwarder,
}

impl Interception {
    /// Loads the programs, enrols the options' cgroup with everything below it (except weir's own cgroup), arms the
    /// listener's slot and attaches. Nothing is diverted before [`Self::divert`].
    ///
    /// Call this in the node's own network namespace: the calling thread's namespace is taken for it.
    ///
    /// `listener` is one of the sockets that accept on the transparent ports; as long as it listens, weir counts as
    /// running. Each of them should keep SYNs ([`save_syns`]). This call writes the first heartbeat.
    ///
    /// # Errors
    ///
    /// One sentence that says what is missing (a capability, cgroup2, a kernel feature, valid options) and what to do.
    /// Nothing is left attached.
    pub fn attach(options: &InterceptOptions, listener: BorrowedFd<'_>) -> Result<Self, InterceptError> {
        options.check()?;
        sys::is_listening(listener).map_err(InterceptError::Listener)?;
        let listener = listener.try_clone_to_owned().map_err(InterceptError::kernel("dup"))?;
        Self::attach_with(&InterceptOptions { pods: None, ..options.clone() }, Some(listener))
    }

    /// As [`Self::attach`], with weir's sockets in the pods' network namespaces ([`InterceptOptions::pods`]): nothing is
    /// diverted before [`Self::join`].
    ///
    /// # Errors
    ///
    /// As [`Self::attach`].
    pub fn attach_in_pods(options: &InterceptOptions) -> Result<Self, InterceptError> {
        Self::attach_with(options, None)
    }

    fn attach_with(options: &InterceptOptions, listener: Option<OwnedFd>) -> Result<Self, InterceptError> {
        options.check()?;
        let cgroup = cgroup::Cgroup::open(&options.cgroup)?;
        // Before the object is loaded: older kernels report a misleading error for it.
        let netns = sys::netns_cookie().map_err(InterceptError::lacks("SO_NETNS_COOKIE"))?;
        let mut object = object::Object::load(options)?;
        let settings = options.settings(netns);
        let mut table: Array<MapData, wire::Wire<proxy_ebpf::Settings>> = object.map("SETTINGS")?;
        table.set(0, wire::Wire(settings), 0).map_err(InterceptError::map("SETTINGS"))?;
        let heart = Heartbeat::new(object.heart()?);
        heart.beat()?;
        let destinations = options.destinations;
        let in_pods = options.pods.map(|it| in_pods::InPods::new(&object, it, destinations)).transpose()?;
        let mut this = Self {
            links: attach::Links::none(),
            cgroup,
            slot: object.slot()?,
            listener,
            in_pods,
            scope: scope::Table::new(object.map("SCOPE")?, options.destinations),
            refused: refused::Table::new(object.map("REFUSED")?, options.destinations),
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

    /// Sets the policy of the cgroup itself and of weir's own.
    fn enrol_cgroup(&mut self) -> Result<(), InterceptError> {
        if let Some(own) = self.cgroup.own()? {
            self.enrol(own, Policy::Own)?;
        }
        match self.enrol {
            Enrol::All => self.enrol(self.cgroup.id(), Policy::Divert),
            Enrol::Pods => Ok(()),
        }
    }

    /// Attaches the programs again if the path of the pods' cgroup now leads to another cgroup, for example after
    /// kubelet was set up again. The programs on the old cgroup ended with it. Returns whether that was so.
    ///
    /// # Errors
    ///
    /// As [`Self::attach`]; nothing is changed then.
    pub fn follow_cgroup(&mut self) -> Result<bool, InterceptError> {
        if self.cgroup.is_there() || self.links.is_handed_over {
            return Ok(false);
        }
        let new = cgroup::Cgroup::open(self.cgroup.path())?;
        let links = self.object.attach(&new)?;
        let old = std::mem::replace(&mut self.cgroup, new);
        self.links = links;
        self.pods.remove(old.id())?;
        self.enrol_cgroup()?;
        if let Some(in_pods) = &self.in_pods {
            in_pods.forget_pods();
        }
        Ok(true)
    }

    /// The handle by which data workers look up the original destination of a diverted connection.
    pub fn original_dsts(&self) -> OriginalDsts {
        self.original_dsts.clone()
    }

    /// The handle by which weir writes its heartbeat. After two seconds without a beat, connections go direct (or are
    /// refused).
    pub fn heart(&self) -> Heartbeat {
        self.heart.clone()
    }

    /// Makes `wanted` the set of diverted destinations; changes only the entries that differ.
    ///
    /// Loopback, link-local, unspecified and multicast addresses and those of this node are never diverted,
    /// whatever `wanted` says.
    ///
    /// # Errors
    ///
    /// The kernel refused an entry. The set is then between the old and the new one; exclusions are still in force.
    pub fn divert(&mut self, wanted: &BTreeSet<Destination>) -> Result<Applied, InterceptError> {
        self.divert_except(wanted, &BTreeSet::new(), &node_addresses()?)
    }

    /// As [`Self::divert`], but never diverts addresses in `except` (for example the API server's). This node has `node`.
    ///
    /// # Errors
    ///
    /// As [`Self::divert`].
    pub fn divert_except(
        &mut self,
        wanted: &BTreeSet<Destination>,
        except: &BTreeSet<IpNet>,
        node: &[IpAddr],
    ) -> Result<Applied, InterceptError> {
        self.original_dsts.owners().tell_node(node);
        let own = node.iter().chain(&self.addresses).copied().map(IpNet::from);
        let excluded = standing_exclusions().chain(own).chain(except.iter().copied());
        let applied = self.scope.ask(scope::Asked::new(wanted.clone(), excluded.collect()))?;
        let Some(in_pods) = &mut self.in_pods else { return Ok(applied) };
        let without = in_pods.ask(wanted.iter())?;
        Ok(Applied { left_out: applied.left_out.max(without), ..applied })
    }

    /// As [`Self::divert_except`] with its last arguments, without `gone` and with `come`. If all of them are single
    /// addresses, the work is proportional to the difference.
    ///
    /// # Errors
    ///
    /// As [`Self::divert`].
    pub fn amend(&mut self, gone: &[Destination], come: &[Destination]) -> Result<Applied, InterceptError> {
        let applied = self.scope.amend(gone, come)?;
        let Some(in_pods) = &mut self.in_pods else { return Ok(applied) };
        let without = in_pods.amend(gone, come)?;
        Ok(Applied { left_out: applied.left_out.max(without), ..applied })
    }

    /// Makes `wanted` the set of diverted addresses and ports that have no endpoint: connections to them are refused, and
    /// never reach weir.
    ///
    /// # Errors
    ///
    /// The kernel refused an entry. The set is then between the old and the new one.
    pub fn refuse(&mut self, wanted: &BTreeSet<SocketAddr>) -> Result<(), InterceptError> {
        self.refused.set(wanted)
    }

    /// As [`Self::refuse`] with its last argument, without `gone` and with `come`.
    ///
    /// # Errors
    ///
    /// As [`Self::refuse`].
    pub fn amend_refused(&mut self, gone: &[SocketAddr], come: &[SocketAddr]) -> Result<(), InterceptError> {
        self.refused.amend(gone, come.iter().copied())
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

    /// Makes `wanted` the set of diverted pods, by the ids of their cgroups; returns the pods that did not fit: the
    /// table holds 4,096.
    ///
    /// # Errors
    ///
    /// The kernel refused for another reason. The set is then between the old and the new one.
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

    /// The path of the cgroup whose processes can be diverted; an argument for [`living`].
    pub fn cgroup(&self) -> &std::path::Path {
        self.cgroup.path()
    }

    /// Undoes [`Self::enrol`].
    ///
    /// # Errors
    ///
    /// The kernel refused. A missing entry is no error.
    pub fn forget(&mut self, cgroup: u64) -> Result<(), InterceptError> {
        self.pods.remove(cgroup)
    }

    /// Puts the listener (back) into its slot: connections are diverted again.
    ///
    /// # Errors
    ///
    /// The socket is not a listening TCP socket.
    pub fn arm(&mut self) -> Result<(), InterceptError> {
        if let Some(in_pods) = &mut self.in_pods {
            in_pods.arm().map_err(InterceptError::kernel("bpf (map LISTENERS)"))?;
        }
        let Some(listener) = &self.listener else { return Ok(()) };
        sys::set_slot(self.slot.as_fd(), listener.as_fd()).map_err(InterceptError::Listener)
    }

    /// Empties the listener's slot: from the next connect() on, connections go direct (or are refused). Call this
    /// before a planned stop.
    pub fn disarm(&mut self) {
        if let Some(in_pods) = &mut self.in_pods {
            in_pods.disarm();
        }
        // The only possible error is an empty slot, which is the goal.
        let _ = sys::clear_slot(self.slot.as_fd());
    }

    /// What happens to a connection that weir cannot take: as the options say, as far as this kernel supports it.
    pub fn refusal(&self) -> Refusal {
        self.object.refusal()
    }

    /// Whose connections are diverted.
    pub fn enrols(&self) -> Enrol {
        self.enrol
    }

    /// Where connections are diverted to.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The count of each decision of the programs.
    pub fn counters(&self) -> Counters {
        self.counts.read()
    }

    /// How interception is doing.
    pub fn status(&self) -> Status {
        let (slot, listener) = match (&self.in_pods, &self.listener) {
            // Any number: the same one while armed.
            (Some(in_pods), _) => (in_pods.is_armed().then_some(0), Some(0)),
            (None, listener) => {
                let cookie = |it: &OwnedFd| sys::socket_cookie(it.as_fd()).ok();
                (sys::slot_cookie(self.slot.as_fd()), listener.as_ref().and_then(cookie))
            }
        };
        Status {
            attached: self.links.in_effect(&self.cgroup),
            slot,
            listener,
            heart_age: self.heart.age(),
            destinations: self.scope.len(),
            refused: self.refused.len(),
            waiting: self.original_dsts.found().waiting(),
        }
    }
}

// Data workers share one, and a thread owns the other.
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
