//! Cgroups of a test: the tree of a pretend node, and one with a limit of memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use test_support::cgroup;

const PREFIX: &str = "weir-e2e";

/// A tree of cgroups (version 2), removed when dropped with everything that still runs in it.
pub struct Cgroup(cgroup::Cgroup);

impl Cgroup {
    /// Makes the root of a tree of its own.
    #[expect(clippy::new_without_default, reason = "making a cgroup is no default value")]
    pub fn new() -> Self {
        Self(cgroup::Cgroup::create(&mount(), &name("")).unwrap())
    }

    /// The root.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes a cgroup below the root.
    pub fn child(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

/// A cgroup whose processes may use so much memory, removed when dropped.
pub struct MemoryCgroup(cgroup::Cgroup);

impl MemoryCgroup {
    /// Makes one with this limit in bytes; `None` where this process may not, or the kernel has no such controller.
    pub fn new(limit: u64) -> Option<Self> {
        let (root, file) = memory_controller()?;
        cgroup::sweep(&root, PREFIX);
        let made = cgroup::Cgroup::create(&root, &name("m")).ok()?;
        fs::write(made.path().join(file), limit.to_string()).expect("a limit of memory");
        Some(Self(made))
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A name that no other test has, by which [`sweep`] finds it.
fn name(kind: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    format!("{PREFIX}-{}-{kind}{number}", std::process::id())
}

/// The root of the memory controller, in version 2 or 1, and the file of a cgroup's limit.
fn memory_controller() -> Option<(PathBuf, &'static str)> {
    let root = mount();
    if fs::read_to_string(root.join("cgroup.controllers")).is_ok_and(|all| all.contains("memory")) {
        let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        return Some((root, "memory.max"));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let is_memory = |line: &&str| {
        let kind = line.split(" - ").nth(1).unwrap_or_default();
        kind.starts_with("cgroup ") && kind.split([' ', ',']).any(|it| it == "memory")
    };
    let line = mounts.lines().find(is_memory)?;
    Some((line.split(' ').nth(4)?.into(), "memory.limit_in_bytes"))
}

/// Where cgroup2 is mounted.
pub fn mount() -> PathBuf {
    cgroup::mount().expect("a cgroup2 mount: interception cannot be tested without one")
}

/// Removes what runs that crashed have left: cgroups whose process is no more.
pub fn sweep() {
    cgroup::sweep(&mount(), PREFIX);
}
