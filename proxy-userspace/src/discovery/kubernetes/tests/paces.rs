//! What comes next, and when.

use std::time::Duration;

use crate::discovery::kubernetes::failure::Failure;
use crate::discovery::kubernetes::pace::{End, Pace, Step, WELL};

const SPREAD: Duration = Duration::from_millis(500);

fn watched(life: Duration, why: Option<Failure>) -> End {
    End::Watched { version: "7".to_owned(), life, asked: WELL, why }
}

fn list() -> Step {
    Step::List
}

fn watch() -> Step {
    Step::Watch("7".to_owned())
}

/// The longest pause, in ms, of a hundred runs through `ends`; asserts that no pause was below half of it.
fn longest(ends: &[End]) -> u128 {
    let pauses: Vec<_> = (0..100)
        .map(|seed| {
            let (mut pace, mut rng) = (Pace::default(), fastrand::Rng::with_seed(seed));
            let last = ends.iter().map(|end| pace.after(end.clone(), SPREAD, &mut rng).1).last();
            last.unwrap().as_millis()
        })
        .collect();
    let (shortest, longest) = (*pauses.iter().min().unwrap(), *pauses.iter().max().unwrap());
    assert!(shortest + 1 >= longest / 2, "{shortest} to {longest}");
    longest
}

#[test]
fn each_end_has_its_next_step() {
    let short = Duration::from_millis(50);
    for (end, expected) in [
        (End::Listed("7".to_owned()), watch()),
        (End::NotListed(Failure::Gone), list()),
        (End::NotListed(Failure::Forbidden(String::new())), list()),
        (watched(WELL, None), watch()),
        (watched(short, None), watch()),
        (watched(WELL, Some(Failure::Gone)), list()),
        (watched(WELL, Some(Failure::Garbage(String::new()))), list()),
        (watched(WELL, Some(Failure::Unreachable(String::new()))), watch()),
        (watched(WELL, Some(Failure::Silent(short))), watch()),
        (watched(short, Some(Failure::Unauthorized(String::new()))), watch()),
        (watched(short, Some(Failure::Forbidden(String::new()))), watch()),
        (watched(short, Some(Failure::Throttled(None))), watch()),
        (watched(short, Some(Failure::Refused(String::new()))), watch()),
    ] {
        let (step, _) = Pace::default().after(end.clone(), SPREAD, &mut fastrand::Rng::with_seed(1));
        assert_eq!(step, expected, "{end:?}");
    }
}

#[test]
fn a_watch_goes_on_within_two_seconds_and_a_list_within_thirty() {
    let away = watched(Duration::ZERO, Some(Failure::Unreachable(String::new())));
    let refused = End::NotListed(Failure::Refused(String::new()));
    let forbidden = End::NotListed(Failure::Forbidden(String::new()));
    for (end, times, at_most) in [
        (watched(WELL, None), 1, 0),
        (watched(WELL, Some(Failure::Unreachable(String::new()))), 1, 100),
        (away.clone(), 2, 200),
        (away.clone(), 5, 1600),
        (away, 100, 2000),
        (watched(Duration::ZERO, Some(Failure::Silent(WELL))), 100, 2000),
        (End::NotListed(Failure::Unreachable(String::new())), 100, 30_000),
        (refused.clone(), 1, 100),
        (refused, 100, 30_000),
        (forbidden.clone(), 1, 1000),
        (forbidden, 100, 30_000),
        (End::NotListed(Failure::Throttled(None)), 100, 30_000),
    ] {
        let longest = longest(&vec![end.clone(); times]);
        assert!(longest <= at_most && longest >= at_most * 9 / 10, "{end:?} {times}: {longest}");
    }
}

#[test]
fn what_a_server_asks_for_is_waited_for_up_to_a_minute() {
    for (asked, expected) in [(7, 7), (60, 60), (3600, 60)] {
        let end = watched(Duration::ZERO, Some(Failure::Throttled(Some(Duration::from_secs(asked)))));
        let (step, pause) = Pace::default().after(end, SPREAD, &mut fastrand::Rng::with_seed(1));
        assert_eq!((step, pause), (watch(), Duration::from_secs(expected)));
    }
}

#[test]
fn lists_in_a_hurry_are_spread_and_one_after_a_while_is_not() {
    let (listed, gone) = (End::Listed("7".to_owned()), watched(Duration::ZERO, Some(Failure::Gone)));
    let pause = |lists: usize, last: End| {
        let (mut pace, mut rng) = (Pace::default(), fastrand::Rng::with_seed(1));
        for _ in 0..lists {
            pace.after(listed.clone(), Duration::ZERO, &mut rng);
            pace.after(gone.clone(), Duration::ZERO, &mut rng);
        }
        pace.after(listed.clone(), Duration::ZERO, &mut rng);
        pace.after(last, Duration::ZERO, &mut rng).1
    };
    assert_eq!(pause(0, gone.clone()), Duration::ZERO);
    assert!(pause(3, gone.clone()) >= Duration::from_millis(200));
    assert!(pause(30, gone.clone()) >= Duration::from_secs(15));
    assert_eq!(pause(30, watched(WELL, Some(Failure::Gone))), Duration::ZERO);
    // All nodes get this at the same moment.
    let spread = |seed| Pace::default().after(gone.clone(), SPREAD, &mut fastrand::Rng::with_seed(seed)).1;
    let (least, most) =
        (0..100).map(spread).fold((SPREAD, Duration::ZERO), |(a, b), it| (a.min(it), b.max(it)));
    assert!(least < SPREAD / 10 && most > SPREAD * 8 / 10 && most <= SPREAD, "{least:?} {most:?}");
}

#[test]
fn a_watch_refused_again_and_again_is_a_reason_to_list() {
    let (mut pace, mut rng) = (Pace::default(), fastrand::Rng::with_seed(1));
    let refused = || watched(Duration::ZERO, Some(Failure::Refused("500".to_owned())));
    let steps: Vec<_> = (0..3).map(|_| pace.after(refused(), SPREAD, &mut rng).0).collect();
    assert_eq!(steps, [watch(), watch(), list()]);
}
