//! The folder of network namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::intercept::{self, NetnsId};

/// Files of the folder that are looked at.
pub(super) const MOST_FILES: usize = 2 * intercept::MOST_PODS;

/// What a file of the folder is.
#[derive(Debug, PartialEq, Eq)]
enum File {
    /// A network namespace.
    Netns(NetnsId),
    /// Something else. A runtime makes the file before it mounts the namespace there.
    Other,
    /// It does not exist.
    Gone,
    /// It could not be opened, for example for lack of a descriptor: nothing is known of it.
    Unknown(String),
}

impl File {
    fn at(path: &Path) -> Self {
        Self::told(intercept::open_netns(path).map(|(_, id)| id))
    }

    fn told(opened: io::Result<NetnsId>) -> Self {
        match opened {
            Ok(id) => Self::Netns(id),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Self::Gone,
            // Not an error of the kernel: the file was opened, and is something else.
            Err(cause) if cause.raw_os_error().is_none() => Self::Other,
            Err(cause) => Self::Unknown(cause.to_string()),
        }
    }

    /// Whether the namespace `id`, whose file this was, is certainly not there any more.
    fn is_without(&self, id: NetnsId) -> bool {
        match self {
            Self::Netns(now) => *now != id,
            Self::Other | Self::Gone => true,
            Self::Unknown(_) => false,
        }
    }
}

/// What the folder has.
#[derive(Debug, Default)]
pub(in crate::app) struct Listing {
    /// The network namespaces.
    pub(in crate::app) present: BTreeMap<NetnsId, PathBuf>,
    /// Files that are none.
    pub(in crate::app) files: BTreeSet<PathBuf>,
    /// Files of which nothing is known, and why.
    pub(in crate::app) unknown: BTreeMap<PathBuf, Arc<str>>,
    /// Whether there are more files, which are not looked at.
    pub(in crate::app) has_more: bool,
}

impl Listing {
    /// Looks at the first files of the folder.
    ///
    /// # Errors
    ///
    /// The folder cannot be listed.
    pub(in crate::app) fn of(folder: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        for (number, entry) in fs::read_dir(folder)?.enumerate() {
            if number == MOST_FILES {
                listing.has_more = true;
                break;
            }
            let path = entry?.path();
            match File::at(&path) {
                File::Netns(id) => drop(listing.present.entry(id).or_insert(path)),
                File::Other => {
                    listing.files.insert(path);
                }
                // It was removed meanwhile.
                File::Gone => {}
                File::Unknown(why) => drop(listing.unknown.insert(path, why.into())),
            }
        }
        Ok(listing)
    }

    /// Whether the namespace `id` has gone. `path` is where it was: unless it was found, this file is asked once more,
    /// since one that could not be opened, or that is beyond the first ones, says nothing.
    pub(in crate::app) fn is_without(&self, id: NetnsId, path: &Path) -> bool {
        !self.present.contains_key(&id) && File::at(path).is_without(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: NetnsId = (4, 4_026_531_840);

    #[test]
    fn only_a_file_that_is_gone_or_is_something_else_ends_a_pod() {
        let errno = |errno| Err(io::Error::from_raw_os_error(errno));
        for (opened, ends) in [
            (Ok(ID), false),
            (Ok((4, 1)), true),
            (errno(libc::ENOENT), true),
            (Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is no network namespace")), true),
            (errno(libc::EMFILE), false),
            (errno(libc::ENFILE), false),
            (errno(libc::ENOMEM), false),
            (errno(libc::EACCES), false),
            (errno(libc::EPERM), false),
            (errno(libc::EINTR), false),
            (errno(libc::EINVAL), false),
        ] {
            let shown = format!("{opened:?}");
            assert_eq!(File::told(opened).is_without(ID), ends, "{shown}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_neither_there_nor_gone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", at("pod")).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/uts", at("uts")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        // ELOOP, also for root.
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        let listing = Listing::of(folder.path()).unwrap();
        assert_eq!(listing.present.values().collect::<Vec<_>>(), [&at("pod")]);
        assert_eq!(listing.unknown.keys().collect::<Vec<_>>(), [&at("loop")]);
        assert_eq!(listing.files, BTreeSet::from([at("file"), at("uts")]));
        let own = *listing.present.keys().next().unwrap();
        for (id, name, gone) in [
            (own, "pod", false),
            (own, "dangling", false),
            (ID, "loop", false),
            (ID, "pod", true),
            (ID, "file", true),
            (ID, "uts", true),
            (ID, "dangling", true),
            (ID, "none", true),
        ] {
            assert_eq!(listing.is_without(id, &at(name)), gone, "{name}");
        }
        assert!(Listing::of(&at("none")).is_err());
    }

    #[test]
    fn a_folder_full_of_files_is_looked_at_in_part_and_that_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let fill = |numbers: std::ops::Range<usize>| {
            numbers.for_each(|it| fs::write(folder.path().join(it.to_string()), "").unwrap());
        };
        fill(0..MOST_FILES);
        assert!(!Listing::of(folder.path()).unwrap().has_more);
        fill(MOST_FILES..MOST_FILES + 1);
        let listing = Listing::of(folder.path()).unwrap();
        assert_eq!((listing.has_more, listing.files.len()), (true, MOST_FILES));
    }
}
