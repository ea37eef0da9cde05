//! What follows a list or a watch, and after which pause.
//!
//! A watch resumes from its last version, within 2 s after any failure: kube-rs's own pauses grow to 30 s, and on a
//! real cluster that left a node 20.7 s behind after a short outage of an API server. A list is expensive for the
//! server, so lists that fail or repeat too often are spread over 30 s. But while nothing was ever listed, weir has
//! nothing to serve by; and if nothing listens, an attempt costs the server nothing: it is repeated as often as for a
//! watch. Every pause is shortened by up to half at random, so that nodes that lost the server at the same moment do
//! not return together; those whose server is shutting down return spread over 2 s.

use std::time::Duration;

use super::failure::Failure;

/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause before a watch resumes.
const WATCH: Duration = Duration::from_secs(2);
/// The longest pause before a list, and after a server asked to slow down.
const LIST: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is honoured.
const ASKED: Duration = Duration::from_mins(1);
/// The first pause after a failure that only an administrator can fix.
const FORBIDDEN: Duration = Duration::from_secs(1);
/// The pause before checking again whether there are too many objects to follow.
const RECOUNT: Duration = Duration::from_mins(15);
/// Consecutive rejections of a watch after which a list is tried: the remembered version may be the cause.
const REFUSALS: u32 = 3;
/// A watch that ends this early counts as ended by its timeout: clocks differ, and the server starts counting at the
/// request.
const EARLY: Duration = Duration::from_secs(2);
/// A watch that lived this long was healthy.
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
    /// A list is complete at this version.
    Listed(String),
    /// A list failed.
    NotListed(Failure),
    /// A watch ended at `version`, after it was open for `life` (zero if it never was) of the `asked` time.
    Watched { version: String, life: Duration, asked: Duration, why: Option<Failure> },
}

/// The state from which pauses are computed.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Consecutive failures that may end at any moment.
    troubles: u32,
    /// Consecutive rejections that call for longer pauses. Counted apart: a restarted server often rejects at first
    /// what it will soon permit, and its absence should not lengthen that pause.
    patience: u32,
    /// Lists since a watch was last healthy.
    lists: u32,
    /// Consecutive rejections of watches.
    refusals: u32,
    /// Whether a list was ever complete.
    listed: bool,
    /// Consecutive absences of a server before that. Also counted apart: the absence should not count towards failures
    /// right after its return.
    absences: u32,
}

impl Pace {
    /// What follows `end`, and the pause before it. `spread` is the time over which nodes that list at once are spread.
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

    /// The pause after a server ended a watch regularly. A server that shuts down ends all of them at the same moment,
    /// and the remaining servers should not get all nodes at once.
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
            // All nodes get this at the same moment when a server restarts.
            let spread = spread.mul_f64(rng.f64());
            return (Step::List, spread + growing(FIRST, LIST, self.lists.saturating_sub(1), rng));
        }
        self.refusals = if matches!(failure, Failure::Refused(_)) { self.refusals + 1 } else { 0 };
        let pause = self.pause(&failure, WATCH, rng);
        (if self.refusals >= REFUSALS { Step::List } else { Step::Watch(version) }, pause)
    }

    /// Counts a failure; returns the pause after it, which grows up to `most` unless the failure determines it.
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
                // Not shortened: the server set it.
                let asked = asked.unwrap_or_default().min(ASKED);
                asked.max(growing(FIRST, LIST, times, rng))
            }
        }
    }
}

/// Zero for `times` 0, `first` for 1, then doubled each time up to `most`; reduced by up to half.
pub(super) fn growing(first: Duration, most: Duration, times: u32, rng: &mut fastrand::Rng) -> Duration {
    let Some(doublings) = times.checked_sub(1) else { return Duration::ZERO };
    let whole = first.saturating_mul(1 << doublings.min(16)).min(most);
    whole.mul_f64(1.0 - rng.f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest of a hundred pauses, after each of these ends in turn.
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
        // The ends before 40 such failed lists, and the maximum pause after the last.
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
