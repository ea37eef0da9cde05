//! Cgroups (version 2) of a test, removed with everything that still runs in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

const PREFIX: &str = "weir-e2e-";

/// A tree of cgroups, removed when dropped.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes the root of a tree of its own.
    #[expect(clippy::new_without_default, reason = "making a cgroup is no default value")]
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let path = mount().join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|e| panic!("cannot make the cgroup {}: {e}", path.display()));
        Self(path)
    }

    /// The root.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a cgroup below the root.
    pub fn child(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// A cgroup whose processes may use so much memory, removed when dropped.
pub struct MemoryCgroup(PathBuf);

impl MemoryCgroup {
    /// Makes one with this limit in bytes; `None` where this process may not, or the kernel has no such controller.
    pub fn new(limit: u64) -> Option<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (root, file) = memory_controller()?;
        sweep_in(&root);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let cgroup = Self(root.join(format!("{PREFIX}{}-m{number}", std::process::id())));
        fs::create_dir(&cgroup.0).ok()?;
        fs::write(cgroup.0.join(file), limit.to_string()).expect("a limit of memory");
        Some(cgroup)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        remove(&self.0);
    }
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

/// Where cgroup2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1.
pub fn mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_cgroup2 = |line: &&str| line.split(" - ").nth(1).is_some_and(|kind| kind.starts_with("cgroup2 "));
    let line =
        mounts.lines().find(is_cgroup2).expect("a cgroup2 mount: interception cannot be tested without one");
    line.split(' ').nth(4).unwrap().into()
}

/// Removes what runs that crashed have left: cgroups whose process is no more.
pub fn sweep() {
    sweep_in(&mount());
}

fn sweep_in(root: &Path) {
    for entry in fs::read_dir(root).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            remove(&entry.path());
        }
    }
}

/// Kills what runs in the tree and removes it, leaves first.
pub(super) fn remove(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    for entry in fs::read_dir(path).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove(&entry.path());
    }
    for _ in 0..200 {
        match fs::remove_dir(path) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            _ => return,
        }
    }
}
