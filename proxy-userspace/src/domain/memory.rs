//! How scarce memory is.

/// How scarce memory is. Each level includes what those before it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is done.
    #[default]
    Normal = 0,
    /// Idle and slow things are closed.
    Shed = 1,
    /// Who holds more than a fair share gets nothing new.
    Refuse = 2,
    /// Nobody gets anything new.
    Full = 3,
}

impl Level {
    /// The names in metrics and reports, in order.
    pub const NAMES: [&'static str; 4] = ["normal", "shed", "refuse", "full"];

    /// Where each level begins, in percent of the budget.
    const BEGINS: [u64; 4] = [0, 80, 90, 97];

    /// Of a small budget, [`Level::Full`] leaves so many bytes: what is under way needs some.
    const RESERVE: u64 = 2 << 20;

    /// A level ends so many percent below its begin, so that it does not change back and forth.
    const HYSTERESIS: u64 = 5;

    /// The name of this level.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The use at which this level begins.
    pub fn begins(self, budget: u64) -> u64 {
        let begins = part(budget, Self::BEGINS[self as usize]);
        match self {
            Self::Full => begins.min(budget.saturating_sub(Self::RESERVE)).max(Self::Refuse.begins(budget)),
            Self::Normal | Self::Shed | Self::Refuse => begins,
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

fn part(budget: u64, percent: u64) -> u64 {
    budget / 100 * percent
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
        for (mib, full) in [(1_000, 970), (100, 97), (40, 38), (32, 30), (10, 9)] {
            let begins = Level::Full.begins(mib << 20);
            assert!(begins.abs_diff(full << 20) < 100, "{mib} MiB: {begins}");
        }
    }
}
