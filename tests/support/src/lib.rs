//! What the tests, the demo and the bench share: namespaces and cgroups as pods, child processes that do not outlive who
//! started them, simple servers, load at a rate, waiting with a deadline.
//!
//! Light on purpose, because `cargo xtask` is built with it: no async runtime and no HTTP library. It knows nothing of weir's
//! code. What needs more is in the crate `e2e`, which builds on this one.

pub mod bridge;
pub mod cgroup;
pub mod load;
pub mod metrics;
pub mod netns;
pub mod process;
pub mod server;
pub mod time;

use std::path::Path;

/// Whether something with the name `PREFIX-PID…` is of a process that is gone: somebody killed an earlier run outright.
fn is_left_behind(name: &str, prefix: &str) -> bool {
    let pid = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
    pid.and_then(|pid| pid.parse::<u32>().ok())
        .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::is_left_behind;

    #[test]
    fn only_what_is_of_a_process_that_is_gone_is_left_behind() {
        // No process has a number as large: PID_MAX_LIMIT is 2^22.
        for gone in ["weir-e2e-99999999", "weir-e2e-99999999-0", "weir-e2e-99999999-pod-a"] {
            assert!(is_left_behind(gone, "weir-e2e"), "{gone}");
        }
        let own = format!("weir-e2e-{}-0", std::process::id());
        for kept in [&*own, "weir-e2e", "weir-e2e-", "weir-e2e-x-1", "weir-demo-99999999", "weir-e2e99999999"]
        {
            assert!(!is_left_behind(kept, "weir-e2e"), "{kept}");
        }
    }
}
