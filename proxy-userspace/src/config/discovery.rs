//! `discovery`: where services come from.

use std::path::{Path, PathBuf};

use super::fields::Section;
use super::problem::Mistake;
use super::values;

/// The sources of the catalog. None, the default, leaves only DNS and diverted addresses as they are dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// `files`: a folder of service files.
    pub files: Option<Files>,
}

/// A watched folder that stands in for an API server, linkerd's `io.l5d.fs` included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `path`: the folder. A relative path is relative to the folder of the configuration file.
    pub path: PathBuf,
    /// `fileCount`: how many files are read; those beyond it, by name, are reported and left out. Default 10,000.
    pub file_count: usize,
    /// `fileBytes`: how large one file may be; a larger one is reported and left out. A Service with its slices for
    /// 1,000 endpoints takes about 300 KiB. Default 16 MiB.
    pub file_bytes: usize,
}

impl Files {
    /// The folder at `path`, within the default bounds.
    pub fn at(path: PathBuf) -> Self {
        Self { path, file_count: 10_000, file_bytes: 16 << 20 }
    }
}

/// `base` is the folder that a relative path is relative to.
pub(super) fn read(mut section: Section<'_, '_>, base: &Path) -> Discovery {
    let files = section.switch("files").and_then(|files| read_files(files, base));
    section.not_yet("kubernetes", "use `files`; its folder takes the same objects");
    section.finish();
    Discovery { files }
}

fn read_files(mut section: Section<'_, '_>, base: &Path) -> Option<Files> {
    let mut path: Option<PathBuf> = None;
    section.set("path", &mut path, |node| match values::text(node)? {
        "" => Err(Mistake::new("no path").hint("name the folder of service files")),
        text if text.contains('\0') => Err(Mistake::new("a path cannot hold a NUL character")),
        text => Ok(Some(base.join(text))),
    });
    if !section.has("path") {
        section.mistake(
            "path",
            Mistake::new("missing").hint("name the folder of service files: `path: ./services`"),
        );
    }
    let mut files = Files::at(path.clone().unwrap_or_default());
    section.set("fileCount", &mut files.file_count, values::count(1..=1_000_000));
    section.set("fileBytes", &mut files.file_bytes, values::size(1 << 10..=1 << 30));
    section.finish();
    path.is_some().then_some(files)
}
