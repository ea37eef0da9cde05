//! The programs' counters, summed over all CPUs.

use aya::maps::{MapData, PerCpuArray};
use proxy_ebpf::Count;

/// The map of counters.
pub(super) struct Table {
    map: PerCpuArray<MapData, u64>,
}

impl Table {
    pub(super) fn new(map: PerCpuArray<MapData, u64>) -> Self {
        Self { map }
    }

    pub(super) fn read(&self) -> Counters {
        let sum = |what: Count| self.map.get(&(what as u32), 0).map_or(0, |cpus| cpus.iter().sum());
        Counters { values: Count::ALL.map(sum) }
    }
}

/// The count of each decision since the programs were loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    values: [u64; Count::ALL.len()],
}

impl Counters {
    /// Every counter with its name, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Count::ALL.map(Count::name).into_iter().zip(self.values)
    }

    /// One counter.
    pub fn get(&self, what: Count) -> u64 {
        self.values[what as usize]
    }
}
