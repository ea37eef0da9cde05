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
    for entry in fs::read_dir(mount()).unwrap().flatten() {
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
