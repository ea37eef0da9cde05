//! Paths by what they begin with: the longest start that fits is found in steps that do not depend on how many there are.

use std::collections::BTreeMap;

use super::literal::{Literal, Rest};
use super::rules::Target;

/// What begins so, by what may come then; the most special first.
type Slots = [Option<Target>; 3];

/// In the order of [`Slots`].
const RESTS: [Rest; 3] = [Rest::Below, Rest::Something, Rest::Anything];

/// The starts of one host's paths.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// While they are added.
    added: BTreeMap<Box<str>, Slots>,
    /// In order.
    all: Vec<Start>,
}

#[derive(Debug)]
struct Start {
    text: Box<str>,
    slots: Slots,
    /// The longest other one that it begins with.
    shorter: Option<usize>,
}

impl Starts {
    /// Adds `literal`, which says more than [`Rest::Nothing`].
    ///
    /// # Errors
    ///
    /// The one that is there already.
    pub(super) fn add(&mut self, literal: &Literal, target: Target) -> Result<(), &Target> {
        let slots = self.added.entry(literal.start.clone()).or_default();
        let at = RESTS.iter().position(|rest| *rest == literal.rest).unwrap_or_default();
        match &mut slots[at] {
            Some(earlier) => Err(earlier),
            slot => {
                *slot = Some(target);
                Ok(())
            }
        }
    }

    /// Makes what was added ready to be found.
    pub(super) fn finish(&mut self) {
        // Those that the next one may begin with, each with the one before it.
        let mut open: Vec<usize> = Vec::new();
        for (text, slots) in std::mem::take(&mut self.added) {
            while open.pop_if(|last| !text.starts_with(&*self.all[*last].text)).is_some() {}
            let shorter = open.last().copied();
            open.push(self.all.len());
            self.all.push(Start { text, slots, shorter });
        }
    }

    /// What fits of the longest one that `path` begins with, by its length: the most special first.
    pub(super) fn find(&self, path: &str) -> [Option<(usize, &Target)>; 3] {
        let behind = self.all.partition_point(|start| *start.text <= *path);
        let mut next = behind.checked_sub(1);
        // Whatever `path` begins with, the last one before it begins with, too.
        let common = next.map_or(0, |at| {
            self.all[at].text.bytes().zip(path.bytes()).take_while(|(one, other)| one == other).count()
        });
        while let Some(at) = next {
            let start = &self.all[at];
            if start.text.len() <= common {
                let rest = path.get(start.text.len()..).unwrap_or_default();
                let fits = |at: usize| {
                    let target = start.slots[at].as_ref().filter(|_| RESTS[at].fits(rest));
                    target.map(|target| (start.text.len(), target))
                };
                let found = [fits(0), fits(1), fits(2)];
                if found.iter().any(Option::is_some) {
                    return found;
                }
            }
            next = start.shorter;
        }
        [None; 3]
    }
}
