//! The figures of one run: for every quantity and every target the values of all passes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::target::Who;

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantity {
    Cpu64,
    Cpu512,
    CpuFresh,
    CpuGetLarge,
    CpuPostLarge,
    CpuGetTunnel,
    CpuPostTunnel,
    Syscalls,
    Rate64,
    Rate512,
    RateFresh,
    RateGetLarge,
    RatePostLarge,
    RateGetTunnel,
    RatePostTunnel,
    P50Closed64,
    P99Closed64,
    P99Closed512,
    P50Fixed,
    P99Fixed,
    MemoryIdle,
    Memory512,
    MemoryAfter,
    MemoryStreamed,
    MemoryServices,
    Start,
    ConnectDirect,
    ConnectDiverted,
    ProxyCore,
    LoadCpu64,
    LoadCore,
    Others,
}

impl Quantity {
    /// The row's title, with the unit.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Cpu64 => "CPU per request, 64 connections, µs",
            Self::Cpu512 => "CPU per request, 512 connections, µs",
            Self::CpuFresh => "CPU per request on a new connection, µs",
            Self::CpuGetLarge => "CPU per GET of 1 MB, µs",
            Self::CpuPostLarge => "CPU per POST of 1 MB, µs",
            Self::CpuGetTunnel => "CPU per MB received by a tunnel, µs",
            Self::CpuPostTunnel => "CPU per MB sent by a tunnel, µs",
            Self::Syscalls => "system calls per request",
            Self::Rate64 => "requests per second, 64 connections",
            Self::Rate512 => "requests per second, 512 connections",
            Self::RateFresh => "new connections per second",
            Self::RateGetLarge => "GETs of 1 MB per second",
            Self::RatePostLarge => "POSTs of 1 MB per second",
            Self::RateGetTunnel => "MB received by tunnels per second",
            Self::RatePostTunnel => "MB sent by tunnels per second",
            Self::P50Closed64 => "p50, closed loop of 64, µs",
            Self::P99Closed64 => "p99, closed loop of 64, µs",
            Self::P99Closed512 => "p99, closed loop of 512, µs",
            Self::P50Fixed => "p50 at the fixed rate, µs",
            Self::P99Fixed => "p99 at the fixed rate, µs",
            Self::MemoryIdle => "RssAnon 10 s after start, MB",
            Self::Memory512 => "RssAnon, 512 idle connections, MB",
            Self::MemoryAfter => "RssAnon 30 s after they ended, MB",
            Self::MemoryStreamed => "RssAnon, 64 idle after 1 MB each way, MB",
            Self::MemoryServices => "RssAnon, calls to 1,000 services, MB",
            Self::Start => "start to first answer, ms",
            Self::ConnectDirect => "connect, direct, p50, µs",
            Self::ConnectDiverted => "connect, diverted, p50, µs",
            Self::ProxyCore => "the proxy's core in use at 64, %",
            Self::LoadCpu64 => "load and backends per request, µs",
            Self::LoadCore => "the load's core in use at 64, %",
            Self::Others => "anybody else's CPU meanwhile, % of a core",
        }
    }
}

/// Values by quantity and target.
#[derive(Default)]
pub(crate) struct Figures {
    values: BTreeMap<(Quantity, Who), Vec<f64>>,
}

impl Figures {
    pub(crate) fn add(&mut self, quantity: Quantity, who: Who, value: f64) {
        self.values.entry((quantity, who)).or_default().push(value);
    }

    pub(crate) fn get(&self, quantity: Quantity, who: Who) -> Option<Spread> {
        self.values.get(&(quantity, who)).and_then(|values| Spread::of(values))
    }

    /// The spread of weir's value over another's, pass by pass: what disturbed a pass disturbed both.
    pub(crate) fn ratio(&self, quantity: Quantity, over: Who) -> Option<Spread> {
        let ours = self.values.get(&(quantity, Who::Weir))?;
        let theirs = self.values.get(&(quantity, over))?;
        let ratios: Vec<f64> = ours
            .iter()
            .zip(theirs)
            .filter(|(_, theirs)| **theirs > 0.0)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        Spread::of(&ratios)
    }

    pub(crate) fn quantities(&self) -> Vec<Quantity> {
        let mut all: Vec<Quantity> = self.values.keys().map(|(quantity, _)| *quantity).collect();
        all.dedup();
        all
    }

    /// Every single value, for the JSON file.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let mut rows = serde_json::Map::new();
        for quantity in self.quantities() {
            let mut row = serde_json::Map::new();
            row.insert("title".into(), quantity.title().into());
            for who in Who::ALL {
                if let (Some(values), Some(spread)) =
                    (self.values.get(&(quantity, who)), self.get(quantity, who))
                {
                    row.insert(
                        who.name().into(),
                        serde_json::json!({ "median": spread.median, "passes": values }),
                    );
                }
            }
            let others = [
                (Who::Haproxy, "weir_over_haproxy"),
                (Who::Hyper, "weir_over_hyper"),
                (Who::Before, "weir_over_before"),
            ];
            for (over, key) in others {
                if let Some(ratio) = self.ratio(quantity, over) {
                    row.insert(key.into(), serde_json::json!(ratio));
                }
            }
            let key = serde_json::to_value(quantity).ok().and_then(|key| key.as_str().map(str::to_owned));
            rows.insert(key.unwrap_or_default(), row.into());
        }
        rows.into()
    }
}

/// The median, and between which values the middle half lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    /// A quarter of the values is below this.
    pub(crate) low: f64,
    /// A quarter of the values is above this.
    pub(crate) high: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // Between two values it lies in proportion.
        let quantile = |share: f64| {
            let at = last as f64 * share;
            let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
            below + (above - below) * at.fract()
        };
        Some(Self { median: quantile(0.5), low: quantile(0.25), high: quantile(0.75) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 9.0]), Some(Spread { median: 3.0, low: 2.0, high: 6.0 }));
        assert_eq!(Spread::of(&[4.0, 2.0]), Some(Spread { median: 3.0, low: 2.5, high: 3.5 }));
        assert_eq!(Spread::of(&[5.0]), Some(Spread { median: 5.0, low: 5.0, high: 5.0 }));
    }

    #[test]
    fn ratios_are_taken_pass_by_pass() {
        let mut figures = Figures::default();
        for (ours, theirs) in [(10.0, 10.0), (24.0, 20.0), (11.0, 10.0)] {
            figures.add(Quantity::Cpu64, Who::Weir, ours);
            figures.add(Quantity::Cpu64, Who::Haproxy, theirs);
        }
        let ratio = figures.ratio(Quantity::Cpu64, Who::Haproxy).unwrap();
        assert!((ratio.median - 1.1).abs() < 1e-9 && (ratio.high - 1.15).abs() < 1e-9, "{ratio:?}");
        assert_eq!(figures.ratio(Quantity::Rate64, Who::Haproxy), None);
    }
}
