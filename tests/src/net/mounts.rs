//! Network namespaces as a container runtime has them: mounted on files of one folder, and seen by whoever has that folder
//! mounted.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Pod;

/// The folder; everything is unmounted when dropped.
pub struct NetnsFolder(tempfile::TempDir);

impl NetnsFolder {
    /// Makes it. What is mounted there later is seen in every copy of the mount, as with the /run of a node.
    #[expect(clippy::new_without_default, reason = "a mount is no default value")]
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(folder.path()));
        run(Command::new("mount").arg("--make-shared").arg(folder.path()));
        folder
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Mounts a pod's namespace, in the two steps of a runtime.
    pub fn add(&self, pod: &Pod) -> PathBuf {
        let file = self.path().join(pod.name());
        std::fs::write(&file, "").unwrap();
        run(Command::new("mount").arg("--bind").arg(pod.namespace()).arg(&file));
        file
    }

    /// Takes it away, as at a pod's end.
    pub fn remove(&self, file: &Path) {
        run(Command::new("umount").arg(file));
        std::fs::remove_file(file).unwrap();
    }
}

impl Drop for NetnsFolder {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.path()).into_iter().flatten().flatten() {
            let _ = Command::new("umount").arg(entry.path()).output();
        }
        let _ = Command::new("umount").args(["--lazy"]).arg(self.path()).output();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
