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
}

/// `base` is the folder that a relative path is relative to.
pub(super) fn read(mut section: Section<'_, '_>, base: &Path) -> Discovery {
    let files = section.switch("files").and_then(|files| read_files(files, base));
    section.not_yet("kubernetes", "use `files`; its folder takes the same objects");
    section.finish();
    Discovery { files }
}

fn read_files(mut section: Section<'_, '_>, base: &Path) -> Option<Files> {
    let mut path = None;
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
    section.finish();
    path.map(|path| Files { path })
}
