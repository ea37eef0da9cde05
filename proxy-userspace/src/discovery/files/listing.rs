//! Which service files there are, in the folder and in the folders below it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::FileProblem;
use super::documents::Syntax;
use super::folder::Signature;
use crate::config::{Files, Problem};

/// How deep folders may lie in one another. linkerd's names had two or three labels.
const DEPTH: usize = 8;
/// Folders below the one that is watched; each costs an inotify watch.
const FOLDERS: usize = 1_000;

/// Endings of notes and of what editors and package managers leave behind.
const NO_SERVICES: [&str; 11] =
    ["bak", "md", "new", "old", "orig", "rej", "save", "swo", "swp", "tmp", "txt"];

/// What there is.
#[derive(Default)]
pub(super) struct Listing {
    /// The files, by their paths below the folder: `hello`, `http/hello`.
    pub(super) found: BTreeMap<String, (Format, Signature)>,
    /// The folders below the folder, likewise.
    pub(super) folders: BTreeSet<String>,
    /// How many files there are beyond those that may be, as far as was looked.
    pub(super) beyond: usize,
    /// What is wrong with the folder.
    pub(super) problems: Vec<FileProblem>,
}

/// How a file is written, which its name decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// linkerd's lines.
    Lines,
    /// A name with a dot: linkerd's lines if it reads so (`helloworld.Greeter`), and else no service file.
    PerhapsLines,
    /// Kubernetes objects.
    Objects(Syntax),
}

impl Listing {
    /// Lists the folder of `settings`.
    ///
    /// # Errors
    /// The folder itself cannot be listed. One below it that cannot be is a problem.
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
    /// Device and inode of each folder: links may lead in a circle.
    seen: HashSet<(u64, u64)>,
}

impl Walk<'_> {
    /// Lists the folder at `below`, which is empty for the one that is watched.
    fn folder(&mut self, below: &str, depth: usize) -> io::Result<()> {
        let path = self.settings.path.join(below);
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&path)? {
            // A name that is not UTF-8 is no service's: names of services are text.
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
                // A pipe or a socket is no service file.
                Ok(_) => {}
                // A link that leads nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // It is there, and what it says now is not known: what it said stays.
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
    /// The format of a file of this name; none for what is hidden and for editors' files. Objects lie in the folder itself.
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
