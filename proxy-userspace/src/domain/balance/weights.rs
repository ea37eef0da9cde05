//! Drawing candidates in proportion to their weights.
//!
//! Usually weights are equal; then the two candidates drawn are distinct, so that of two endpoints the better one
//! always wins. With unequal weights, the two draws are independent and may return the same candidate. That gives less
//! choice, but keeps the shares right: of two endpoints weighted 3 and 1, distinct draws would always compare both, and
//! ignore the weights.

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;

/// The weights of a tier's candidates, prepared for drawing. Built when the tier changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// This many candidates of weight 1.
    Equal(usize),
    Unequal(Box<[Share]>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    /// Relative to the mean of all.
    weight: f64,
    /// The sum of the weights up to here, this one included.
    total: f64,
}

impl Weights {
    /// The shares of candidates with these weights, in this order. Only the ratios matter; a weight that is not
    /// positive, which no source produces, counts as the smallest possible.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let sane = |weight: f64| if weight > 0.0 { weight.min(f64::MAX) } else { f64::MIN_POSITIVE };
        let mut weights: Vec<f64> = weights.into_iter().map(sane).collect();
        let heaviest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        if weights.iter().all(|&weight| weight == heaviest) {
            return Self(Kind::Equal(weights.len()));
        }
        // Divide by the heaviest first: the sum of the original weights may not be finite.
        weights.iter_mut().for_each(|weight| *weight /= heaviest);
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let mut total = 0.0;
        let share = |weight: f64| {
            total += weight / mean;
            Share { weight: weight / mean, total }
        };
        Self(Kind::Unequal(weights.into_iter().map(share).collect()))
    }

    /// The shares of `len` candidates of equal weight.
    pub fn equal(len: usize) -> Self {
        Self(Kind::Equal(len))
    }

    /// The number of candidates.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Equal(len) => *len,
            Kind::Unequal(weights) => weights.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A candidate's weight relative to the mean, for [`cost`](super::cost): 1 where all weigh the same.
    pub fn weight(&self, index: usize) -> f64 {
        match &self.0 {
            Kind::Equal(_) => 1.0,
            Kind::Unequal(weights) => weights[index].weight,
        }
    }

    /// Draws two candidates other than `avoid`, which must be one of several.
    pub(super) fn draw_two(&self, avoid: Option<usize>, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
        match &self.0 {
            Kind::Equal(len) => draw_distinct(*len, avoid, rng),
            Kind::Unequal(weights) => Some((draw(weights, avoid, rng), draw(weights, avoid, rng))),
        }
    }

    /// Draws two from an iterator of unknown length; the same one twice if there is only one.
    pub(super) fn draw_two_of(
        &self,
        candidates: impl Iterator<Item = usize>,
        rng: &mut fastrand::Rng,
    ) -> Option<(usize, usize)> {
        let mut held = (None, None);
        let mut total = 0.0;
        for (seen, candidate) in candidates.enumerate() {
            match &self.0 {
                // Reservoir sampling with two slots (Vitter's Algorithm R). The slot of the third and later ones is
                // random; that of the first two must be too.
                Kind::Equal(_) => match if seen < 2 { seen } else { rng.usize(..=seen) } {
                    0 => held.0 = Some(candidate),
                    1 if seen == 1 && rng.bool() => held = (Some(candidate), held.0),
                    1 => held.1 = Some(candidate),
                    _ => {}
                },
                // Two weighted reservoirs with one slot each.
                Kind::Unequal(weights) => {
                    let weight = weights[candidate].weight;
                    total += weight;
                    let mut takes = || seen == 0 || rng.f64() * total < weight;
                    held = (
                        if takes() { Some(candidate) } else { held.0 },
                        if takes() { Some(candidate) } else { held.1 },
                    );
                }
            }
        }
        held.0.map(|first| (first, held.1.unwrap_or(first)))
    }
}

fn draw_distinct(len: usize, avoid: Option<usize>, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
    let count = len - usize::from(avoid.is_some());
    if count == 0 {
        return None;
    }
    let first = rng.usize(..count);
    let second = match count {
        1 => first,
        _ => (first + rng.usize(1..count)) % count,
    };
    // Indexes from `avoid` on are shifted by one.
    let skip = |index: usize| index + usize::from(avoid.is_some_and(|avoid| index >= avoid));
    Some((skip(first), skip(second)))
}

/// Draws one candidate in proportion to its weight. There are at least two; a single one would be equal.
fn draw(weights: &[Share], avoid: Option<usize>, rng: &mut fastrand::Rng) -> usize {
    let last = weights.len() - 1;
    let cut = avoid.map(|index| weights[index]);
    let mut point = rng.f64() * (weights[last].total - cut.map_or(0.0, |share| share.weight));
    if let Some(share) = cut.filter(|share| point >= share.total - share.weight) {
        point += share.weight;
    }
    let index = weights.partition_point(|share| share.total <= point).min(last);
    // Rounding may reach the edge of the excluded interval.
    if Some(index) == avoid { (index + 1) % weights.len() } else { index }
}
