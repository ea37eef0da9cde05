//! What the demo promised, and whether it held.

use super::half::Half;
use super::rule::Rule;
use super::scene::Door;
use super::tally::Kind;

/// One promise.
pub(super) struct Promise {
    pub(super) text: String,
    pub(super) held: bool,
}

/// Prints the promises of each half and of the rule, and the counts behind them; true if all held.
pub(crate) fn print(halves: &[Half], rule: Option<&Rule>) -> bool {
    let mut all_held = true;
    let mut print = |promise: Promise| {
        println!("  {}  {}", if promise.held { "ok    " } else { "BROKEN" }, promise.text);
        all_held &= promise.held;
    };
    for half in halves {
        let title = match half.door {
            Door::Transparent => "Diverted: clients that know of no proxy",
            Door::Outgoing => "Explicit: clients with http_proxy",
        };
        println!("\n{title}");
        promises(half).into_iter().for_each(&mut print);
        for note in notes(half) {
            println!("          {note}");
        }
    }
    if let Some(rule) = rule {
        println!("\nA firewall rule between pods");
        rule.promises().into_iter().for_each(&mut print);
    }
    all_held
}

fn promises(half: &Half) -> Vec<Promise> {
    let (tally, name) = (&half.tally, half.killed);
    let gets = tally.score(Kind::Get);
    let (failed, failed_before) = half.failures(Kind::Get);
    let asked = tally.begun() + half.curls;
    let what = match half.door {
        Door::Transparent => "every diverted request answered",
        Door::Outgoing => "every request to the proxy answered",
    };
    let used = tally.backends.iter().filter(|(_, count)| **count > 0).count();
    let mut promises = vec![
        Promise {
            text: format!(
                "{what}: {} of {} by curl, {} GETs, {failed} failed",
                half.curls_answered, half.curls, gets.answered
            ),
            held: half.curls_answered == half.curls && failed == 0 && gets.answered > 0,
        },
        Promise { text: format!("all three endpoints used: {}", by_backend(half)), held: used == 3 },
        Promise {
            text: format!(
                "no client-visible failure when {name} was killed by SIGKILL under load and while it was dead: \
                 {} GETs failed",
                failed - failed_before
            ),
            held: failed == failed_before,
        },
        Promise {
            text: match half.came_back {
                Some(after) => {
                    format!("{name} took requests again {:.1} s after it was back", after.as_secs_f64())
                }
                None => format!("{name} took no requests again"),
            },
            held: half.came_back.is_some(),
        },
        Promise {
            text: format!(
                "by weir's own counters {} of {asked} requests and conversations came through the {} listener, {} through the {}",
                half.through,
                half.door.listener(),
                half.through_other,
                half.door.other().listener()
            ),
            held: half.through == asked && half.through_other == 0,
        },
    ];
    if half.door == Door::Transparent {
        promises.push(conversations(half));
    }
    promises
}

/// A conversation is cut with the backend it was held with; there is at most one at any time.
fn conversations(half: &Half) -> Promise {
    let echoes = half.tally.score(Kind::Echo);
    let (failed, failed_before) = half.failures(Kind::Echo);
    Promise {
        text: format!(
            "the TCP service held {} conversations; {failed} cut, at most the one with {} at its death",
            echoes.answered, half.killed
        ),
        held: echoes.answered > 0 && failed_before == 0 && failed <= 1,
    }
}

fn notes(half: &Half) -> Vec<String> {
    let posts = half.tally.score(Kind::Post);
    let mut notes = vec![format!(
        "POSTs, which no proxy may repeat: {} answered, {} failed while under way to {}",
        posts.answered, posts.failed, half.killed
    )];
    notes.extend(half.tally.failures.iter().map(|(kind, why)| format!("  a {kind:?} failed: {why}")));
    if !half.endpoints.is_empty() {
        let counts: Vec<String> =
            half.endpoints.iter().map(|(endpoint, count)| format!("{endpoint} {count}")).collect();
        notes.push(format!("by weir's own count: {}", counts.join(", ")));
    }
    notes
}

fn by_backend(half: &Half) -> String {
    let counts: Vec<String> =
        half.tally.backends.iter().map(|(name, count)| format!("{name} {count}")).collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::tally::Tally;

    fn half() -> Half {
        let mut tally = Tally::default();
        for backend in ["a", "b", "c"] {
            tally.count(Kind::Get, Ok(backend.to_owned()));
        }
        tally.count(Kind::Post, Err("502".to_owned()));
        tally.count(Kind::Echo, Ok("a".to_owned()));
        Half {
            door: Door::Transparent,
            tally,
            before_kill: Tally::default(),
            curls_answered: 6,
            curls: 6,
            through: 11,
            through_other: 0,
            endpoints: Vec::new(),
            killed: "b",
            came_back: Some(Duration::from_secs(3)),
        }
    }

    #[test]
    fn a_failed_post_is_shown_and_breaks_no_promise() {
        assert!(promises(&half()).iter().all(|promise| promise.held));
        assert!(notes(&half()).iter().any(|note| note.contains("1 failed")));
    }

    #[test]
    fn each_promise_can_be_broken() {
        let broken = |change: fn(&mut Half)| {
            let mut half = half();
            change(&mut half);
            promises(&half).iter().filter(|promise| !promise.held).count()
        };
        assert!(broken(|half| half.curls_answered = 5) > 0);
        assert!(broken(|half| half.tally.count(Kind::Get, Err("reset".to_owned()))) > 0);
        assert!(broken(|half| half.tally.backends.retain(|name, _| name != "c")) > 0);
        assert!(broken(|half| half.came_back = None) > 0);
        assert!(broken(|half| half.through = 10) > 0);
        assert!(broken(|half| half.through_other = 1) > 0);
        assert!(broken(|half| (0..2).for_each(|_| half.tally.count(Kind::Echo, Err("cut".to_owned())))) > 0);
    }
}
