//! A cache of token reviews.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::discovery::kubernetes::Review;

/// Maximum number of cached tokens.
const TOKENS: usize = 256;

/// How long a positive review is cached. A revoked permission is noticed after this time.
const ALLOWED: Duration = Duration::from_secs(60);

/// How long a negative review is cached.
const REFUSED: Duration = Duration::from_secs(10);

/// How long a positive review still counts while the API server cannot be reached: metrics are most needed then.
const UNASKED: Duration = Duration::from_secs(600);

/// Cached reviews by token.
#[derive(Debug, Default)]
pub(super) struct Tokens(HashMap<Box<str>, (Review, Instant)>);

/// A cache lookup's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// Still valid.
    Fresh(Review),
    /// Was allowed; must be reviewed again, and still counts if the API server does not answer.
    WasAllowed,
    /// Not cached.
    None,
}

impl Tokens {
    /// Looks up `token`.
    pub(super) fn recall(&self, token: &str, now: Instant) -> Memory {
        let Some((review, at)) = self.0.get(token) else { return Memory::None };
        let age = now.saturating_duration_since(*at);
        match review {
            Review::Allowed if age < ALLOWED => Memory::Fresh(*review),
            Review::Allowed if age < UNASKED => Memory::WasAllowed,
            Review::Unauthenticated | Review::Forbidden if age < REFUSED => Memory::Fresh(*review),
            Review::Allowed | Review::Unauthenticated | Review::Forbidden => Memory::None,
        }
    }

    /// Stores the API server's review of `token`.
    pub(super) fn note(&mut self, token: &str, review: Review, now: Instant) {
        if self.0.len() >= TOKENS && !self.0.contains_key(token) {
            self.make_room(now);
        }
        self.0.insert(token.into(), (review, now));
    }

    /// Removes expired entries; if there are none, a refused token, since anybody can invent those; otherwise the
    /// oldest.
    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, (review, at)| {
            let most = if *review == Review::Allowed { UNASKED } else { REFUSED };
            now.saturating_duration_since(*at) < most
        });
        if self.0.len() < TOKENS {
            return;
        }
        let by = |(review, at): &(Review, Instant)| (*review == Review::Allowed, *at);
        if let Some(worst) = self.0.iter().min_by_key(|(_, known)| by(known)).map(|(token, _)| token.clone())
        {
            self.0.remove(&worst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_is_believed_for_its_time_and_an_allowed_one_longer_where_nobody_can_be_asked() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        for (review, recalled) in [
            (Review::Allowed, [Memory::Fresh(Review::Allowed), Memory::WasAllowed, Memory::None]),
            (Review::Forbidden, [Memory::None; 3]),
            (Review::Unauthenticated, [Memory::None; 3]),
        ] {
            let mut tokens = Tokens::default();
            assert_eq!(tokens.recall("a", now), Memory::None);
            tokens.note("a", review, now);
            assert_eq!(tokens.recall("a", after(9)), Memory::Fresh(review));
            assert_eq!(
                [59, 61, 601].map(|seconds| tokens.recall("a", after(seconds))),
                recalled,
                "{review:?}"
            );
            assert_eq!(tokens.recall("b", now), Memory::None);
        }
        let mut tokens = Tokens::default();
        tokens.note("a", Review::Allowed, now);
        tokens.note("a", Review::Forbidden, after(61));
        assert_eq!(tokens.recall("a", after(62)), Memory::Fresh(Review::Forbidden));
    }

    #[test]
    fn tokens_that_are_made_up_push_out_no_right_one() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        tokens.note("right", Review::Allowed, now);
        for number in 0..5000 {
            tokens.note(&format!("guess {number}"), Review::Unauthenticated, now);
        }
        assert!(tokens.0.len() <= TOKENS);
        assert_eq!(tokens.recall("right", now), Memory::Fresh(Review::Allowed));
    }
}
