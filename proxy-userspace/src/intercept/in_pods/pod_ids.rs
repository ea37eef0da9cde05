//! Which pod a cgroup is of, and which one connects from a network namespace: as the programs decide it, for connections that
//! they do not see.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::options::Enrol;
use super::super::{cgroup, pods, sys};
use super::SEVERAL;

/// The pod of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCgroup {
    /// As the programs know it: the id of the pod's own cgroup.
    pub pod: u64,
    /// The UID in the name of the pod's own cgroup, if its name has one.
    pub uid: Option<Arc<str>>,
}

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
    /// the programs, each with its own UID.
    ///
    /// # Errors
    ///
    /// The pods' parent cgroup cannot be listed.
    pub fn cgroups(&self) -> io::Result<HashMap<u64, PodCgroup>> {
        let members = pods::members(&self.cgroup)?;
        if self.enrol == Enrol::All {
            let all = std::fs::metadata(&self.cgroup)?.ino();
            let of = |id| (id, PodCgroup { pod: all, uid: None });
            let mut found: HashMap<_, _> = cgroup::living(&self.cgroup).into_iter().map(of).collect();
            found.extend(each(members, |_| Some(all)));
            return Ok(found);
        }
        let pods = pods::cgroups(&self.cgroup)?;
        Ok(each(members, |uid| pods.get(uid).copied()).collect())
    }

    /// Whether no other pod connects from the network namespace with this cookie, in which weir listens. Notes that this one
    /// does, and if others do, that it is several: then it is nobody's, as for the programs, and not the first one's.
    pub fn is_alone(&self, netns: u64, pod: u64) -> bool {
        let known = || sys::number(self.pod_of.as_fd(), &netns);
        if known().is_none() {
            // Another one may have been faster.
            let _ = sys::add(self.pod_of.as_fd(), &netns, pod);
        }
        match known() {
            Some(known) if known == pod => true,
            Some(known) if known != SEVERAL => {
                let _ = sys::set(self.pod_of.as_fd(), &netns, &SEVERAL);
                false
            }
            _ => false,
        }
    }

    /// Undoes what [`Self::is_alone`] has noted.
    pub fn forget(&self, netns: u64) {
        let _ = sys::remove(self.pod_of.as_fd(), &netns);
    }
}

/// Each cgroup of `members` with its pod, which `pod` tells by the UID.
fn each(
    members: BTreeMap<Box<str>, HashSet<u64>>,
    pod: impl Fn(&str) -> Option<u64>,
) -> impl Iterator<Item = (u64, PodCgroup)> {
    let of = move |(uid, ids): (Box<str>, HashSet<u64>)| Some((pod(&uid)?, Arc::<str>::from(uid), ids));
    members.into_iter().filter_map(of).flat_map(|(pod, uid, ids)| {
        ids.into_iter().map(move |id| (id, PodCgroup { pod, uid: Some(uid.clone()) }))
    })
}

#[cfg(test)]
impl PodIds {
    /// Of a table of its own, for pods below this cgroup; `None` where that is not permitted.
    pub fn of_tests(cgroup: PathBuf, enrol: Enrol) -> Option<Self> {
        Some(Self::new(sys::table_of_numbers().ok()?, cgroup, enrol))
    }

    /// What is noted of a network namespace.
    pub fn noted(&self, netns: u64) -> Option<u64> {
        sys::number(self.pod_of.as_fd(), &netns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_several_pods_connect_from_is_none_of_theirs() {
        let Some(ids) = PodIds::of_tests(PathBuf::new(), Enrol::Pods) else { return };
        assert!(ids.is_alone(1, 10) && ids.is_alone(1, 10) && ids.is_alone(2, 20));
        assert!(!ids.is_alone(1, 20), "another pod");
        // It must not have the namespace for good because it was the first.
        assert!(!ids.is_alone(1, 10));
        assert_eq!((ids.noted(1), ids.noted(2)), (Some(SEVERAL), Some(20)));
        ids.forget(1);
        assert!(ids.is_alone(1, 20));
    }

    #[test]
    fn each_cgroup_of_a_pod_has_its_uid_also_where_all_pods_are_one() {
        let parent = tempfile::tempdir().unwrap();
        let container = parent.path().join("burstable/podu1/container");
        std::fs::create_dir_all(&container).unwrap();
        let id = |path: &std::path::Path| std::fs::metadata(path).unwrap().ino();
        let (all, pod) = (id(parent.path()), id(&parent.path().join("burstable/podu1")));
        for (enrol, expected) in [(Enrol::Pods, pod), (Enrol::All, all)] {
            let Some(ids) = PodIds::of_tests(parent.path().to_owned(), enrol) else { return };
            let found = ids.cgroups().unwrap();
            let its = PodCgroup { pod: expected, uid: Some("u1".into()) };
            assert_eq!((found.get(&pod), found.get(&id(&container))), (Some(&its), Some(&its)));
        }
    }
}
