//! The folder's files, each with its last good state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::FileProblem;
use super::documents::{self, ObjectId, Placed, parse_documents};
use super::fs::{Line, parse_fs};
use super::listing::{Format, Listing};
use super::pending::Dirty;
use crate::config::tree::Bounds;
use crate::config::{Files, Problem, open_regular};

/// A folder as it was last read.
pub(super) struct Folder {
    settings: Files,
    files: BTreeMap<String, FileState>,
    /// Number of files beyond the limit.
    beyond: usize,
    /// The subfolders, by relative path.
    folders: BTreeSet<String>,
    /// Problems of the folder itself.
    problems: Vec<FileProblem>,
}

/// One file.
pub(super) struct FileState {
    /// The last valid content, if any.
    pub(super) content: Option<Content>,
    /// Its current problems.
    pub(super) problems: Vec<FileProblem>,
    /// Whether its size is within the limit.
    size: Size,
    /// The version that was read; `None` while it must be read again.
    signature: Option<Signature>,
    /// A version that was seen in a listing and may still be being written.
    unsettled: Option<Signature>,
}

/// A file's content.
#[derive(Debug)]
pub(super) enum Content {
    /// One service's endpoints.
    Lines(Vec<Line>),
    /// Kubernetes objects.
    Objects(BTreeMap<ObjectId, Placed>),
}

/// A file's size against the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Within the limit.
    Fits,
    /// Beyond the limit.
    TooLarge,
}

/// The metadata that changes with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Folder {
    /// The folder with all its files.
    pub(super) fn open(settings: Files) -> io::Result<Self> {
        let (files, folders, problems) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        let mut folder = Self { settings, files, beyond: 0, folders, problems };
        let found = folder.list()?;
        folder.update(found, &Dirty::everything());
        Ok(folder)
    }

    /// The files, sorted by name: the first to define something wins.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &FileState)> {
        self.files.iter().map(|(name, file)| (name.as_str(), file))
    }

    /// The subfolders, by relative path.
    pub(super) fn folders(&self) -> &BTreeSet<String> {
        &self.folders
    }

    /// Problems of the folder itself.
    pub(super) fn problems(&self) -> &[FileProblem] {
        &self.problems
    }

    /// Number of files not read because of a limit.
    pub(super) fn left_out(&self) -> usize {
        self.beyond + self.files.values().filter(|file| file.size == Size::TooLarge).count()
    }

    /// The file's name in problems.
    pub(super) fn label(&self, name: &str) -> String {
        self.settings.path.join(name).display().to_string()
    }

    /// Reads the files that changed; returns whether there were any. If the folder cannot be listed, nothing changes.
    pub(super) fn refresh(&mut self, dirty: &Dirty) -> bool {
        let before = std::mem::take(&mut self.problems);
        let read = match self.list() {
            Ok(found) => self.update(found, dirty),
            Err(error) => {
                let problem = Problem::of_file(
                    self.settings.path.display().to_string(),
                    format!("cannot be listed: {error}"),
                );
                self.problems.push(problem);
                false
            }
        };
        read || before != self.problems
    }

    fn list(&mut self) -> io::Result<BTreeMap<String, (Format, Signature)>> {
        let listing = Listing::new(&self.settings)?;
        self.beyond = listing.beyond;
        self.problems.extend(listing.problems);
        self.folders = listing.folders;
        Ok(listing.found)
    }

    /// Drops removed files and reads those that are due; returns whether there were any.
    fn update(&mut self, found: BTreeMap<String, (Format, Signature)>, dirty: &Dirty) -> bool {
        let before = self.files.len();
        let path = &self.settings.path;
        // A listing may miss a file that is replaced meanwhile (readdir(3) does not specify it), so the file is looked
        // up by name. Its services are removed only if that reports no such file.
        let is_there = |name: &str| match fs::metadata(path.join(name)) {
            Ok(it) => it.is_file(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        self.files
            .retain(|name, _| found.contains_key(name) || dirty.is_being_written(name) || is_there(name));
        let mut changed = self.files.len() != before;
        for (name, (format, signature)) in found {
            if dirty.is_being_written(&name) {
                continue;
            }
            let path = self.settings.path.join(&name);
            let told = dirty.contains(&name);
            let file = self.files.entry(name).or_insert_with(FileState::unread);
            if file.is_due(signature, told) {
                file.read(&path, format, signature, self.settings.file_bytes);
                changed = true;
            }
        }
        changed
    }
}

impl FileState {
    fn unread() -> Self {
        Self { content: None, problems: Vec::new(), size: Size::Fits, signature: None, unsettled: None }
    }

    /// Whether to read the version `now`. A version reported by an event is complete. One that was only seen in a
    /// listing must look the same twice.
    fn is_due(&mut self, now: Signature, told: bool) -> bool {
        if told {
            return true;
        }
        if self.signature == Some(now) {
            self.unsettled = None;
            return false;
        }
        self.unsettled.replace(now) == Some(now)
    }

    fn read(&mut self, path: &Path, format: Format, signature: Signature, most: usize) {
        self.unsettled = None;
        self.size = Size::Fits;
        let label = path.display().to_string();
        let problems = match read_text(path, most) {
            // The next check reads it.
            Ok((_, None)) => {
                self.signature = None;
                return;
            }
            Ok((text, version)) => {
                self.signature = version;
                self.take(&label, &text, format, most)
            }
            Err(NotRead::TooLarge) => {
                (self.signature, self.size) = (Some(signature), Size::TooLarge);
                vec![Problem::of_file(label, format!("larger than {most} bytes (discovery.files.fileBytes)"))]
            }
            Err(NotRead::Unreadable(what)) => {
                self.signature = Some(signature);
                vec![Problem::of_file(label, what)]
            }
        };
        self.problems = problems;
    }

    /// Applies the valid parts of `text`; returns the problems of the rest.
    fn take(&mut self, label: &str, text: &str, format: Format, most: usize) -> Vec<FileProblem> {
        match format {
            Format::Lines | Format::PerhapsLines => {
                let is_service = format == Format::Lines || self.content.is_some();
                match parse_fs(text) {
                    // With a dot in its name and without endpoints, it is not a service unless it was one before.
                    Ok(lines) if is_service || !lines.is_empty() => {
                        self.content = Some(Content::Lines(lines));
                        Vec::new()
                    }
                    Err(mistakes) if is_service => documents::of_lines(label, mistakes),
                    Ok(_) | Err(_) => Vec::new(),
                }
            }
            Format::Objects(syntax) => match parse_documents(label, text, syntax, bounds(most)) {
                Ok(mut documents) => {
                    self.keep_last_good(&mut documents);
                    self.content = Some(Content::Objects(documents.objects));
                    documents.problems
                }
                Err(problem) => vec![problem],
            },
        }
    }

    /// An object that became invalid keeps its last valid state; all objects do if an invalid one has no identity.
    fn keep_last_good(&self, documents: &mut documents::Documents) {
        let Some(Content::Objects(before)) = &self.content else { return };
        let wrong = |id: &&ObjectId| documents.nameless || documents.wrong.contains(id);
        let kept: Vec<_> = before.iter().filter(|(id, _)| wrong(id)).collect();
        for (id, object) in kept {
            documents.objects.entry(id.clone()).or_insert_with(|| object.clone());
        }
    }
}

impl Signature {
    pub(super) fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Why a file is not read.
enum NotRead {
    TooLarge,
    Unreadable(String),
}

/// The parser limits for a file of at most `bytes`. Repetitions by aliases count too.
fn bounds(bytes: usize) -> Bounds {
    Bounds { bytes, nodes: bytes / 8 }
}

/// A file's text and version; no version if it was written meanwhile. A file that was replaced by another is still
/// complete, but its text belongs to the old version.
fn read_text(path: &Path, most: usize) -> Result<(String, Option<Signature>), NotRead> {
    let mut bytes = Vec::new();
    let limit = most as u64 + 1;
    let read = open_regular(path).and_then(|file| {
        let before = Signature::from_metadata(&file.metadata()?);
        (&file).take(limit).read_to_end(&mut bytes)?;
        Ok((before, Signature::from_metadata(&file.metadata()?)))
    });
    let (before, after) = read.map_err(|error| NotRead::Unreadable(format!("cannot be read: {error}")))?;
    if bytes.len() > most {
        return Err(NotRead::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        NotRead::Unreadable(format!("not text: byte {} is not UTF-8", error.utf8_error().valid_up_to()))
    })?;
    Ok((text, (before == after).then_some(after)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn lines(folder: &Folder) -> usize {
        match &folder.files["hello"].content {
            Some(Content::Lines(lines)) => lines.len(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_change_that_no_event_told_of_is_read_once_it_looks_the_same_twice() {
        let path = tempfile::tempdir().unwrap();
        let write = |text| fs::write(path.path().join("hello"), text).unwrap();
        write("10.0.0.1 80\n");
        let mut folder = Folder::open(Files::at(path.path().to_owned())).unwrap();
        write("10.0.0.1 80\n10.0.0.2 80\n");
        folder.refresh(&Dirty::default());
        assert_eq!(lines(&folder), 1);
        write("10.0.0.1 80\n10.0.0.2 80\n10.0.0.3 80\n");
        folder.refresh(&Dirty::default());
        assert_eq!(lines(&folder), 1, "it is being written");
        folder.refresh(&Dirty::default());
        assert_eq!(lines(&folder), 3);
    }

    #[test]
    fn a_socket_is_no_service_file_and_a_large_file_is_not_read() {
        let path = tempfile::tempdir().unwrap();
        let large = File::create(path.path().join("large")).unwrap();
        large.set_len(4097).unwrap();
        fs::write(path.path().join("small"), format!("10.0.0.1 80{}\n", " ".repeat(4084))).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(path.path().join("socket")).unwrap();
        let settings = Files { file_bytes: 4096, ..Files::at(path.path().to_owned()) };
        let mut folder = Folder::open(settings).unwrap();
        drop(socket);
        let files: Vec<_> = folder.files().map(|(name, file)| (name, file.problems.len())).collect();
        assert_eq!((files, folder.left_out()), (vec![("large", 1), ("small", 0)], 1));
        large.set_len(0).unwrap();
        folder.refresh(&Dirty::everything());
        assert_eq!(folder.left_out(), 0);
    }

    #[test]
    fn files_beyond_the_bound_are_reported_counted_and_not_read() {
        let path = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            fs::write(path.path().join(name), "10.0.0.1 80\n").unwrap();
        }
        let settings = Files { file_count: 2, ..Files::at(path.path().to_owned()) };
        let mut folder = Folder::open(settings).unwrap();
        let names: Vec<_> = folder.files().map(|(name, _)| name).collect();
        assert_eq!((names, folder.left_out()), (vec!["a", "b"], 2));
        assert!(folder.problems()[0].to_string().contains("c and those after it"), "{:?}", folder.problems());
        fs::remove_file(path.path().join("a")).unwrap();
        fs::remove_file(path.path().join("d")).unwrap();
        folder.refresh(&Dirty::everything());
        assert_eq!((folder.files().count(), folder.left_out(), folder.problems().len()), (2, 0, 0));
    }
}
