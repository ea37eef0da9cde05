//! A rule of the network that lets only one of two pods reach the backends: it holds for what passes through weir.

use anyhow::Result;

use super::scene::{Client, Door, Scene};
use super::summary::Promise;
use crate::os::interrupt;

const CURLS: usize = 3;

/// How many of [`CURLS`] requests of each client were answered, by its way to weir.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) usual: usize,
    pub(crate) other: usize,
}

/// What was seen.
pub(crate) struct Rule {
    before: Vec<(Door, Answered)>,
    after: Vec<(Door, Answered)>,
}

/// Shows it, after everything else: the rule stays. `None`, and a word why, where such a rule cannot be had.
pub(crate) fn play(scene: &Scene) -> Result<Option<Rule>> {
    println!("\nA firewall rule: of two clients, in a pod each, only one may reach the backends.");
    let before = ask_both(scene, false)?;
    let rule = match scene.permit_only(Client::Usual) {
        Ok(rule) => rule,
        Err(why) => {
            interrupt::check()?;
            println!("  Left out: such a rule cannot be had here: {why:#}");
            return Ok(None);
        }
    };
    println!("  In the backends' pods, as a NetworkPolicy would have it: {rule}");
    let after = ask_both(scene, true)?;
    Ok(Some(Rule { before, after }))
}

/// Has both clients ask, in both ways.
fn ask_both(scene: &Scene, shown: bool) -> Result<Vec<(Door, Answered)>> {
    let both = [Door::Transparent, Door::Outgoing].map(|door| {
        let usual = ask(scene, Client::Usual, door, shown)?;
        Ok((door, Answered { usual, other: ask(scene, Client::Other, door, shown)? }))
    });
    both.into_iter().collect()
}

fn ask(scene: &Scene, client: Client, door: Door, shown: bool) -> Result<usize> {
    let name = match client {
        Client::Usual => "client",
        Client::Other => "other ",
    };
    let mut answered = 0;
    for turn in 0..CURLS {
        interrupt::check()?;
        let (command, said) = match scene.curl_as(client, door) {
            Ok((command, printed)) => {
                answered += usize::from(printed.starts_with("hello from "));
                (command, printed)
            }
            Err(error) => ("curl".to_owned(), format!("{error:#}")),
        };
        if shown && turn == 0 {
            println!("    {name}  $ {command}\n            {said}");
        }
    }
    Ok(answered)
}

impl Rule {
    /// What has to be so.
    pub(super) fn promises(&self) -> Vec<Promise> {
        let sum = |all: &[(Door, Answered)], of: fn(&Answered) -> usize| -> usize {
            all.iter().map(|(_, it)| of(it)).sum()
        };
        let asked = CURLS * self.after.len();
        let [free, still] = [&self.before, &self.after].map(|all| sum(all, |it| it.usual));
        let [other, refused] = [&self.before, &self.after].map(|all| sum(all, |it| it.other));
        vec![
            Promise {
                text: format!(
                    "before the rule both are answered, diverted and explicit: {free} and {other} of {asked}"
                ),
                held: free == asked && other == asked,
            },
            Promise {
                text: format!(
                    "with it, exactly the one that may reach them: {still} of {asked} answered, and {refused} of the other's"
                ),
                held: still == asked && refused == 0,
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_promise_about_the_rule_can_be_broken() {
        let held = |before: [usize; 2], after: [usize; 2]| {
            let of = |[usual, other]: [usize; 2]| vec![(Door::Transparent, Answered { usual, other })];
            let rule = Rule { before: of(before), after: of(after) };
            rule.promises().iter().map(|it| it.held).collect::<Vec<_>>()
        };
        let (all, one) = ([CURLS; 2], [CURLS, 0]);
        assert_eq!(held(all, one), [true, true]);
        assert_eq!(held([CURLS, CURLS - 1], one), [false, true]);
        assert_eq!(held([0, CURLS], one), [false, true]);
        assert_eq!(held(all, all), [true, false]);
        assert_eq!(held(all, [CURLS, 1]), [true, false]);
        assert_eq!(held(all, [CURLS - 1, 0]), [true, false]);
    }
}
