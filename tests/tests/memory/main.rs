//! How much memory weir needs: what nobody uses costs none for long, nor do readers of large pages. Tests of their own, since they use the machine as others do
//! not.
#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(clippy::disallowed_types, reason = "a test that meets a poisoned lock is to fail")]

mod large; // One service with very many endpoints.
mod pages; // Slow readers of large pages.
mod unused; // What nobody uses.

use e2e::Weir;
use e2e::net::is_root;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const MIB: u64 = 1 << 20;

/// How many descriptors these tests need: more than a process has by default.
const DESCRIPTORS: u64 = 16_384;

/// Raises what this process, and whatever it starts, may have open.
fn more_descriptors() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < DESCRIPTORS {
        let hard = if is_root() { hard.max(DESCRIPTORS) } else { hard };
        assert!(hard >= DESCRIPTORS, "these tests need {DESCRIPTORS} descriptors (ulimit -Hn)");
        setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, hard).expect("more descriptors");
    }
}

/// Asks so many times at once for `http://many/`, whose endpoints refuse.
fn ask(weir: &Weir, times: usize) {
    std::thread::scope(|scope| {
        for _ in 0..times {
            scope.spawn(|| {
                weir.get("http://many/").expect_status(502);
            });
        }
    });
}
