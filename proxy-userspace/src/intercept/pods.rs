//! The cgroups of pods, by the pods' UIDs, and the programs' table of them.
//!
//! kubelet names a pod's cgroup by its UID, below the pods' parent for the class Guaranteed and below a class folder
//! for Burstable and BestEffort: `burstable/pod0b7f-…` with the cgroupfs driver,
//! `kubepods-burstable.slice/kubepods-burstable-pod0b7f_….slice` with the systemd driver. A static pod's name has its
//! configuration's hash in place of the UID. So listing three folders finds all pods of a node.
//!
//! Deliberately absent: inotify. A watch must be set up again whenever its folder is recreated, and listing three
//! folders takes about 50 microseconds.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;

use aya::maps::{HashMap, MapData, MapError};
use proxy_ebpf::{Pod, Policy, Ports, RANGES, Range};

use super::error::InterceptError;
use super::wire::Wire;
use crate::domain::ports::{MAX_RANGES, PortSet, PortWishes};

/// How the connections of a diverted pod are handled.
pub fn diverted(wishes: &PortWishes) -> Pod {
    Pod { policy: Policy::Divert as u32, skip: ports(&wishes.skip), opaque: ports(&wishes.opaque) }
}

const _: () = assert!(MAX_RANGES <= RANGES, "a pod's list of ports fits into the programs' table");

fn ports(set: &PortSet) -> Ports {
    let mut ports = Ports::NONE;
    for (place, &(low, high)) in ports.ranges.iter_mut().zip(set.ranges()) {
        *place = Range { low, high };
    }
    ports
}

/// The kernel's ids of the pods' cgroups below `parent`, by the pods' UIDs; empty if there is no `parent`.
///
/// # Errors
///
/// An existing folder cannot be listed, for example for lack of a descriptor: then nothing is known.
pub(super) fn cgroups(parent: &Path) -> io::Result<BTreeMap<Box<str>, u64>> {
    let mut found = BTreeMap::new();
    for entry in list(parent)? {
        let name = entry.file_name();
        match name.to_str() {
            Some(name) if is_class(name) => {
                let pods = list(&entry.path())?.into_iter();
                found.extend(pods.filter_map(|pod| Some((uid(pod.file_name().to_str()?)?, pod.ino()))));
            }
            Some(name) => found.extend(uid(name).map(|uid| (uid, entry.ino()))),
            None => {}
        }
    }
    Ok(found)
}

/// The ids of each pod's cgroup and of those below it, by the pods' UIDs.
///
/// # Errors
///
/// As [`cgroups`].
pub(super) fn members(parent: &Path) -> io::Result<BTreeMap<Box<str>, HashSet<u64>>> {
    let mut found = BTreeMap::new();
    let mut note = |folder: &DirEntry| {
        if let Some(uid) = folder.file_name().to_str().and_then(uid) {
            found.insert(uid, super::cgroup::living(&folder.path()));
        }
    };
    for entry in list(parent)? {
        match entry.file_name().to_str().is_some_and(is_class) {
            true => list(&entry.path())?.iter().for_each(&mut note),
            false => note(&entry),
        }
    }
    Ok(found)
}

/// The contents of a folder; empty if it is gone.
fn list(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder).and_then(Iterator::collect) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

/// Whether a folder is that of a pod class.
fn is_class(name: &str) -> bool {
    let class = name.strip_suffix(".slice").map_or(name, |stem| stem.rsplit_once('-').map_or("", |it| it.1));
    matches!(class, "burstable" | "besteffort")
}

/// The UID in the name of a pod's folder. systemd's names have underscores, because a dash separates levels.
fn uid(name: &str) -> Option<Box<str>> {
    let uid: Box<str> = match name.strip_suffix(".slice") {
        Some(stem) => stem.rsplit_once("-pod")?.1.replace('_', "-").into(),
        None => name.strip_prefix("pod")?.into(),
    };
    (!uid.is_empty()).then_some(uid)
}

impl super::Interception {
    /// As [`Self::pod_cgroups`], with the cgroups below each pod's: a container's processes are in one of these.
    ///
    /// # Errors
    ///
    /// As [`Self::pod_cgroups`].
    pub fn pod_members(&self) -> io::Result<BTreeMap<Box<str>, HashSet<u64>>> {
        members(self.cgroup())
    }

    /// Leaves the pod with this UID alone, as the pod of another weir of this node: while one follows the other, neither
    /// diverts the other's connections to endpoints. Returns whether there is such a pod.
    ///
    /// # Errors
    ///
    /// As [`Self::enrol`] and [`Self::pod_cgroups`].
    pub fn own_pod(&mut self, uid: &str) -> Result<bool, InterceptError> {
        let cgroups = self.pod_cgroups().map_err(InterceptError::kernel("readdir of the pods' cgroup"))?;
        let found = cgroups.get(uid).copied();
        found.map_or(Ok(false), |cgroup| self.enrol(cgroup, Policy::Own).map(|()| true))
    }

    /// The cgroups with [`Policy::Own`].
    pub fn own_cgroups(&self) -> &BTreeSet<u64> {
        self.pods.own()
    }
}

/// The programs' table of cgroups, with the pods in it.
#[derive(Debug)]
pub(super) struct Table {
    map: HashMap<MapData, u64, Wire<Pod>>,
    pods: BTreeMap<u64, Pod>,
    /// Other entries: the pods' parent and weir's own cgroup. Entries of pods never replace them.
    fixed: BTreeSet<u64>,
    /// Those of them that are a weir's.
    own: BTreeSet<u64>,
}

impl Table {
    pub(super) fn new(map: HashMap<MapData, u64, Wire<Pod>>) -> Self {
        Self { map, pods: BTreeMap::new(), fixed: BTreeSet::new(), own: BTreeSet::new() }
    }

    /// Sets an entry that is not a pod's.
    pub(super) fn fix(&mut self, cgroup: u64, policy: Policy) -> Result<(), InterceptError> {
        self.map.insert(cgroup, Wire(Pod::all(policy)), 0).map_err(InterceptError::map("PODS"))?;
        self.pods.remove(&cgroup);
        self.fixed.insert(cgroup);
        match policy {
            Policy::Own => self.own.insert(cgroup),
            Policy::Divert | Policy::LeaveAlone => self.own.remove(&cgroup),
        };
        Ok(())
    }

    /// The cgroups of weirs.
    pub(super) fn own(&self) -> &BTreeSet<u64> {
        &self.own
    }

    /// Removes an entry. A missing entry is no error.
    pub(super) fn remove(&mut self, cgroup: u64) -> Result<(), InterceptError> {
        self.fixed.remove(&cgroup);
        self.own.remove(&cgroup);
        self.pods.remove(&cgroup);
        match self.map.remove(&cgroup) {
            Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(()),
            answer => answer.map_err(InterceptError::map("PODS")),
        }
    }

    /// Makes `wanted` the pods in the table, and returns those that did not fit.
    pub(super) fn apply(&mut self, wanted: &BTreeMap<u64, Pod>) -> Result<BTreeSet<u64>, InterceptError> {
        let stale: Vec<u64> = self.pods.keys().filter(|it| !wanted.contains_key(it)).copied().collect();
        for cgroup in stale {
            self.remove(cgroup)?;
        }
        let mut left_out = BTreeSet::new();
        for (&cgroup, pod) in wanted.iter().filter(|(cgroup, _)| !self.fixed.contains(cgroup)) {
            if self.pods.get(&cgroup) == Some(pod) {
                continue;
            }
            match self.map.insert(cgroup, Wire(*pod), 0) {
                Ok(()) => drop(self.pods.insert(cgroup, *pod)),
                Err(error) if errno(&error) == Some(libc::E2BIG) => drop(left_out.insert(cgroup)),
                Err(error) => return Err(InterceptError::map("PODS")(error)),
            }
        }
        Ok(left_out)
    }
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::KeyNotFound => Some(libc::ENOENT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b7f1c1e-0000-4000-8000-000000000001";

    #[test]
    fn a_pod_is_found_in_every_class_with_either_driver_and_below_any_prefix() {
        let systemd = UID.replace('-', "_");
        for (folder, expected) in [
            (format!("pod{UID}"), UID),
            (format!("burstable/pod{UID}"), UID),
            (format!("besteffort/pod{UID}"), UID),
            (format!("kubepods-pod{systemd}.slice"), UID),
            (format!("kubepods-burstable.slice/kubepods-burstable-pod{systemd}.slice"), UID),
            (
                format!("kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{systemd}.slice"),
                UID,
            ),
            ("burstable/poddbe0c91a4bbd7a2dd1a4b8e9c5a2f0aa".to_owned(), "dbe0c91a4bbd7a2dd1a4b8e9c5a2f0aa"),
        ] {
            let parent = tempfile::tempdir().unwrap();
            let pod = parent.path().join(&folder);
            fs::create_dir_all(pod.join("cri-containerd-1.scope")).unwrap();
            let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&pod).unwrap());
            let below = std::os::unix::fs::MetadataExt::ino(
                &fs::metadata(pod.join("cri-containerd-1.scope")).unwrap(),
            );
            assert_eq!(members(parent.path()).unwrap(), [(expected.into(), [inode, below].into())].into());
            let found = cgroups(parent.path()).unwrap();
            assert_eq!(found.into_iter().collect::<Vec<_>>(), [(expected.into(), inode)], "{folder}");
        }
    }

    #[test]
    fn what_is_no_pod_is_not_taken_for_one() {
        let parent = tempfile::tempdir().unwrap();
        for folder in
            ["pod", "kubepods-pod.slice", "system.slice", "cri-containerd-1.scope", "burstable.slice/podx"]
        {
            fs::create_dir_all(parent.path().join(folder)).unwrap();
        }
        fs::write(parent.path().join("cgroup.procs"), "").unwrap();
        assert_eq!(cgroups(parent.path()).unwrap(), BTreeMap::new());
        assert_eq!(cgroups(&parent.path().join("none")).unwrap(), BTreeMap::new());
        let error = cgroups(&parent.path().join("cgroup.procs")).expect_err("no folder, so nothing is known");
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn a_pods_ports_reach_the_programs_as_they_are() {
        let of = |skip, opaque| diverted(&PortWishes::read(Some(skip), Some(opaque)).0);
        let pod = of("1,3,5,7,9,11,13,15-20", "25");
        assert!(pod.skip.contain(20) && pod.skip.contain(1) && !pod.skip.contain(21) && !pod.skip.contain(2));
        assert!(pod.opaque.contain(25) && !pod.opaque.contain(24));
        assert!(of("", "").skip.is_none());
    }
}
