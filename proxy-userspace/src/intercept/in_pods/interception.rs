//! What the programs do in single network namespaces.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use super::super::Interception;
use super::super::error::InterceptError;
use super::{InPods, Numbers, PodIds, PodOf};

impl Interception {
    /// Has connections of the pod in this network namespace accepted by `listener`, which is a socket of it. Returns the
    /// namespace's cookie. They are diverted after [`Self::tell_pod`].
    ///
    /// # Errors
    ///
    /// weir's sockets are on the node, the tables are full, or the kernel refused. Nothing is diverted then.
    pub fn join(&mut self, netns: BorrowedFd<'_>, listener: BorrowedFd<'_>) -> Result<u64, InterceptError> {
        let on_node = || InterceptError::Options("weir's sockets are on the node".to_owned());
        self.in_pods.as_mut().ok_or_else(on_node)?.join(netns, listener)
    }

    /// Sets the addresses (IPv4, IPv6) that applications in a joined network namespace are told as their own, and whether
    /// their connections to addresses of each family are diverted.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn tell_pod(
        &mut self,
        cookie: u64,
        own: [Option<IpAddr>; 2],
        diverted: [bool; 2],
    ) -> Result<(), InterceptError> {
        let Some(in_pods) = &mut self.in_pods else { return Ok(()) };
        in_pods.tell(cookie, own, diverted).map_err(InterceptError::kernel("bpf (map OWN)"))
    }

    /// Undoes [`Self::join`]. What was not joined is no error.
    pub fn leave(&mut self, cookie: u64) {
        if let Some(in_pods) = &mut self.in_pods {
            in_pods.leave(cookie);
        }
    }

    /// Closes the listeners' duplicates, so that another weir of this node can have their ports. Call this once nothing is
    /// diverted any more and every accept queue is empty; what is open stays, and is still named to the application.
    pub fn release_ports(&mut self) {
        self.disarm();
        self.listener = None;
        if let Some(in_pods) = &mut self.in_pods {
            in_pods.release_port();
        }
    }

    /// Whose connections come from a joined network namespace.
    pub fn pod_of(&self, cookie: u64) -> PodOf {
        self.in_pods.as_ref().map_or(PodOf::Unknown, |it| it.pod_of(cookie))
    }

    /// Forgets [`Self::pod_of`] for a pod whose cgroup is gone.
    pub fn forget_pod_of(&mut self, cookie: u64) {
        if let Some(in_pods) = &mut self.in_pods {
            in_pods.forget_pod(cookie);
        }
    }

    /// Forgets [`PodOf::Several`] everywhere: it is learnt again where it is still so. Until then, connections of the first
    /// pod that makes one are diverted.
    pub fn forget_shared(&mut self) {
        if let Some(in_pods) = &mut self.in_pods {
            in_pods.forget_shared();
        }
    }

    /// The handle by which it is told which pod a cgroup is of; `None` with weir's sockets on the node.
    pub fn pod_ids(&self) -> Option<PodIds> {
        let pod_of = self.in_pods.as_ref()?.pod_of.as_fd().try_clone_to_owned().ok()?;
        Some(PodIds::new(pod_of, self.cgroup().to_owned(), self.enrol))
    }

    /// The handle by which data workers look up what a connection in a pod had dialled; `None` with weir's sockets on the
    /// node.
    pub fn numbers(&self) -> Option<Numbers> {
        self.in_pods.as_ref().map(InPods::numbers)
    }
}
