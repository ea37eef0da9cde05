//! Values that many endpoints share, stored once: thousands of endpoints are on the same few nodes in the same three
//! zones.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::discovery::objects::{Hints, SliceObject};

/// Number of values before the first search for unused ones.
const FIRST_LOOK: usize = 1024;

/// Shared values of every kind.
#[derive(Debug, Default)]
pub(super) struct Shared {
    words: Pool<str>,
    hints: Pool<Hints>,
}

/// Unique values.
#[derive(Debug)]
struct Pool<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// The number at which unused values are next searched: twice the number left by the last search, so that memory
    /// does not grow in a cluster whose nodes change, and the time per value stays small.
    look_at: usize,
}

impl Shared {
    /// The shared copy of a string.
    pub(super) fn word(&mut self, word: &str) -> Arc<str> {
        match self.words.values.get(word) {
            Some(known) => known.clone(),
            None => self.words.add(word.into()),
        }
    }

    /// Replaces strings in a slice by shared ones and frees spare memory.
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

    /// Drops unused values.
    pub(super) fn shrink(&mut self) {
        self.words.shrink();
        self.hints.shrink();
    }

    /// The number of values.
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
