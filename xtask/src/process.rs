//! Running other programs: what was run is always said, and a child never outlives the command that started it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
pub(crate) use test_support::process::{Running, output, shown};

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or(PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map(Path::to_path_buf).expect("the manifest lies in a folder of the workspace")
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    path_from("CARGO_TARGET_DIR").unwrap_or_else(|| root().join("target"))
}

/// The path in an environment variable, made absolute: what is relative is so to where one typed the command, and our
/// children run elsewhere (cargo in the root, tests in their package).
pub(crate) fn path_from(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(variable).filter(|path| !path.is_empty())?);
    Some(std::path::absolute(&path).unwrap_or(path))
}

/// A cargo command in the workspace's root, by the cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).env("PATH", search_path());
    if let Some(folder) = path_from("CARGO_TARGET_DIR") {
        command.env("CARGO_TARGET_DIR", folder);
    }
    command
}

/// Runs to the end with our own terminal; anything but success is an error that names the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("    $ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Makes the folder and those it is in, where they are missing.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Whether a program of this name is on the path.
pub(crate) fn on_path(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|folder| folder.join(program).is_file())
}

/// Where programs are looked for: our path, and then the administrator's programs. Debian has runc and haproxy among
/// those, and only a login shell of root's looks there.
pub(crate) fn search_path() -> OsString {
    with_sbin(std::env::var_os("PATH").unwrap_or_default())
}

fn with_sbin(path: OsString) -> OsString {
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for sbin in ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from) {
        if !folders.contains(&sbin) {
            folders.push(sbin);
        }
    }
    std::env::join_paths(folders).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_administrator_has_is_found_last_and_nothing_is_there_twice() {
        let widened = |path: &str| with_sbin(path.into()).into_string().expect("it was text");
        assert_eq!(widened("/usr/bin:/bin"), "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
        assert_eq!(widened("/sbin:/usr/sbin:/usr/local/sbin"), "/sbin:/usr/sbin:/usr/local/sbin");
    }
}
