//! What many endpoints have in common, kept once: thousands of them are on the same few nodes in the same three zones.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::discovery::objects::{Hints, SliceObject};

/// Values that are kept before those are looked for that nobody has any more.
const FIRST_LOOK: usize = 1024;

/// Values of every kind that is shared.
#[derive(Debug, Default)]
pub(super) struct Shared {
    words: Pool<str>,
    hints: Pool<Hints>,
}

/// Values, each once.
#[derive(Debug)]
struct Pool<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// How many there are when they are looked through the next time: twice what was left the last time, so that a
    /// cluster whose nodes come and go costs no more memory, and a value little time.
    look_at: usize,
}

impl Shared {
    /// A word, the very one that others have.
    pub(super) fn word(&mut self, word: &str) -> Arc<str> {
        match self.words.values.get(word) {
            Some(known) => known.clone(),
            None => self.words.add(word.into()),
        }
    }

    /// Leaves a slice no memory that it does not need.
    pub(super) fn slice(&mut self, slice: &mut SliceObject) {
        for endpoint in slice.endpoints.iter_mut().flatten() {
            for word in [&mut endpoint.node_name, &mut endpoint.zone].into_iter().flatten() {
                *word = self.word(word);
            }
            if let Some(hints) = &mut endpoint.hints {
                *hints = match self.hints.values.get(hints) {
                    Some(known) => known.clone(),
                    None => self.hints.add(hints.clone()),
                };
            }
        }
        slice.endpoints.iter_mut().for_each(Vec::shrink_to_fit);
        slice.ports.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// Gives back what nobody has any more.
    pub(super) fn shrink(&mut self) {
        self.words.shrink();
        self.hints.shrink();
    }

    /// How many values are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.words.values.len() + self.hints.values.len()
    }
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), look_at: FIRST_LOOK }
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    fn add(&mut self, value: Arc<T>) -> Arc<T> {
        if self.values.len() >= self.look_at {
            self.shrink();
        }
        self.values.insert(value.clone());
        value
    }

    fn shrink(&mut self) {
        self.values.retain(|value| Arc::strong_count(value) > 1);
        self.values.shrink_to(FIRST_LOOK);
        self.look_at = FIRST_LOOK.max(self.values.len() * 2);
    }
}
