//! The image's layer: its files in a tar archive, and that compressed.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::archive;
use super::content::Files;

/// A layer, with the digest that a runtime checks it by after unpacking.
pub(crate) struct Layer {
    pub(crate) compressed: Vec<u8>,
    /// The digest of the tar archive before it was compressed: OCI's `diff_id`.
    pub(crate) diff_id: String,
}

/// Packs the files and the folders they are in, and the empty folders that are mounted over.
pub(crate) fn pack(files: &Files) -> Result<Layer> {
    let mut tar = Builder::new(Vec::new());
    for folder in folders(files) {
        tar.append_data(&mut header(EntryType::Directory, 0, 0o755), folder, std::io::empty())?;
    }
    for (path, file) in files {
        let mut header = header(EntryType::Regular, file.size() as u64, file.mode);
        tar.append_data(&mut header, path, file.content.as_slice())?;
    }
    let plain = tar.into_inner()?;
    let diff_id = archive::digest(&plain);
    // Without a name and a time in its header, equal content is equal bytes.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&plain)?;
    Ok(Layer { compressed: gzip.finish()?, diff_id })
}

/// Each folder after the one it is in.
fn folders(files: &Files) -> BTreeSet<String> {
    // The root cannot be written to, so what a runtime mounts has to have its place.
    let mounted = ["etc/weir/", "proc/", "sys/", "dev/", "tmp/"].map(str::to_owned);
    let mut folders = BTreeSet::new();
    for path in files.keys().chain(&mounted) {
        folders.extend(path.match_indices('/').map(|(at, _)| path[..=at].to_owned()));
    }
    folders
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use super::super::content::File;
    use super::*;

    #[test]
    fn equal_content_is_an_equal_layer_and_other_content_another() {
        let files = |text: &str| {
            Files::from([("usr/bin/weir".to_owned(), File { content: text.into(), mode: 0o755 })])
        };
        let pack = |text| pack(&files(text)).expect("memory has room");
        let (one, same, other) = (pack("a"), pack("a"), pack("b"));
        assert_eq!((&one.diff_id, &one.compressed), (&same.diff_id, &same.compressed));
        assert_ne!(one.diff_id, other.diff_id);
    }

    #[test]
    fn a_folder_comes_before_what_is_in_it() {
        let folders: Vec<_> = folders(&Files::new()).into_iter().collect();
        let at = |name| folders.iter().position(|folder| folder == name);
        assert!(at("etc/").is_some() && at("etc/") < at("etc/weir/"), "{folders:?}");
    }
}
