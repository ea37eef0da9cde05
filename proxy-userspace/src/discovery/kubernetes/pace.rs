//! What comes after a list or a watch, and how soon.
//!
//! A watch goes on from where it was, within 2 s of any trouble: kube-rs's own pauses grow to 30 s, and on a real cluster
//! that left a node 20.7 s behind after an API server's short absence. A list costs the server much, so those that fail or
//! come too often are spread over 30 s; but where nothing was ever listed, nothing is known to serve by, and a server that is
//! not even there has no work with who looks for it, so that it is looked for as often as for a watch. Every pause is shortened by up to a half at random, so that nodes that lost the
//! server at the same moment do not return together; those that a server sent away when it was asked to go return at
//! any moment of 2 s.

use std::time::Duration;

use super::failure::Failure;

/// The first pause after trouble.
const FIRST: Duration = Duration::from_millis(100);
/// The longest before a watch goes on.
const WATCH: Duration = Duration::from_secs(2);
/// The longest before a list, and after a server asked for patience.
const LIST: Duration = Duration::from_secs(30);
/// The longest that a server's `Retry-After` is heeded.
const ASKED: Duration = Duration::from_mins(1);
/// The first pause after a refusal that only an administrator can end.
const FORBIDDEN: Duration = Duration::from_secs(1);
/// The pause after which is looked whether there are still too many to follow.
const RECOUNT: Duration = Duration::from_mins(15);
/// Refusals of a watch in a row after which a list is tried: what is remembered may be what the server minds.
const REFUSALS: u32 = 3;
/// A watch that ends so much before its time has ended by it: clocks differ, and a server counts from when it was asked.
const EARLY: Duration = Duration::from_secs(2);
/// A watch that lived for so long was well.
pub(super) const WELL: Duration = Duration::from_secs(10);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// List everything.
    List,
    /// Watch what comes after this version.
    Watch(String),
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A list is complete up to this version.
    Listed(String),
    /// A list failed.
    NotListed(Failure),
    /// A watch ended, having got to `version`, after it was open for `life` (zero if it never was) of the time it was `asked`
    /// for.
    Watched { version: String, life: Duration, asked: Duration, why: Option<Failure> },
}

/// The memory that pauses grow by.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Troubles in a row that may be over at any moment.
    troubles: u32,
    /// Refusals in a row that call for patience. They are counted apart: a server that returns often refuses at first what
    /// it will soon permit, and its absence should not make that refusal count for many.
    patience: u32,
    /// Lists since a watch was last well.
    lists: u32,
    /// Refusals of watches in a row.
    refusals: u32,
    /// Whether a list was ever complete.
    listed: bool,
    /// How often nobody was there before that. Counted apart too: the server's absence should not make what it does on
    /// its arrival count for many troubles.
    absences: u32,
}

impl Pace {
    /// What comes after `end`, and the pause before it. `spread` is what nodes that list at the same time are spread over.
    pub(super) fn after(&mut self, end: End, spread: Duration, rng: &mut fastrand::Rng) -> (Step, Duration) {
        match end {
            End::Listed(version) => {
                (self.troubles, self.patience, self.refusals) = (0, 0, 0);
                self.lists += 1;
                self.listed = true;
                (Step::Watch(version), Duration::ZERO)
            }
            End::NotListed(Failure::Absent(_)) if !self.listed => {
                self.absences += 1;
                (Step::List, growing(FIRST, WATCH, self.absences, rng))
            }
            End::NotListed(failure) => (Step::List, self.pause(&failure, LIST, rng)),
            End::Watched { version, life, asked, why } => {
                if life >= WELL {
                    *self = Self { listed: self.listed, ..Self::default() };
                }
                match why {
                    Some(failure) => self.after_failure(version, failure, spread, rng),
                    None => (Step::Watch(version), self.after_end(life, asked, rng)),
                }
            }
        }
    }

    /// The pause after a server ended a watch in good order. One that is asked to go ends all of them at the same moment, and
    /// what is left of the servers should not get all nodes at once.
    fn after_end(&mut self, life: Duration, asked: Duration, rng: &mut fastrand::Rng) -> Duration {
        if life + EARLY >= asked {
            (self.troubles, self.patience) = (0, 0);
            return Duration::ZERO;
        }
        self.troubles = if life >= FIRST { 0 } else { self.troubles + 1 };
        growing(FIRST, WATCH, self.troubles, rng).max(WATCH.mul_f64(rng.f64()))
    }

    fn after_failure(
        &mut self,
        version: String,
        failure: Failure,
        spread: Duration,
        rng: &mut fastrand::Rng,
    ) -> (Step, Duration) {
        if failure == Failure::Gone || matches!(failure, Failure::Garbage(_)) {
            // All nodes are told at the same moment when a server starts anew.
            let spread = spread.mul_f64(rng.f64());
            return (Step::List, spread + growing(FIRST, LIST, self.lists.saturating_sub(1), rng));
        }
        self.refusals = if matches!(failure, Failure::Refused(_)) { self.refusals + 1 } else { 0 };
        let pause = self.pause(&failure, WATCH, rng);
        (if self.refusals >= REFUSALS { Step::List } else { Step::Watch(version) }, pause)
    }

    /// Counts a trouble; the pause after it, which grows up to `most` where the failure itself does not say otherwise.
    fn pause(&mut self, failure: &Failure, most: Duration, rng: &mut fastrand::Rng) -> Duration {
        let calls_for_patience =
            matches!(failure, Failure::Forbidden(_) | Failure::Misconfigured(_) | Failure::Throttled(_));
        let count = if calls_for_patience { &mut self.patience } else { &mut self.troubles };
        *count += 1;
        let times = *count;
        match failure {
            Failure::Absent(_)
            | Failure::Unreachable(_)
            | Failure::Silent(_)
            | Failure::Unauthorized(_)
            | Failure::Refused(_)
            | Failure::Garbage(_)
            | Failure::Gone => growing(FIRST, most, times, rng),
            Failure::Forbidden(_) | Failure::Misconfigured(_) => growing(FORBIDDEN, LIST, times, rng),
            Failure::TooMany(_) => RECOUNT.mul_f64(1.0 - rng.f64() / 2.0),
            Failure::Throttled(asked) => {
                // Not shortened: the server said how long.
                let asked = asked.unwrap_or_default().min(ASKED);
                asked.max(growing(FIRST, LIST, times, rng))
            }
        }
    }
}

/// Nothing for the zeroth time, `first` for the first, and twice as much each time, up to `most`; less up to a half of it.
fn growing(first: Duration, most: Duration, times: u32, rng: &mut fastrand::Rng) -> Duration {
    let Some(doublings) = times.checked_sub(1) else { return Duration::ZERO };
    let whole = first.saturating_mul(1 << doublings.min(16)).min(most);
    whole.mul_f64(1.0 - rng.f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest pause of a hundred, after each of these ends in turn.
    fn longest(ends: &[End]) -> Vec<Duration> {
        let mut longest = vec![Duration::ZERO; ends.len()];
        for seed in 0..100 {
            let (mut rng, mut pace) = (fastrand::Rng::with_seed(seed), Pace::default());
            for (end, longest) in ends.iter().zip(&mut longest) {
                *longest = pace.after(end.clone(), Duration::ZERO, &mut rng).1.max(*longest);
            }
        }
        longest
    }

    fn watched(why: Option<Failure>) -> End {
        End::Watched { version: "1".to_owned(), life: Duration::ZERO, asked: WELL, why }
    }

    fn unreachable() -> Failure {
        Failure::Unreachable("refused".to_owned())
    }

    #[test]
    fn a_watch_is_resumed_within_two_seconds_however_long_the_server_was_away() {
        let pauses = longest(&vec![watched(Some(unreachable())); 40]);
        assert!(pauses.iter().all(|it| *it <= WATCH), "{pauses:?}");
        assert!(pauses[0] <= FIRST && pauses[39] > WATCH / 2, "{pauses:?}");
    }

    #[test]
    fn lists_that_fail_and_refusals_that_last_wait_up_to_thirty_seconds() {
        let text = String::new;
        for failure in [
            unreachable(),
            Failure::Silent(WELL),
            Failure::Unauthorized(text()),
            Failure::Refused(text()),
            Failure::Garbage(text()),
            Failure::Gone,
            Failure::Throttled(None),
        ] {
            let pauses = longest(&vec![End::NotListed(failure.clone()); 40]);
            assert!(pauses[39] > LIST * 9 / 10 && pauses[39] <= LIST, "{failure:?}: {pauses:?}");
        }
    }

    #[test]
    fn only_a_server_that_is_not_there_before_the_first_list_is_looked_for_every_two_seconds() {
        let absent = || Failure::Absent("refused".to_owned());
        let listed = || [End::Listed("1".to_owned()), watched(Some(Failure::Gone))];
        // What went before 40 lists that failed so, and the most that is waited for after the last.
        let table = [
            (Vec::new(), absent(), WATCH),
            (Vec::new(), unreachable(), LIST),
            (Vec::new(), Failure::Silent(WELL), LIST),
            (Vec::new(), Failure::Unauthorized(String::new()), LIST),
            (Vec::new(), Failure::Forbidden(String::new()), LIST),
            (Vec::new(), Failure::Refused(String::new()), LIST),
            (listed().to_vec(), absent(), LIST),
            (listed().to_vec(), unreachable(), LIST),
        ];
        for (before, failure, most) in table {
            let failed = vec![End::NotListed(failure.clone()); 40];
            let pauses = longest(&[before.clone(), failed].concat());
            let (first, last) = (pauses[before.len()], pauses[before.len() + 39]);
            assert!(first <= FORBIDDEN, "{failure:?} after {before:?}: {pauses:?}");
            assert!(last > most * 9 / 10 && last <= most, "{failure:?} after {before:?}: {pauses:?}");
        }
    }

    #[test]
    fn a_server_that_was_listed_long_ago_is_listed_again_as_seldom_as_any() {
        let well =
            End::Watched { version: "1".to_owned(), life: WELL, asked: WELL * 9, why: Some(Failure::Gone) };
        let mut ends = vec![End::Listed("1".to_owned()), well];
        ends.extend(vec![End::NotListed(Failure::Absent(String::new())); 40]);
        assert!(longest(&ends)[41] > LIST * 9 / 10);
    }

    #[test]
    fn what_a_server_says_on_its_arrival_counts_for_no_more_because_it_was_away() {
        for trouble in [Failure::Refused(String::new()), unreachable()] {
            let mut ends = vec![End::NotListed(Failure::Absent(String::new())); 20];
            ends.push(End::NotListed(trouble));
            let pauses = longest(&ends);
            assert!(pauses[20] <= FIRST, "{pauses:?}");
        }
    }

    #[test]
    fn what_a_server_refuses_on_its_return_is_tried_again_soon() {
        for refusal in [Failure::Forbidden("rbac".to_owned()), Failure::Throttled(None)] {
            let mut ends = vec![watched(Some(unreachable())); 20];
            ends.push(watched(Some(refusal)));
            let pauses = longest(&ends);
            assert!(pauses[20] <= FORBIDDEN, "{pauses:?}");
        }
    }

    #[test]
    fn a_server_that_ends_every_watch_at_once_is_not_asked_in_a_hurry() {
        let pauses = longest(&vec![watched(None); 10]);
        assert!(pauses[9] > WATCH / 2 && pauses[9] <= WATCH, "{pauses:?}");
    }

    #[test]
    fn nodes_that_a_server_sends_away_return_at_any_moment_of_two_seconds() {
        let asked = Duration::from_mins(5);
        let pauses_after = |life| {
            let end = End::Watched { version: "1".to_owned(), life, asked, why: None };
            let pause = |seed| {
                let mut rng = fastrand::Rng::with_seed(seed);
                Pace::default().after(end.clone(), Duration::ZERO, &mut rng).1
            };
            (0..1000).map(pause).collect::<Vec<_>>()
        };
        let away = pauses_after(Duration::from_mins(3));
        for tenth in 0..10 {
            let (from, to) = (WATCH / 10 * tenth, WATCH / 10 * (tenth + 1));
            let within = away.iter().filter(|it| (from..=to).contains(*it)).count();
            assert!((50..150).contains(&within), "{within} of 1000 from {from:?} to {to:?}");
        }
        let by_its_time = pauses_after(asked - Duration::from_millis(100));
        assert!(by_its_time.iter().all(Duration::is_zero), "{by_its_time:?}");
    }

    #[test]
    fn history_that_is_gone_again_and_again_is_listed_ever_more_seldom() {
        let ends: Vec<_> =
            (0..20).flat_map(|_| [End::Listed("1".to_owned()), watched(Some(Failure::Gone))]).collect();
        let pauses = longest(&ends);
        assert_eq!(pauses[1], Duration::ZERO, "the first time, at once");
        assert!(pauses[39] > LIST / 2, "{pauses:?}");
    }

    #[test]
    fn a_server_is_given_the_time_it_asks_for() {
        let (mut rng, mut pace) = (fastrand::Rng::with_seed(1), Pace::default());
        let throttled = Failure::Throttled(Some(Duration::from_secs(7)));
        let (step, pause) = pace.after(watched(Some(throttled)), Duration::ZERO, &mut rng);
        assert_eq!((step, pause), (Step::Watch("1".to_owned()), Duration::from_secs(7)));
        let endless = Failure::Throttled(Some(Duration::from_hours(9)));
        assert_eq!(pace.after(End::NotListed(endless), Duration::ZERO, &mut rng).1, ASKED);
    }
}
