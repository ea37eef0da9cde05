//! What is in use of which budget: the cgroup's, or the setting's.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

use super::cgroup::{Cgroup, Known};
use crate::domain::memory::Source;

/// How often the limits are read again: a container's may be changed while it runs.
const LIMITS: Duration = Duration::from_secs(5);

/// Without a cgroup's limit and a setting, one of so many parts of the machine's memory.
const PART: u64 = 4;

/// Above so many percent of a budget, something follows from how much is in use: it is looked who holds more than a share.
pub(super) const FORESIGHT: u64 = 40;

/// Where the kernel tells of this process and of the machine.
const PROC: &str = "/proc";

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    /// Bytes in use.
    pub(super) used: u64,
    /// Bytes that may be.
    pub(super) budget: u64,
    /// Where the budget comes from.
    pub(super) source: Source,
    /// The lower one of two budgets: which one counts may change from one time to the next.
    pub(super) least: u64,
}

/// Measures what is in use.
pub(super) struct Meter {
    own: Option<File>,
    page: u64,
    machine: u64,
    cgroup: Option<Cgroup>,
    /// What it had of the cache of files, when that was last read.
    cache: u64,
    known: Known,
    read: Option<Instant>,
}

impl Meter {
    pub(super) fn new() -> Self {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok());
        let machine = std::fs::read_to_string(Path::new(PROC).join("meminfo")).ok();
        Self {
            own: File::open(Path::new(PROC).join("self/statm")).ok(),
            page: page.unwrap_or(4096),
            machine: machine.and_then(|text| machine_of(&text)).unwrap_or(u64::MAX),
            cgroup: None,
            cache: 0,
            known: Known::default(),
            read: None,
        }
    }

    /// What is in use now, where `setting` is `limits.memory`. Of two budgets the one counts of which the greater part is in
    /// use.
    pub(super) fn measure(&mut self, setting: Option<usize>, now: Instant) -> Measured {
        if self.read.is_none_or(|read| now.saturating_duration_since(read) >= LIMITS) {
            self.read = Some(now);
            self.cgroup = Cgroup::tightest(Path::new(PROC), self.machine, &mut self.known);
            self.cache = self.cgroup.as_ref().and_then(Cgroup::cache).unwrap_or_default();
        }
        let used = self.used();
        let of_cgroup = self.cgroup.as_ref().map(|it| {
            let used = used.unwrap_or_else(|| self.own());
            Measured { used, budget: it.limit(), source: Source::Cgroup, least: it.limit() }
        });
        let own = |budget, source| Measured { used: self.own(), budget, source, least: budget };
        let of_process = match (setting, &of_cgroup) {
            (Some(setting), _) => Some(own(setting as u64, Source::Setting)),
            (None, Some(_)) => None,
            (None, None) => Some(own(self.machine / PART, Source::Machine)),
        };
        let part = |it: &Measured| u128::from(it.used) * 1_000_000 / u128::from(it.budget.max(1));
        let all = || of_cgroup.into_iter().chain(of_process);
        let least = all().map(|it| it.budget).min().unwrap_or(u64::MAX);
        let measured = all().max_by_key(part).map(|it| Measured { least, ..it });
        measured.unwrap_or(Measured { used: 0, budget: u64::MAX, source: Source::Machine, least })
    }

    /// The folder of the process's cgroup, of whose limit, or of one around it, it knows.
    pub(super) fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(Cgroup::folder)
    }

    /// Bytes that the cgroup has in use and that the kernel cannot take back. As long as nothing follows from it, how large
    /// the cache is is not asked each time.
    fn used(&mut self) -> Option<u64> {
        let cgroup = self.cgroup.as_ref()?;
        let charged = cgroup.charged()?;
        if charged >= cgroup.limit() / 100 * FORESIGHT {
            self.cache = cgroup.cache()?;
        }
        Some(charged.saturating_sub(self.cache))
    }

    /// The process's own memory: what no file is behind.
    fn own(&self) -> u64 {
        let mut text = [0; 128];
        let length = self.own.as_ref().and_then(|it| it.read_at(&mut text, 0).ok()).unwrap_or_default();
        anonymous_of(&String::from_utf8_lossy(&text[..length])).unwrap_or_default() * self.page
    }
}

/// The pages that no file is behind, by `/proc/self/statm`: those that are resident, and not shared (proc_pid_statm(5)).
fn anonymous_of(statm: &str) -> Option<u64> {
    let mut fields = statm.split_whitespace().skip(1).map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next()??, fields.next()??);
    Some(resident.saturating_sub(shared))
}

/// The bytes of the machine's memory, by `/proc/meminfo`.
fn machine_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let percent = u128::from(self.used) * 100 / u128::from(self.budget.max(1));
        let whose = self.source.name();
        write!(f, "{:.0} of {:.0} MiB ({whose}) in use, {percent} %", mib(self.used), mib(self.budget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(anonymous_of("34567 8000 3000 900 0 12000 0\n"), Some(5_000));
        assert_eq!(machine_of("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 << 20));
        for text in ["", "1", "1 2", "a b c"] {
            assert_eq!((anonymous_of(text), machine_of(text)), (None, None), "{text:?}");
        }
    }

    #[test]
    fn a_setting_counts_beside_the_cgroups_limit_and_the_machine_only_without_either() {
        let mut meter =
            Meter { cgroup: None, read: Some(Instant::now()), machine: 400 << 30, ..Meter::new() };
        let measured = meter.measure(None, Instant::now());
        assert_eq!((measured.budget, measured.source), (100 << 30, Source::Machine));
        let measured = meter.measure(Some(1 << 20), Instant::now());
        assert_eq!((measured.budget, measured.source), (1 << 20, Source::Setting));
        assert!(measured.used > 1 << 16, "{measured}");
    }

    #[test]
    fn while_little_is_charged_what_the_kernel_counts_in_all_is_not_asked_for_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        let cgroup = Cgroup::of_version_2(folder.path(), 1_000);
        let mut meter = Meter { cgroup: Some(cgroup), cache: 100, ..Meter::new() };
        for (charged, cache, used) in [
            (399, 300, 299),
            // Now it decides.
            (400, 300, 100),
            (900, 200, 700),
            (399, 0, 199),
            // The kernel has taken it back.
            (150, 0, 0),
        ] {
            write("memory.current", &format!("{charged}\n"));
            write("memory.stat", &format!("anon 5\nfile {cache}\nshmem 0\n"));
            assert_eq!(meter.used(), Some(used), "{charged} with {cache} of the cache");
        }
        std::fs::remove_file(folder.path().join("memory.stat")).unwrap();
        write("memory.current", "500\n");
        assert_eq!(meter.used(), None);
    }

    #[test]
    fn what_was_measured_is_said() {
        let (budget, source) = (256 << 20, Source::Cgroup);
        let measured = Measured { used: 210 << 20, budget, source, least: budget };
        assert_eq!(measured.to_string(), "210 of 256 MiB (the cgroup's limit) in use, 82 %");
    }
}
