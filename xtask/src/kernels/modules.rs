//! The kernel's modules that the tests need, with those that these need, in the order to load them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::archive::Archive;

/// What pods are joined with, and what the test of an address translation needs. One that a kernel has built in is no file.
const WANTED: [&str; 5] = ["veth", "bridge", "nf_tables", "nft_chain_nat", "nft_masq"];

/// Puts them into the archive's folder `modules`, each with its place in the order before its name.
pub(super) fn add(archive: &mut Archive, folder: &Path) -> Result<()> {
    archive.folder("modules");
    let mut files = Vec::new();
    list(folder, &mut files)?;
    let mut done = Vec::new();
    for name in WANTED {
        load(name, &files, &mut done, archive)?;
    }
    Ok(())
}

/// Adds a module after those it depends on.
fn load(name: &str, files: &[PathBuf], done: &mut Vec<String>, archive: &mut Archive) -> Result<()> {
    let Some(file) = files.iter().find(|file| name_of(file).as_deref() == Some(name)) else { return Ok(()) };
    if done.iter().any(|it| it == name) {
        return Ok(());
    }
    let module = unpacked(file)?;
    for dependency in dependencies(&module) {
        load(&dependency, files, done, archive)?;
    }
    archive.file(&format!("modules/{:02}-{name}.ko", done.len()), module, 0o644);
    done.push(name.to_owned());
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => list(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}

/// The name of the module in a file: `nft_masq` of `nft_masq.ko.xz`. In names, a dash is an underscore.
fn name_of(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let (name, packed) = name.split_once(".ko")?;
    ["", ".xz", ".zst"].contains(&packed).then(|| name.replace('-', "_"))
}

fn unpacked(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|it| it.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(std::fs::read(file)?),
    };
    let mut command = Command::new(program);
    let unpacked =
        command.args(["-dc"]).arg(file).output().with_context(|| format!("cannot start {program}"))?;
    ensure!(unpacked.status.success(), "{program} cannot unpack {}", file.display());
    Ok(unpacked.stdout)
}

/// What a module says of itself: `depends=nf_tables,nf_nat`, between zeros.
pub(super) fn dependencies(module: &[u8]) -> Vec<String> {
    let said = module.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"depends="));
    let said = String::from_utf8_lossy(said.unwrap_or_default());
    said.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}
