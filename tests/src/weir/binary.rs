//! Where the programs under test are.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The weir binary: `WEIR_BIN`, else `weir` in the target folder of the running test, built now when it is absent.
/// (`cargo xtask test` builds it first; a plain `cargo test -p e2e` runs whatever was built last.)
pub fn weir() -> PathBuf {
    static WEIR: OnceLock<PathBuf> = OnceLock::new();
    WEIR.get_or_init(find).clone()
}

/// The harness's own helper program, which Cargo builds with the tests.
pub fn helper() -> PathBuf {
    target().join("e2e-helper")
}

/// The target folder's profile folder: tests run in `deps` below it, the helper in it.
pub fn target() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let folder = exe.parent().unwrap();
    if folder.ends_with("deps") { folder.parent().unwrap().into() } else { folder.into() }
}

/// The project's own commands, to be run as `cargo xtask` does; built now when absent.
pub fn xtask() -> PathBuf {
    static XTASK: OnceLock<PathBuf> = OnceLock::new();
    XTASK.get_or_init(|| built("xtask")).clone()
}

fn find() -> PathBuf {
    std::env::var_os("WEIR_BIN").map_or_else(|| built("weir"), PathBuf::from)
}

fn built(name: &str) -> PathBuf {
    let path = target().join(name);
    if !path.exists() {
        eprintln!("{} is absent: building it", path.display());
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--package", name, "--bin", name]).status();
        assert!(built.is_ok_and(|status| status.success()), "`cargo build -p {name} --bin {name}` failed");
    }
    path
}
