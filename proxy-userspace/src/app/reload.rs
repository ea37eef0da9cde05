//! Reloads the configuration on SIGHUP or when the file has changed.
//!
//! A file with mistakes changes nothing: the settings in force stay, and log, metric and admin show the reason.
//! [`super::apply`] decides how a good file takes effect. The file is read once two consecutive checks show the same
//! version, because it may still be being written: one second apart without a signal, a few milliseconds apart on
//! SIGHUP.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::apply::Running;
use crate::config;
use crate::control::Stage;

/// How often the file is checked. A mounted ConfigMap changes by renaming a link, so a watch on the file does not help.
const LOOK: Duration = Duration::from_secs(1);

/// On SIGHUP, the interval between two checks that must agree, and how often that is tried.
const SETTLED: Duration = Duration::from_millis(20);
const TRIES: usize = 10;

/// The configuration file, and the version of it that was read.
pub(super) struct File {
    path: PathBuf,
    seen: Option<Stamp>,
    /// A newer version that was seen once and may still be being written.
    unsettled: Option<Stamp>,
}

/// Distinguishes versions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl File {
    /// Create this before reading the file, so that a change in between is noticed.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { seen: Stamp::from_file(&path), path, unsettled: None }
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the file no longer changes, at most a fifth of a second.
    async fn settle(&self) {
        let mut before = Stamp::from_file(&self.path);
        for _ in 0..TRIES {
            sleep(SETTLED).await;
            let now = Stamp::from_file(&self.path);
            if now == std::mem::replace(&mut before, now) {
                return;
            }
        }
    }

    /// Whether to read the file: at once if `asked` to, otherwise when two consecutive checks show the same new
    /// version. A missing file is in the middle of a replacement.
    fn is_due(&mut self, asked: Asked) -> bool {
        let now = Stamp::from_file(&self.path);
        let due = match asked {
            Asked::Yes => true,
            Asked::No => now.is_some() && now != self.seen && now == self.unsettled,
        };
        self.unsettled = now;
        if due {
            self.seen = now;
        }
        due
    }
}

/// Whether a reload was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

impl Stamp {
    /// `None` for anything but a regular file: a pipe that provided the configuration at start has no other versions.
    fn from_file(file: &Path) -> Option<Self> {
        let facts = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
        Some(Self {
            inode: facts.ino(),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }
}

/// Reloads until weir stops.
pub(super) fn start(mut file: Option<File>, running: Running, mut hangup: Signal) {
    let drain = running.control.shared.drain.clone();
    tokio::spawn(async move {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = ticks.tick() => Asked::No,
                _ = hangup.recv() => Asked::Yes,
                () = drain.closing() => return,
            };
            let Some(file) = &mut file else {
                if asked == Asked::Yes {
                    tracing::warn!("SIGHUP: there is no configuration file to read again");
                }
                continue;
            };
            // What the next weir has been given must not change while it gets ready. It reads the file itself.
            running.control.handover.until(|it| *it != Stage::Gives).await;
            if asked == Asked::Yes {
                file.settle().await;
            }
            if file.is_due(asked) {
                reload(&file.path, &running).await;
            }
        }
    });
}

async fn reload(file: &Path, running: &Running) {
    match config::load_again(file) {
        Ok(written) => {
            let waiting = running.apply(&written).await;
            if waiting.is_empty() {
                tracing::info!("configuration reloaded");
            } else {
                tracing::warn!(
                    ?waiting,
                    "configuration reloaded, but for these settings, which stay as they were"
                );
            }
        }
        Err(error) => {
            tracing::error!("the configuration has mistakes; the one in force stays:\n{error}");
            running.control.configuration.reload_failed(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_when_it_looks_the_same_twice_or_when_somebody_asks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut file = File::at(path.clone());
        assert!(!file.is_due(Asked::No), "nothing has changed");
        std::fs::write(&path, "ab").unwrap();
        assert!(!file.is_due(Asked::No), "it may be being written");
        std::fs::write(&path, "abc").unwrap();
        assert!(!file.is_due(Asked::No), "it was");
        assert!(file.is_due(Asked::No));
        assert!(!file.is_due(Asked::No), "it has been read");
        std::fs::remove_file(&path).unwrap();
        assert!(!file.is_due(Asked::No) && !file.is_due(Asked::No), "a version is yet to come");
        assert!(file.is_due(Asked::Yes));
    }
}
