//! Lists the service files in the folder and its subfolders.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::FileProblem;
use super::documents::Syntax;
use super::folder::Signature;
use crate::config::{Files, Problem};

/// Maximum folder depth. linkerd's names had two or three labels.
const DEPTH: usize = 8;
/// Maximum number of subfolders; each costs an inotify watch.
const FOLDERS: usize = 1_000;

/// Suffixes of notes and of files that editors and package managers leave behind.
const NO_SERVICES: [&str; 11] =
    ["bak", "md", "new", "old", "orig", "rej", "save", "swo", "swp", "tmp", "txt"];

/// The result of a listing.
#[derive(Default)]
pub(super) struct Listing {
    /// The files, by relative path: `hello`, `http/hello`.
    pub(super) found: BTreeMap<String, (Format, Signature)>,
    /// The subfolders, likewise.
    pub(super) folders: BTreeSet<String>,
    /// Number of files beyond the limit, as far as was listed.
    pub(super) beyond: usize,
    /// Problems of the folder.
    pub(super) problems: Vec<FileProblem>,
}

/// A file's format, given by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// linkerd's lines.
    Lines,
    /// A name with a dot: linkerd's lines if it parses as such (`helloworld.Greeter`), otherwise not a service file.
    PerhapsLines,
    /// Kubernetes objects.
    Objects(Syntax),
}

impl Listing {
    /// Lists the folder of `settings`.
    ///
    /// # Errors
    /// The folder itself cannot be listed. A subfolder that cannot be listed is a problem.
    pub(super) fn new(settings: &Files) -> io::Result<Self> {
        let mut walk = Walk { settings, listing: Self::default(), seen: HashSet::new() };
        walk.folder("", 0)?;
        Ok(walk.listing)
    }

    fn add_problem(&mut self, file: &Path, what: String) {
        self.problems.push(Problem::of_file(file.display().to_string(), what));
    }
}

struct Walk<'a> {
    settings: &'a Files,
    listing: Listing,
    /// Device and inode of each folder: symbolic links may form a cycle.
    seen: HashSet<(u64, u64)>,
}

impl Walk<'_> {
    /// Lists the subfolder `below`, which is empty for the watched folder itself.
    fn folder(&mut self, below: &str, depth: usize) -> io::Result<()> {
        let path = self.settings.path.join(below);
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&path)? {
            // A name that is not UTF-8 cannot be a service name.
            if let Ok(name) = entry?.file_name().into_string() {
                names.insert(name);
            }
        }
        let mut folders = Vec::new();
        for name in names {
            let Some(format) = Format::from_name(&name, depth) else { continue };
            let name = if below.is_empty() { name } else { format!("{below}/{name}") };
            let path = self.settings.path.join(&name);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => self.file(name, format, &metadata),
                Ok(metadata) if metadata.is_dir() => folders.push((name, metadata)),
                // A pipe or a socket is not a service file.
                Ok(_) => {}
                // A dangling symbolic link.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // It exists but cannot be read now: its last content stays.
                Err(error) => self.listing.add_problem(&path, format!("cannot be looked at: {error}")),
            }
        }
        for (name, metadata) in folders {
            self.sub_folder(name, &metadata, depth + 1);
        }
        Ok(())
    }

    fn file(&mut self, name: String, format: Format, metadata: &Metadata) {
        let most = self.settings.file_count;
        if self.listing.found.len() < most {
            self.listing.found.insert(name, (format, Signature::from_metadata(metadata)));
            return;
        }
        if self.listing.beyond == 0 {
            let what = format!(
                "more than {most} files (discovery.files.fileCount); {name} and those after it are not read"
            );
            self.listing.add_problem(&self.settings.path, what);
        }
        self.listing.beyond += 1;
    }

    fn sub_folder(&mut self, name: String, metadata: &Metadata, depth: usize) {
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        let path = self.settings.path.join(&name);
        if depth > DEPTH || self.listing.folders.len() == FOLDERS {
            let what = format!("not read: at most {FOLDERS} folders, {DEPTH} deep, are looked into");
            return self.listing.add_problem(&path, what);
        }
        self.listing.folders.insert(name.clone());
        if let Err(error) = self.folder(&name, depth)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.listing.add_problem(&path, format!("cannot be listed: {error}"));
        }
    }
}

impl Format {
    /// The format of a file with this name; `None` for hidden files and editors' files. Objects must be in the folder
    /// itself.
    fn from_name(name: &str, depth: usize) -> Option<Self> {
        if name.starts_with('.') || name.ends_with('~') || name.starts_with('#') {
            return None;
        }
        Some(match name.rsplit_once('.') {
            None => Self::Lines,
            Some((_, "yaml" | "yml")) if depth == 0 => Self::Objects(Syntax::Yaml),
            Some((_, "json")) if depth == 0 => Self::Objects(Syntax::Json),
            Some((_, ending)) if NO_SERVICES.contains(&ending) => return None,
            Some(_) => Self::PerhapsLines,
        })
    }
}
