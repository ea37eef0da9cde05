//! What each namespace may have of what all Ingresses use together: no namespace takes another one's part.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::shares::level;

/// What is left for each namespace.
#[derive(Debug)]
pub(super) struct Shares {
    room: usize,
    /// Each one's share, and what is left of it.
    of: HashMap<Arc<str>, (usize, usize)>,
}

impl Shares {
    /// Divides `room` max-min fair among namespaces that want so many, each in several parts: whoever wants no more than
    /// an equal share gets all. What is left by rounding is for those that come first.
    pub(super) fn new<'a>(room: usize, wanted: impl Iterator<Item = (&'a Arc<str>, usize)>) -> Self {
        let mut order: Vec<&Arc<str>> = Vec::new();
        let mut wants: HashMap<&Arc<str>, usize> = HashMap::new();
        for (namespace, count) in wanted {
            *wants.entry(namespace).or_insert_with(|| {
                order.push(namespace);
                0
            }) += count;
        }
        let mut demands: Vec<_> = wants.values().map(|want| *want as u64).collect();
        let level = usize::try_from(level(room as u64, &mut demands)).unwrap_or(usize::MAX);
        let given: usize = wants.values().map(|want| *want.min(&level)).sum();
        let mut over = room.saturating_sub(given);
        let of = order.into_iter().map(|namespace| {
            let want = wants[namespace];
            let more = usize::from(want > level && over > 0);
            over -= more;
            let share = want.min(level.saturating_add(more));
            (namespace.clone(), (share, share))
        });
        Self { room, of: of.collect() }
    }

    /// What all may have together.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Whether so many are left for the namespace.
    pub(super) fn has(&self, namespace: &str, count: usize) -> bool {
        self.of.get(namespace).is_some_and(|(_, left)| *left >= count)
    }

    /// Takes so many, which are there.
    pub(super) fn take(&mut self, namespace: &str, count: usize) {
        if let Some((_, left)) = self.of.get_mut(namespace) {
            *left = left.saturating_sub(count);
        }
    }

    /// The namespace's share, where that is not all there is.
    pub(super) fn share(&self, namespace: &str) -> Option<usize> {
        self.of.get(namespace).map(|(share, _)| *share).filter(|share| *share < self.room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_wants_little_gets_it_all_and_the_rest_is_shared_equally() {
        for (room, wanted, expected) in [
            (10, &[("a", 3), ("b", 4)][..], &[3, 4][..]),
            (10, &[("a", 1), ("b", 100), ("c", 100)], &[1, 5, 4]),
            (10, &[("b", 100), ("a", 5)], &[5, 5]),
            (10, &[("a", 100)], &[10]),
            (2, &[("a", 1), ("b", 1), ("c", 1)], &[1, 1, 0]),
            (0, &[("a", 1)], &[0]),
            (10, &[("a", 60), ("b", 2), ("a", 60)], &[8, 2]),
        ] {
            let wanted: Vec<_> =
                wanted.iter().map(|(name, count)| (Arc::<str>::from(*name), *count)).collect();
            let mut shares = Shares::new(room, wanted.iter().map(|(name, count)| (name, *count)));
            let mut names: Vec<_> = wanted.iter().map(|(name, _)| name.clone()).collect();
            names.dedup();
            for (name, expected) in names.iter().zip(expected) {
                assert!(shares.has(name, *expected) && !shares.has(name, expected + 1), "{wanted:?} {name}");
                shares.take(name, *expected);
                assert!(!shares.has(name, 1));
            }
        }
    }
}
