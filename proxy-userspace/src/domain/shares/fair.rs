//! The shares of all, from what each of them wants.

use std::collections::HashMap;
use std::hash::Hash;

/// The most that anyone gets of `capacity` when it is divided max-min fair among `demands`: whoever wants no more than
/// this gets what it wants. `u64::MAX` if there is enough for all. Rounded down.
pub fn level(capacity: u64, demands: &mut [u64]) -> u64 {
    demands.sort_unstable();
    let (mut left, mut others) = (capacity, demands.len() as u64);
    for &demand in &*demands {
        let equal = left / others;
        if demand > equal {
            return equal;
        }
        left -= demand;
        others -= 1;
    }
    u64::MAX
}

/// What each gets of `capacity`, in order: first divided among groups by their members' demands, then in each group. A
/// demand is given with its group. Since levels are rounded down, less than one unit for each of them may be left over.
pub fn divide<G: Eq + Hash>(capacity: u64, demands: &[(G, u64)]) -> Vec<u64> {
    let mut groups: HashMap<&G, Vec<u64>> = HashMap::new();
    for (group, demand) in demands {
        groups.entry(group).or_default().push(*demand);
    }
    let sum = |members: &[u64]| members.iter().fold(0_u64, |sum, demand| sum.saturating_add(*demand));
    let mut sums: Vec<u64> = groups.values().map(|members| sum(members)).collect();
    let most = level(capacity, &mut sums);
    let levels: HashMap<&G, u64> =
        groups.into_iter().map(|(group, mut members)| (group, level(most, &mut members))).collect();
    demands.iter().map(|(group, demand)| levels.get(group).map_or(0, |level| *level.min(demand))).collect()
}
