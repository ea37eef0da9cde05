//! The paths of one host.

use std::collections::HashMap;
use std::sync::Arc;

use super::literal::Rest;
use super::path::{IngressPath, PathType};
use super::rules::Target;
use super::starts::Starts;

/// Most regular expressions of one host: a request is compared with each of them.
pub(super) const EXPRESSIONS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: HashMap<Arc<str>, Target>,
    /// `ImplementationSpecific` paths that say one whole path.
    whole: HashMap<Arc<str>, Target>,
    /// By the path without its last slash: `/` is the empty one.
    prefixes: HashMap<Arc<str>, (usize, Target)>,
    /// How many elements the longest prefix has.
    deepest: usize,
    /// `ImplementationSpecific` paths that only say how a path begins.
    starts: Starts,
    /// Other regular expressions, the longest text first.
    expressions: Vec<(IngressPath, Target)>,
    /// For any path.
    any: Option<Target>,
}

/// Why a rule is not added.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotAdded {
    /// The Ingress of this number has the same host and path.
    Taken(usize),
    /// There are too many expressions of this host.
    Full,
}

impl Paths {
    pub(super) fn add(&mut self, path: &IngressPath, target: Target) -> Result<(), NotAdded> {
        let text = &path.text;
        match path.kind {
            PathType::Exact => insert(&mut self.exact, text.clone(), target, |it| it),
            PathType::Prefix => {
                let key: Arc<str> = text.strip_suffix('/').unwrap_or(text).into();
                self.deepest = self.deepest.max(key.matches('/').count());
                insert(&mut self.prefixes, key, (text.len(), target), |(_, it)| it)
            }
            PathType::ImplementationSpecific if path.is_any() => match &self.any {
                Some(earlier) => Err(NotAdded::Taken(earlier.ingress)),
                None => {
                    self.any = Some(target);
                    Ok(())
                }
            },
            PathType::ImplementationSpecific if path.literal.is_some() => self.add_literal(path, target),
            PathType::ImplementationSpecific if path.is_expression() => self.add_expression(path, target),
            PathType::ImplementationSpecific => insert(&mut self.whole, text.clone(), target, |it| it),
        }
    }

    fn add_literal(&mut self, path: &IngressPath, target: Target) -> Result<(), NotAdded> {
        match path.literal.as_deref() {
            Some(literal) if literal.rest == Rest::Nothing => {
                insert(&mut self.whole, (*literal.start).into(), target, |it| it)
            }
            Some(literal) => {
                self.starts.add(literal, target).map_err(|earlier| NotAdded::Taken(earlier.ingress))
            }
            None => Ok(()),
        }
    }

    /// Makes the paths ready to be found: all of them were added.
    pub(super) fn finish(&mut self) {
        self.starts.finish();
    }

    fn add_expression(&mut self, path: &IngressPath, target: Target) -> Result<(), NotAdded> {
        if let Some((_, earlier)) = self.expressions.iter().find(|(it, _)| it == path) {
            return Err(NotAdded::Taken(earlier.ingress));
        }
        if self.expressions.len() == EXPRESSIONS {
            return Err(NotAdded::Full);
        }
        path.prepare();
        // Those of the same length stay in order.
        let at = self.expressions.partition_point(|(it, _)| it.text.len() >= path.text.len());
        self.expressions.insert(at, (path.clone(), target));
        Ok(())
    }

    /// The target of the longest path that fits. One that says all of `path` comes before any other. Of those that say as
    /// much, that of the namespace with the oldest Ingress counts, and within it the more special kind's.
    pub(super) fn find(&self, path: &str) -> Option<&Target> {
        let whole = [self.exact.get(path), self.whole.get(path)];
        if let Some(target) = Target::of_oldest(whole.into_iter().flatten()) {
            return Some(target);
        }
        let prefix = self.longest_prefix(path).map(|(length, target)| (*length, target));
        let [below, something, anything] = self.starts.find(path);
        let expressions = self.expressions.iter().filter(|(it, _)| it.fits(path));
        let expression = expressions.map(|(it, target)| (it.text.len(), target)).next();
        // The most special kind first.
        let all = [prefix, below, something, anything, expression];
        let longest = all.iter().flatten().map(|(length, _)| *length).max();
        let as_long = all.into_iter().flatten().filter(|(length, _)| Some(*length) == longest);
        // `/` is any path, too.
        let any = self.any.as_ref().filter(|_| longest.is_none_or(|length| length <= 1));
        Target::of_oldest(as_long.map(|(_, target)| target).chain(any))
    }

    /// The prefix with the most elements that `path` begins with. No more look-ups than that prefix may have elements,
    /// however long the path.
    fn longest_prefix(&self, path: &str) -> Option<&(usize, Target)> {
        if self.prefixes.is_empty() || !path.starts_with('/') {
            return None;
        }
        let end = path.match_indices('/').nth(self.deepest).map_or(path.len(), |(at, _)| at);
        let mut start = path[..end].strip_suffix('/').unwrap_or(&path[..end]);
        loop {
            if let Some(found) = self.prefixes.get(start) {
                return Some(found);
            }
            start = &start[..start.rfind('/')?];
        }
    }
}

fn insert<T>(
    map: &mut HashMap<Arc<str>, T>,
    key: Arc<str>,
    value: T,
    target: impl Fn(&T) -> &Target,
) -> Result<(), NotAdded> {
    match map.get(&key) {
        Some(earlier) => Err(NotAdded::Taken(target(earlier).ingress)),
        None => {
            map.insert(key, value);
            Ok(())
        }
    }
}
