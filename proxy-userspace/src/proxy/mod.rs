//! Floor 3: connections and requests, in modules each of which uses only those before it.
//!
//! `holders` says to whom a connection is charged, `pod_clients` from which pod it comes, `memory` what ends when memory gets scarce, `listener` who may connect, `upstream` which endpoint takes a request and on which connection, `routing` where
//! a name leads, `exchange` handles one request, `downstream` one client connection. `worker` is what all of them share
//! on one thread.
//!
//! Deliberately absent: Kubernetes and BPF. What the proxy needs of them is passed in as a catalog and as the original
//! destination of a connection.

pub mod clock;
pub mod downstream;
pub mod exchange;
pub mod fault;
pub mod holders;
pub mod listener;
pub mod memory;
pub mod metrics;
pub mod pod_clients;
pub mod routing;
pub mod tcp;
pub mod upstream;
pub mod worker;

/// Runs `check` on the inputs that are kept of the fuzz target `name`, and says how many there are.
#[cfg(test)]
fn kept_inputs(name: &str, check: impl Fn(&[u8])) -> usize {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
    let files = std::fs::read_dir(&folder).expect("the kept inputs");
    let read = |file: std::io::Result<std::fs::DirEntry>| std::fs::read(file.expect("a file").path());
    files.map(read).map(|bytes| check(&bytes.expect("an input"))).count()
}
