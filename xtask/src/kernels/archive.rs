//! An initramfs: an archive in cpio's format `newc`, which the kernel unpacks into memory (the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;

/// The archive. A path has no slash at its beginning; the folders that it is in are made.
#[derive(Default)]
pub(super) struct Archive {
    entries: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Archive {
    pub(super) fn folder(&mut self, path: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), (FOLDER, Vec::new()));
    }

    pub(super) fn file(&mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) {
        self.parents(path);
        self.entries.insert(path.to_owned(), (FILE | mode, content.into()));
    }

    fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].to_owned()).or_insert((FOLDER, Vec::new()));
        }
    }

    /// Writes it. A folder comes before what is in it, which the order by path ensures.
    pub(super) fn write(&self, to: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        for (number, (path, (mode, content))) in (1_u32..).zip(&self.entries) {
            entry(&mut bytes, number, path, *mode, content)?;
        }
        entry(&mut bytes, 0, "TRAILER!!!", 0, &[])?;
        std::fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))
    }
}

/// A header of thirteen numbers, eight hexadecimal digits each, the path with a zero at its end, and the content; the last
/// two filled up to a multiple of four bytes.
fn entry(to: &mut Vec<u8>, number: u32, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let size = u32::try_from(content.len()).with_context(|| format!("{path} is too large"))?;
    let name = u32::try_from(path.len() + 1)?;
    // Number, mode, user, group, links, time, size; the device's numbers, four of them; the name's length, no checksum.
    let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
    to.extend(b"070701");
    fields.iter().for_each(|field| to.extend(format!("{field:08x}").bytes()));
    to.extend(path.bytes());
    to.push(0);
    to.resize(to.len().next_multiple_of(4), 0);
    to.extend(content);
    to.resize(to.len().next_multiple_of(4), 0);
    Ok(())
}
