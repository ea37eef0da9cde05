//! Which pod a cgroup is of, and which one connects from a network namespace: as the programs decide it, for connections that
//! they do not see.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::options::Enrol;
use super::super::{cgroup, pods, sys};

/// The handle; cheap to clone. A pod is named by its cgroup's id.
#[derive(Clone, Debug)]
pub struct PodIds {
    pod_of: Arc<OwnedFd>,
    cgroup: PathBuf,
    enrol: Enrol,
}

impl PodIds {
    pub(in crate::intercept) fn new(pod_of: OwnedFd, cgroup: PathBuf, enrol: Enrol) -> Self {
        Self { pod_of: Arc::new(pod_of), cgroup, enrol }
    }

    /// The pods of all cgroups that are a pod's, those of containers included. With [`Enrol::All`] all of them are one, as for
    /// the programs.
    ///
    /// # Errors
    ///
    /// The pods' parent cgroup cannot be listed.
    pub fn cgroups(&self) -> io::Result<HashMap<u64, u64>> {
        if self.enrol == Enrol::All {
            let all = std::fs::metadata(&self.cgroup)?.ino();
            return Ok(cgroup::living(&self.cgroup).into_iter().map(|id| (id, all)).collect());
        }
        let (pods, members) = (pods::cgroups(&self.cgroup)?, pods::members(&self.cgroup)?);
        let of = |(uid, ids)| Some((*pods.get::<Box<str>>(&uid)?, ids));
        let of = members.into_iter().filter_map(of);
        Ok(of.flat_map(|(pod, ids)| ids.into_iter().map(move |id| (id, pod))).collect())
    }

    /// Whether no other pod connects from the network namespace with this cookie, in which weir listens. Notes that this one
    /// does.
    pub fn is_alone(&self, netns: u64, pod: u64) -> bool {
        let known = || sys::number(self.pod_of.as_fd(), &netns);
        if known().is_none() {
            // Another one may have been faster.
            let _ = sys::add(self.pod_of.as_fd(), &netns, pod);
        }
        known() == Some(pod)
    }

    /// Undoes what [`Self::is_alone`] has noted.
    pub fn forget(&self, netns: u64) {
        let _ = sys::remove(self.pod_of.as_fd(), &netns);
    }
}
