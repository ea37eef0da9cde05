//! Cgroups: the pods' parent and weir's own.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use super::error::InterceptError;

/// The open directory of the cgroup whose connections are diverted.
#[derive(Debug)]
pub(super) struct Cgroup {
    directory: File,
    path: PathBuf,
    id: u64,
}

impl Cgroup {
    /// Opens the directory and checks that it is on cgroup2.
    pub(super) fn open(path: &Path) -> Result<Self, InterceptError> {
        let gone = |cause| InterceptError::CgroupGone { path: path.to_owned(), cause };
        let directory = File::open(path).map_err(gone)?;
        let metadata = directory.metadata().map_err(gone)?;
        if !metadata.is_dir() || !is_cgroup2(&directory).map_err(InterceptError::kernel("fstatfs"))? {
            return Err(InterceptError::NotCgroup2(path.to_owned()));
        }
        Ok(Self { directory, path: path.to_owned(), id: metadata.ino() })
    }

    /// The kernel's id of the cgroup: the inode number of its directory.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory at the path is still this cgroup.
    pub(super) fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|now| now.ino() == self.id)
    }

    /// The id of weir's own cgroup, if that is below this one.
    ///
    /// Searches for weir's process id in every cgroup below: `/proc/self/cgroup` does not help a process in a cgroup
    /// namespace that sees the host's hierarchy through a mount.
    pub(super) fn own(&self) -> Result<Option<u64>, InterceptError> {
        let own = std::process::id().to_string();
        if holds(&self.path, &own) {
            return Err(InterceptError::OwnCgroup(self.path.clone()));
        }
        let mut open = vec![self.path.clone()];
        while let Some(directory) = open.pop() {
            // A pod may end during the search: a cgroup that cannot be read any more does not contain weir.
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())) {
                if holds(&entry.path(), &own) {
                    return Ok(entry.metadata().ok().map(|metadata| metadata.ino()));
                }
                open.push(entry.path());
            }
        }
        Ok(None)
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The ids of `root` and of the cgroups below it. Cgroups that cannot be read have ended.
pub fn living(root: &Path) -> HashSet<u64> {
    let mut found: HashSet<u64> = fs::metadata(root).map(|it| it.ino()).into_iter().collect();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        for entry in entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())) {
            found.insert(entry.ino());
            open.push(entry.path());
        }
    }
    found
}

/// Whether the process is directly in the cgroup.
fn holds(cgroup: &Path, process: &str) -> bool {
    fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|ids| ids.lines().any(|id| id == process))
}

fn is_cgroup2(directory: &File) -> io::Result<bool> {
    Ok(fstatfs(directory)?.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// The parent cgroup of all pods on this node, if kubelet uses cgroup2.
///
/// kubelet's systemd driver calls it `kubepods.slice`, its cgroupfs driver `kubepods`. kubelet's `--cgroup-root` places
/// it deeper, as nested clusters (kind) do: `kubelet.slice/kubelet-kubepods.slice`, `kubelet/kubepods`. On a host with
/// both hierarchies the pods' processes are in the unified one too, wherever it is mounted. If there are several, the
/// empty ones are left from an earlier driver.
///
/// # Errors
///
/// No cgroup2 file system is mounted, or none has such a cgroup.
pub fn find_cgroup() -> Result<PathBuf, InterceptError> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    find_among(mounts.lines().filter_map(cgroup2_mount).collect())
}

fn find_among(mounts: Vec<PathBuf>) -> Result<PathBuf, InterceptError> {
    let found: Vec<PathBuf> = mounts.iter().flat_map(|root| parents(root)).collect();
    let chosen = found.iter().find(|path| is_populated(path)).or(found.first()).cloned();
    chosen.ok_or(InterceptError::NoPodsCgroup { mounts })
}

/// The cgroups at most three levels below `root` that have a name of the pods' parent.
fn parents(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut level) = (Vec::new(), vec![root.to_owned()]);
    for _ in 0..3 {
        let mut next = Vec::new();
        for entry in level.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            match entry.file_name().to_str() {
                Some(name) if name == "kubepods" || is_slice(name) => found.push(entry.path()),
                _ => next.push(entry.path()),
            }
        }
        level = next;
    }
    found.sort_by_key(|path| (path.components().count(), path.clone()));
    found
}

fn is_slice(name: &str) -> bool {
    let stem = name.strip_suffix("kubepods.slice");
    stem.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('-'))
}

/// Whether there is a process in the cgroup or below.
fn is_populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events"))
        .is_ok_and(|it| it.lines().any(|line| line == "populated 1"))
}

/// The mount point in a line of mountinfo (proc_pid_mountinfo(5)), if it is a cgroup2 file system.
fn cgroup2_mount(line: &str) -> Option<PathBuf> {
    let (mount, filesystem) = line.split_once(" - ")?;
    (filesystem.split(' ').next()? == "cgroup2").then_some(())?;
    Some(PathBuf::from(unescape(mount.split(' ').nth(4)?)))
}

/// Decodes mountinfo's octal escapes of blanks and backslashes.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cgroup2_mounts_are_looked_into() {
        let unified = r"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(unified), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let v1 = "34 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        assert_eq!(cgroup2_mount(v1), None);
        assert_eq!(cgroup2_mount(""), None);
        let blank = r"41 31 0:38 / /host\040cgroup rw - cgroup2 none rw";
        assert_eq!(cgroup2_mount(blank), Some(PathBuf::from("/host cgroup")));
    }

    #[test]
    fn the_pods_parent_is_found_with_either_driver_and_below_a_cgroup_root() {
        for (folder, expected) in [
            ("kubepods.slice", true),
            ("kubepods", true),
            ("kubelet.slice/kubelet-kubepods.slice", true),
            ("kubelet/kubepods", true),
            ("kubelet.slice/kubelet/kubepods", true),
            ("a/b/c/kubepods", false),
            ("mykubepods.slice", false),
            ("kubepods-burstable.slice", false),
        ] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join(folder).join("burstable")).unwrap();
            let wanted: Vec<PathBuf> = expected.then(|| root.path().join(folder)).into_iter().collect();
            assert_eq!(parents(root.path()), wanted, "{folder}");
        }
    }

    #[test]
    fn a_node_without_cgroup2_and_one_without_pods_are_told_apart() {
        let error = find_among(Vec::new()).expect_err("nothing is mounted").to_string();
        assert!(error.starts_with("no cgroup2 file system is mounted"), "{error}");
        let root = tempfile::tempdir().unwrap();
        let error = find_among(vec![root.path().to_owned()]).expect_err("no pods").to_string();
        assert!(error.contains(root.path().to_str().unwrap()), "{error}");
        assert!(error.contains("transparent.cgroup"), "{error}");
    }

    #[test]
    fn an_ordinary_directory_is_no_cgroup() {
        let error = Cgroup::open(Path::new("/tmp")).expect_err("/tmp is no cgroup");
        assert!(error.to_string().contains("cgroup2"), "{error}");
        let error = Cgroup::open(Path::new("/sys/fs/cgroup/there/is/none")).expect_err("nothing there");
        assert!(error.to_string().contains("transparent.cgroup"), "{error}");
    }
}
