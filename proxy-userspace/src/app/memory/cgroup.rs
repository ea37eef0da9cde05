//! The memory limit of this process's cgroup, and what is in use of it.
//!
//! A process is killed when its cgroup or one around it reaches its limit, so the lowest limit of all counts. What is in
//! use is always that of its own cgroup: what others use around it is theirs, and ending weir's connections would not make
//! it less. Version 2: `memory.max`, and `memory.high`, beyond which the kernel slows the process down. Version 1:
//! `memory.limit_in_bytes`, and `hierarchical_memory_limit` for those that are not to be seen from a container.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Of the limits around a cgroup, only those below this part of the machine's memory count: higher ones are made for many
/// others as well, as that of all pods of a node.
const PART: u64 = 4;

/// The process's own cgroup, and the lowest limit of it and of those around it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cgroup {
    folder: PathBuf,
    version: Version,
    limit: u64,
}

/// The folders of this process's cgroups that had to be searched for, by mount.
///
/// A container in a cgroup namespace of its own that sees the node's hierarchy through a mount, as weir's manifest has it,
/// is not told its place in there: its process number is searched for.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<PathBuf, Option<PathBuf>>);

impl Known {
    /// The folder of this process's cgroup below `mount`, which is `told` if that is true.
    fn own(&mut self, mount: &Path, told: PathBuf) -> PathBuf {
        let own = std::process::id().to_string();
        let found = self.0.get(mount).cloned().flatten();
        if let Some(folder) = [Some(told.clone()), found].into_iter().flatten().find(|it| holds(it, &own)) {
            return folder;
        }
        // Searched for once, unless it was found and is there no more.
        if !matches!(self.0.get(mount), Some(None)) {
            self.0.insert(mount.to_owned(), search(mount, &own));
        }
        self.0.get(mount).cloned().flatten().unwrap_or(told)
    }
}

/// The cgroup below `mount` that holds this process.
fn search(mount: &Path, process: &str) -> Option<PathBuf> {
    let mut open = vec![mount.to_owned()];
    while let Some(folder) = open.pop() {
        if holds(&folder, process) {
            return Some(folder);
        }
        // One that has ended meanwhile does not hold it.
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        open.extend(entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path()));
    }
    None
}

/// Whether the process is directly in the cgroup.
fn holds(cgroup: &Path, process: &str) -> bool {
    fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|ids| ids.lines().any(|id| id == process))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Cgroup {
    /// The cgroup of this process with the lowest limit; `None` if none is below the memory of the `machine`. `proc` is where procfs is mounted, and `known` what was found out about places.
    pub(super) fn tightest(proc: &Path, machine: u64, known: &mut Known) -> Option<Self> {
        let read = |name: &str| fs::read_to_string(proc.join("self").join(name)).ok();
        let (mounts, cgroups) = (read("mountinfo")?, read("cgroup")?);
        let all = [Version::V2, Version::V1].into_iter().filter_map(|version| {
            let (mount, folder) = version.place(&mounts, &cgroups)?;
            let folder = known.own(&mount, folder);
            let limit = version.lowest_limit(&mount, &folder, machine)?;
            Some(Self { folder, version, limit })
        });
        all.min_by_key(|it| it.limit)
    }

    /// One whose files are in this folder.
    #[cfg(test)]
    pub(super) fn of_version_2(folder: &Path, limit: u64) -> Self {
        Self { folder: folder.to_owned(), version: Version::V2, limit }
    }

    /// The folder of the process's own cgroup.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The limit in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that are charged to it, the cache of files included.
    pub(super) fn charged(&self) -> Option<u64> {
        number(&self.folder.join(match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        }))
    }

    /// The part of these that the kernel can take back: the cache of files. The kernel sums up all that it counts for this,
    /// up to Linux 6.7 of all cgroups and under one lock, which may take it milliseconds on a large node.
    pub(super) fn cache(&self) -> Option<u64> {
        let (file, shmem) = match self.version {
            Version::V1 => ("total_cache", "total_shmem"),
            Version::V2 => ("file", "shmem"),
        };
        let stat = fs::read_to_string(self.folder.join("memory.stat")).ok()?;
        let of = |name| field(&stat, name).unwrap_or_default();
        // Memory that is shared counts as a file, and is none.
        Some(of(file).saturating_sub(of(shmem)) + of("slab_reclaimable"))
    }
}

impl Version {
    /// Where this version's memory controller is mounted, and the folder of this process's cgroup there.
    fn place(self, mounts: &str, cgroups: &str) -> Option<(PathBuf, PathBuf)> {
        let own = cgroups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let is_it = match self {
                Self::V2 => number == "0" && controllers.is_empty(),
                Self::V1 => controllers.split(',').any(|it| it == "memory"),
            };
            is_it.then_some(path)
        })?;
        mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut after = after.split(' ');
            let (kind, options) = (after.next()?, after.nth(1)?);
            let is_it = match self {
                Self::V2 => kind == "cgroup2",
                Self::V1 => kind == "cgroup" && options.split(',').any(|it| it == "memory"),
            };
            let mut before = before.split(' ').skip(3).filter(|_| is_it);
            let (root, mount) = (before.next()?, PathBuf::from(before.next()?));
            // In a container, what is mounted may be its own cgroup, whose path is not to be seen.
            let below = Path::new(own).strip_prefix(root).unwrap_or(Path::new(""));
            let is_plain = below.components().all(|it| matches!(it, std::path::Component::Normal(_)));
            let folder = if is_plain { mount.join(below) } else { mount.clone() };
            Some((mount, folder))
        })
    }

    /// The lowest limit of the cgroup in `folder` and of those around it, up to `mount`, on a `machine` with so much memory.
    fn lowest_limit(self, mount: &Path, folder: &Path, machine: u64) -> Option<u64> {
        let own = self.limits(folder).filter(|limit| *limit < machine);
        let around = folder.ancestors().skip(1).take_while(|it| it.starts_with(mount));
        let around = around.flat_map(|it| self.limits(it)).chain(self.unseen_limit(folder));
        own.chain(around.filter(|limit| *limit < machine / PART)).min()
    }

    /// The limits of one cgroup.
    fn limits(self, folder: &Path) -> impl Iterator<Item = u64> {
        let files: &[&str] = match self {
            Self::V2 => &["memory.max", "memory.high"],
            Self::V1 => &["memory.limit_in_bytes"],
        };
        files.iter().filter_map(move |name| number(&folder.join(name)))
    }

    /// The lowest limit around the cgroup in `folder`, where that is told apart from the folders.
    fn unseen_limit(self, folder: &Path) -> Option<u64> {
        if self == Self::V2 {
            return None;
        }
        field(&fs::read_to_string(folder.join("memory.stat")).ok()?, "hierarchical_memory_limit")
    }
}

/// The number in a file; `None` also for `max`.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number of a field.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: u64 = 1 << 40;

    /// A machine whose files are below a folder, with what `self/mountinfo` and `self/cgroup` say; `ROOT` stands for the
    /// folder.
    fn machine(mounts: &str, cgroups: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let mounts = mounts.replace("ROOT", root);
        let own = [("self/mountinfo", &*mounts), ("self/cgroup", cgroups)];
        for (file, text) in own.into_iter().chain(files.iter().copied()) {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        folder
    }

    /// The folder of the process's cgroup, the limit that counts, and what is in use.
    fn tightest(machine: &tempfile::TempDir) -> Option<(String, u64, Option<u64>)> {
        let found = Cgroup::tightest(machine.path(), MACHINE, &mut Known::default())?;
        let folder = found.folder.strip_prefix(machine.path()).unwrap();
        let used = found.charged().zip(found.cache()).map(|(charged, cache)| charged - cache);
        Some((folder.display().to_string(), found.limit(), used))
    }

    const V2: &str = "30 24 0:26 / ROOT/cg rw,nosuid - cgroup2 cgroup2 rw\n";
    const V1: &str = "31 24 0:27 / ROOT/cpu rw - cgroup cgroup rw,cpu\n\
                      32 24 0:28 / ROOT/mem rw shared:9 - cgroup cgroup rw,memory\n";

    #[test]
    fn the_lowest_limit_around_the_process_counts_and_of_what_is_in_use_only_its_own() {
        // What the neighbours in the pod use is not weir's.
        let files = [
            ("cg/pod/memory.current", "1900\n"),
            ("cg/pod/memory.stat", "anon 1900\nfile 0\n"),
            ("cg/pod/weir/memory.current", "1000\n"),
            ("cg/pod/weir/memory.stat", "anon 500\nfile 300\nshmem 100\nslab_reclaimable 50\n"),
        ];
        for (own, pod, high, expected) in [
            ("max\n", "2000\n", "max\n", Some(2_000)),
            ("2000\n", "2000\n", "max\n", Some(2_000)),
            ("max\n", "2000\n", "1500\n", Some(1_500)),
            ("1000\n", "max\n", "max\n", Some(1_000)),
            ("max\n", "max\n", "max\n", None),
            // As much as the machine has is no limit, and a large part of that none around it.
            ("9000000000000\n", "max\n", "max\n", None),
            ("900000000000\n", "max\n", "max\n", Some(900_000_000_000)),
            ("max\n", "900000000000\n", "max\n", None),
        ] {
            let limits =
                [("cg/pod/weir/memory.max", own), ("cg/pod/memory.max", pod), ("cg/pod/memory.high", high)];
            let machine = machine(V2, "0::/pod/weir\n", &[&limits[..], &files].concat());
            let expected = expected.map(|limit| ("cg/pod/weir".to_owned(), limit, Some(750)));
            assert_eq!(tightest(&machine), expected, "{own:?} {pod:?} {high:?}");
        }
    }

    #[test]
    fn version_1_is_read_too_with_the_limits_that_are_not_to_be_seen() {
        let none = "9223372036854771712\n";
        let stat = "cache 1\ntotal_cache 300\ntotal_shmem 100\nhierarchical_memory_limit 4000\n";
        let files = [
            ("mem/weir/memory.limit_in_bytes", none),
            ("mem/weir/memory.usage_in_bytes", "1000\n"),
            ("mem/weir/memory.stat", stat),
            ("mem/memory.limit_in_bytes", none),
        ];
        let machine = machine(V1, "5:cpu:/other\n4:memory:/weir\n0::/\n", &files);
        assert_eq!(tightest(&machine), Some(("mem/weir".to_owned(), 4_000, Some(800))));
    }

    #[test]
    fn in_a_container_the_own_cgroup_is_what_is_mounted() {
        for (mounts, own) in [
            // With a cgroup namespace of its own, as containerd makes it.
            ("30 24 0:26 / ROOT/cg ro - cgroup2 cgroup rw\n", "0::/\n"),
            // Mounted from outside the namespace.
            ("30 24 0:26 /../.. ROOT/cg ro - cgroup2 cgroup rw\n", "0::/\n"),
            ("30 24 0:26 / ROOT/cg ro - cgroup2 cgroup rw\n", "0::/../../else\n"),
            // Without one: the path is the node's.
            ("30 24 0:26 /kubepods/pod/weir ROOT/cg ro - cgroup2 cgroup rw\n", "0::/kubepods/pod/weir\n"),
        ] {
            let machine = machine(mounts, own, &[("cg/memory.max", "2000\n")]);
            assert_eq!(tightest(&machine), Some(("cg".to_owned(), 2_000, None)), "{mounts} {own}");
        }
    }

    #[test]
    fn a_place_in_the_nodes_hierarchy_that_is_not_told_is_searched_for_once() {
        let own = format!("7\n{}\n", std::process::id());
        let files = [
            ("cg/cgroup.procs", "1\n"),
            ("cg/kubepods/pod1/other/cgroup.procs", "2\n"),
            ("cg/kubepods/pod1/other/memory.max", "1000\n"),
            ("cg/kubepods/pod2/weir/cgroup.procs", &*own),
            ("cg/kubepods/pod2/memory.max", "2000\n"),
        ];
        let machine = machine("30 24 0:26 /../../.. ROOT/cg ro - cgroup2 cgroup rw\n", "0::/\n", &files);
        assert_eq!(tightest(&machine), Some(("cg/kubepods/pod2/weir".to_owned(), 2_000, None)));
        let mut known = Known::default();
        let mount = machine.path().join("cg");
        assert!(known.own(&mount, mount.clone()).ends_with("pod2/weir"));
        fs::remove_file(mount.join("kubepods/pod2/weir/cgroup.procs")).unwrap();
        assert_eq!(known.own(&mount, mount.clone()), mount);
        fs::write(mount.join("kubepods/pod2/weir/cgroup.procs"), &own).unwrap();
        assert_eq!(known.own(&mount, mount.clone()), mount, "a search that found nothing is not repeated");
    }

    #[test]
    fn where_nothing_is_told_there_is_no_limit() {
        for (mounts, own) in [("", ""), (V2, "0::/gone\n"), (V1, "4:memory:/gone\n"), ("x - y", "z")] {
            assert_eq!(tightest(&machine(mounts, own, &[])), None, "{mounts} {own}");
        }
    }
}
