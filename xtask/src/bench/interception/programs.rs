//! How long the programs of a process ran, by the kernel's own statistics (`kernel.bpf_stats_enabled`).

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The kernel counts as long as this lives. That costs each run some 20 ns, which are in no figure.
pub(super) struct Statistics {
    before: String,
}

/// What the kernel has counted of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    kind: &'static str,
    nanos: u64,
    runs: u64,
}

impl Statistics {
    /// Switches them on.
    pub(super) fn on() -> Result<Self> {
        let before = fs::read_to_string(SYSCTL).context("no statistics of BPF programs (Linux 5.1)")?;
        fs::write(SYSCTL, "1")?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(SYSCTL, self.before.trim());
    }
}

/// The programs that a process holds, by their numbers.
pub(super) fn of(pid: u32) -> Result<BTreeMap<u64, Runs>> {
    let mut programs = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        programs.extend(read(&text));
    }
    Ok(programs)
}

/// A program, as proc_pid_fdinfo(5) shows its descriptor; nothing for any other one.
fn read(text: &str) -> Option<(u64, Runs)> {
    let of = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse().ok()
    };
    // Numbers of linux/bpf.h, `enum bpf_prog_type`.
    let kind = match of("prog_type")? {
        9 => "cgroup/sock",
        18 => "cgroup/connect",
        30 => "sk_lookup",
        _ => "another program",
    };
    Some((of("prog_id")?, Runs { kind, nanos: of("run_time_ns")?, runs: of("run_cnt")? }))
}

/// Of each program that ran in between, what it is, how long a run took on average, and how often it ran.
pub(super) fn between(
    before: &BTreeMap<u64, Runs>,
    after: &BTreeMap<u64, Runs>,
) -> Vec<(&'static str, f64, u64)> {
    let nothing = Runs::default();
    let ran = after.iter().filter_map(|(id, after)| {
        let before = before.get(id).unwrap_or(&nothing);
        let runs = after.runs.checked_sub(before.runs).filter(|runs| *runs > 0)?;
        Some((after.kind, after.nanos.saturating_sub(before.nanos) as f64 / runs as f64, runs))
    });
    ran.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "pos:\t0\nflags:\t02000002\nprog_type:\t18\nprog_jited:\t1\nprog_tag:\tab12\n\
                           memlock:\t8192\nprog_id:\t77\nrun_time_ns:\t5000\nrun_cnt:\t20\n";

    #[test]
    fn a_programs_descriptor_is_told_from_others() {
        let runs = Runs { kind: "cgroup/connect", nanos: 5_000, runs: 20 };
        assert_eq!(read(PROGRAM), Some((77, runs)));
        for other in ["", "pos:\t0\nmap_type:\t2\nmemlock:\t4096\n", "link_type:\tcgroup\nprog_id:\t77\n"] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }

    #[test]
    fn only_what_ran_in_between_counts() {
        let one = |nanos, runs| BTreeMap::from([(1, Runs { kind: "sk_lookup", nanos, runs })]);
        assert_eq!(between(&one(1_000, 10), &one(3_000, 20)), [("sk_lookup", 200.0, 10)]);
        assert_eq!(between(&BTreeMap::new(), &one(3_000, 20)), [("sk_lookup", 150.0, 20)]);
        assert!(between(&one(1_000, 10), &one(1_000, 10)).is_empty());
    }
}
