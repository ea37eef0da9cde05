//! How scarce memory is, and what follows from that.

use std::time::Duration;

/// How scarce memory is. Each level includes what those before it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is done.
    #[default]
    Normal = 0,
    /// Idle and slow things are closed.
    Shed = 1,
    /// New connections and requests of clients that hold more than their fair share are refused.
    Refuse = 2,
    /// All new connections and requests are refused.
    Full = 3,
}

impl Level {
    /// The names in metrics and reports, in order.
    pub const NAMES: [&'static str; 4] = ["normal", "shed", "refuse", "full"];

    /// Where each level begins, in percent of the budget.
    const BEGINS: [u64; 4] = [0, 80, 90, 97];

    /// Of a small budget, [`Level::Full`] leaves so many bytes: what is under way needs some.
    const RESERVE: u64 = 2 << 20;

    /// But [`Level::Full`] never begins below so many percent.
    const LEAST_FULL: u64 = 75;

    /// A level begins at least so many percent below the next one, so that each has an effect before the next one.
    const GAP: u64 = 5;

    /// A level ends so many percent below its begin, so that it does not change back and forth.
    const HYSTERESIS: u64 = 5;

    /// The name of this level.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The use at which this level begins.
    pub fn begins(self, budget: u64) -> u64 {
        let begins = part(budget, Self::BEGINS[self as usize]);
        let before = |next: Self| begins.min(next.begins(budget).saturating_sub(part(budget, Self::GAP)));
        match self {
            Self::Normal => 0,
            Self::Shed => before(Self::Refuse),
            Self::Refuse => before(Self::Full),
            Self::Full => {
                let reserved = budget.saturating_sub(Self::RESERVE);
                begins.min(reserved).max(part(budget, Self::LEAST_FULL))
            }
        }
    }

    /// The use below which this level ends.
    pub fn ends(self, budget: u64) -> u64 {
        self.begins(budget).saturating_sub(part(budget, Self::HYSTERESIS))
    }

    /// The level that follows this one when `used` bytes of `budget` are in use.
    pub fn next(self, used: u64, budget: u64) -> Self {
        let all = [Self::Full, Self::Refuse, Self::Shed];
        let holds = |level: &Self| {
            let from = if *level <= self { level.ends(budget) } else { level.begins(budget) };
            used >= from
        };
        all.into_iter().find(holds).unwrap_or(Self::Normal)
    }
}

/// The use from which on also what is in use ends, of those who hold more than their fair share: half-way from
/// [`Level::Refuse`] to [`Level::Full`], so that it does not come to that.
pub fn tight(budget: u64) -> u64 {
    u64::midpoint(Level::Refuse.begins(budget), Level::Full.begins(budget))
}

/// How many of `total` bytes, which connections are estimated to hold, are to be given up so that `excess` of `used` bytes
/// get free. Each of them stands for `used / total` bytes that are really used, so that some always stay.
pub fn to_free(total: u64, excess: u64, used: u64) -> u64 {
    let freed = u128::from(total) * u128::from(excess) / u128::from(used.max(1));
    u64::try_from(freed).unwrap_or(u64::MAX).min(total)
}

/// The size of the kernel's buffer for what the peer of a connection sends (SO_RCVBUF), to which the kernel adds as much for its
/// own overhead. So it takes hundreds of connections whose bytes nobody reads to use up the budget.
pub fn receive_buffer(budget: u64) -> u64 {
    (budget / 1024).clamp(64 << 10, 1 << 20)
}

fn part(budget: u64, percent: u64) -> u64 {
    budget / 100 * percent
}

/// Where the budget comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The limit of the cgroup: all that the kernel charges to it counts.
    Cgroup = 0,
    /// `limits.memory`: the process's own memory counts.
    Setting = 1,
    /// A part of the machine's memory: as above.
    #[default]
    Machine = 2,
}

impl Source {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Cgroup, Self::Setting, Self::Machine];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "the cgroup's limit",
            Self::Setting => "limits.memory",
            Self::Machine => "a quarter of the machine's memory",
        }
    }
}

/// Whether closing connections makes memory less scarce. Where something else uses it, honest clients would lose all idle
/// connections for nothing.
#[derive(Debug, Default)]
pub struct Effort {
    /// When it was begun, and the use then.
    since: Option<(Duration, u64)>,
    /// Bytes of the connections that were told to end since.
    told: u64,
    /// Until when nothing is done, and the use when that was decided.
    rests: Option<(Duration, u64)>,
}

impl Effort {
    /// How long an effort has to show an effect.
    const SPAN: Duration = Duration::from_secs(1);

    /// The pause after an effort that had no effect.
    const REST: Duration = Duration::from_secs(10);

    /// Whether connections are to be closed at `now`, since some fixed moment, while `used` bytes of `budget` are in use.
    pub fn is_worthwhile(&mut self, now: Duration, used: u64, budget: u64) -> bool {
        if let Some((until, at)) = self.rests {
            // It gets scarcer: what uses it now may be something else.
            if now < until && used < at.saturating_add(part(budget, 1)) {
                return false;
            }
            *self = Self::default();
        }
        let (since, before) = *self.since.get_or_insert((now, used));
        if now.saturating_sub(since) < Self::SPAN {
            return true;
        }
        // Estimates are no more than that: a quarter is an effect.
        let in_vain = self.told > 0 && used.saturating_add(self.told / 4) > before;
        *self = Self { since: Some((now, used)), ..Self::default() };
        if in_vain {
            self.rests = Some((now + Self::REST, used));
        }
        !in_vain
    }

    /// Connections that hold so many bytes were told to end.
    pub fn tell(&mut self, bytes: u64) {
        self.told = self.told.saturating_add(bytes);
    }

    /// Whether the last effort had no effect, so that there is a pause.
    pub fn rests(&self) -> bool {
        self.rests.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_begins_at_its_mark_and_ends_a_little_below_it() {
        let mut level = Level::Normal;
        for (used, expected) in [
            (799, Level::Normal),
            (800, Level::Shed),
            (751, Level::Shed),
            (749, Level::Normal),
            (899, Level::Shed),
            (970, Level::Full),
            (920, Level::Full),
            (919, Level::Refuse),
            (850, Level::Refuse),
            (849, Level::Shed),
            (2_000, Level::Full),
            (0, Level::Normal),
        ] {
            level = level.next(used << 20, 1_000 << 20);
            assert_eq!(level, expected, "{used}");
        }
    }

    #[test]
    fn a_small_budget_keeps_a_reserve() {
        for (mib, full) in [(1_000, 970), (100, 97), (40, 38), (32, 30), (16, 14), (8, 6)] {
            let begins = Level::Full.begins(mib << 20);
            assert!(begins.abs_diff(full << 20) < 100, "{mib} MiB: {begins}");
        }
    }

    #[test]
    fn each_level_has_its_effect_before_the_next_one_begins_however_small_the_budget() {
        for mib in 1..2_000_u64 {
            let budget = mib << 20;
            let [shed, refuse, full] = [Level::Shed, Level::Refuse, Level::Full].map(|it| it.begins(budget));
            let apart = budget / 100 * 5;
            assert!(shed + apart <= refuse && refuse + apart <= full && full < budget, "{mib} MiB");
            assert!(refuse < tight(budget) && tight(budget) < full && shed > budget / 2, "{mib} MiB");
        }
    }

    #[test]
    fn some_of_what_is_held_always_stays_and_what_is_given_up_is_in_proportion() {
        const MIB: u64 = 1 << 20;
        for (total, excess, used, freed) in [
            // Most of what is used is in no estimate.
            (20 * MIB, 41 * MIB, 233 * MIB, 20 * MIB * 41 / 233),
            (300 * MIB, 50 * MIB, 240 * MIB, 300 * MIB * 50 / 240),
            (20 * MIB, 0, 233 * MIB, 0),
            (0, 41 * MIB, 233 * MIB, 0),
            (20 * MIB, u64::MAX, 0, 20 * MIB),
        ] {
            assert_eq!(to_free(total, excess, used), freed, "{excess} of {used}");
        }
        for used in 1..300_u64 {
            for excess in 0..used {
                assert!(to_free(1_000_000, excess, used) < 1_000_000, "{excess} of {used}");
            }
        }
    }

    #[test]
    fn a_buffer_is_a_small_part_of_the_budget() {
        for (mib, kib) in [(16, 64), (64, 64), (256, 256), (512, 512), (1_024, 1_024), (65_536, 1_024)] {
            assert_eq!(receive_buffer(mib << 20), kib << 10, "{mib} MiB");
        }
    }

    #[test]
    fn what_does_not_help_is_done_for_a_second_and_again_when_it_gets_scarcer_or_after_a_while() {
        const BUDGET: u64 = 1_000;
        // When, the use then, the bytes of what ends, and whether anything may.
        type Steps = &'static [(u64, u64, u64, bool)];
        let cases: [Steps; 5] = [
            // It helps.
            &[(0, 820, 40, true), (500, 810, 40, true), (1_000, 800, 40, true), (2_000, 760, 0, true)],
            // It does not.
            &[(0, 820, 40, true), (900, 820, 40, true), (1_000, 820, 0, false), (10_999, 829, 0, false)],
            &[(0, 820, 40, true), (1_000, 820, 0, false), (11_000, 820, 40, true), (12_000, 820, 0, false)],
            // It gets scarcer.
            &[(0, 820, 40, true), (1_000, 820, 0, false), (1_025, 830, 40, true), (2_024, 830, 40, true)],
            // There was nothing to end.
            &[(0, 820, 0, true), (1_000, 820, 0, true), (5_000, 820, 40, true), (6_000, 820, 0, false)],
        ];
        for steps in cases {
            let mut effort = Effort::default();
            for (at, used, told, expected) in steps {
                let is = effort.is_worthwhile(Duration::from_millis(*at), *used, BUDGET);
                assert_eq!((is, effort.rests()), (*expected, !*expected), "at {at} ms of {steps:?}");
                effort.tell(*told);
            }
        }
    }
}
