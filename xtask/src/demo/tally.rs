//! What clients saw: answers and failures by kind, answers by backend.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// May be repeated by a proxy.
    Get,
    /// May not.
    Post,
    /// A conversation over plain TCP, which nobody can repeat.
    Echo,
}

/// Answers and failures of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Score {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    scores: BTreeMap<Kind, Score>,
    /// Answers to requests (not conversations) by the backend that gave them.
    pub(crate) backends: BTreeMap<String, u64>,
    /// The last failures, a few.
    pub(crate) failures: Vec<(Kind, String)>,
}

impl Tally {
    const FAILURES_KEPT: usize = 8;

    pub(crate) fn count(&mut self, kind: Kind, result: Result<String, String>) {
        let score = self.scores.entry(kind).or_default();
        match result {
            Ok(backend) => {
                score.answered += 1;
                if kind != Kind::Echo {
                    *self.backends.entry(backend).or_default() += 1;
                }
            }
            Err(why) => {
                score.failed += 1;
                if self.failures.len() < Self::FAILURES_KEPT {
                    self.failures.push((kind, why));
                }
            }
        }
    }

    pub(crate) fn score(&self, kind: Kind) -> Score {
        self.scores.get(&kind).copied().unwrap_or_default()
    }

    /// Requests and conversations begun, answered or not.
    pub(crate) fn begun(&self) -> u64 {
        self.scores.values().map(|score| score.answered + score.failed).sum()
    }

    pub(crate) fn answers_of(&self, backend: &str) -> u64 {
        self.backends.get(backend).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_survives_the_way_through_json() {
        let mut tally = Tally::default();
        tally.count(Kind::Get, Ok("a".to_owned()));
        tally.count(Kind::Post, Err("502".to_owned()));
        tally.count(Kind::Echo, Ok("b".to_owned()));
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
        assert_eq!(tally.begun(), 3);
        assert_eq!((tally.answers_of("a"), tally.answers_of("b")), (1, 0));
        assert_eq!(tally.score(Kind::Post), Score { answered: 0, failed: 1 });
    }
}
