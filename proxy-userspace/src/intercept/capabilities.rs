//! Checks weir's capabilities beforehand: naming a missing capability helps more than a bare EPERM.

use std::fs;

/// The bits of capabilities(7) that loading and attaching need. `CAP_SYS_ADMIN` includes `CAP_BPF`.
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const BPF: u64 = 1 << 39;

/// The names of the capabilities that this process lacks.
pub(super) fn missing() -> Vec<&'static str> {
    // Without /proc this is unknown, and the kernel reports the error.
    fs::read_to_string("/proc/thread-self/status")
        .ok()
        .and_then(|status| effective(&status))
        .map_or(vec![], lacking)
}

fn effective(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn lacking(effective: u64) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if effective & (BPF | SYS_ADMIN) == 0 {
        missing.push("CAP_BPF");
    }
    if effective & NET_ADMIN == 0 {
        missing.push("CAP_NET_ADMIN");
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_what_is_missing_is_named() {
        let status = |bits: u64| format!("Name:\tweir\nCapPrm:\t0000000000000000\nCapEff:\t{bits:016x}\n");
        let of = |bits| effective(&status(bits)).map(lacking);
        assert_eq!(of(0), Some(vec!["CAP_BPF", "CAP_NET_ADMIN"]));
        assert_eq!(of(BPF), Some(vec!["CAP_NET_ADMIN"]));
        assert_eq!(of(NET_ADMIN), Some(vec!["CAP_BPF"]));
        assert_eq!(of(NET_ADMIN | BPF), Some(vec![]));
        assert_eq!(of(NET_ADMIN | SYS_ADMIN), Some(vec![]));
        assert_eq!(effective("Name:\tweir\n"), None);
    }
}
