//! The paths of one host.

use std::collections::HashMap;
use std::sync::Arc;

use super::path::{IngressPath, PathType};
use super::rules::Target;

/// Most regular expressions of one host: a request is compared with each of them.
pub(super) const EXPRESSIONS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: HashMap<Arc<str>, Target>,
    /// `ImplementationSpecific` paths without any character that is special in an expression.
    whole: HashMap<Arc<str>, Target>,
    /// By the path without its last slash: `/` is the empty one.
    prefixes: HashMap<Arc<str>, (usize, Target)>,
    /// How many elements the longest prefix has.
    deepest: usize,
    /// Regular expressions, the longest text first.
    expressions: Vec<(IngressPath, Target)>,
    /// For any path.
    any: Option<Target>,
}

/// Why a rule is not added.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotAdded {
    /// The Ingress of this number has the same host and path.
    Taken(usize),
    /// There are too many expressions.
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
            PathType::ImplementationSpecific if path.is_expression() => self.add_expression(path, target),
            PathType::ImplementationSpecific => insert(&mut self.whole, text.clone(), target, |it| it),
        }
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

    /// The target of the longest path that fits. One that says all of `path` comes before any other.
    pub(super) fn find(&self, path: &str) -> Option<&Target> {
        if let Some(target) = self.exact.get(path).or_else(|| self.whole.get(path)) {
            return Some(target);
        }
        let prefix = self.longest_prefix(path);
        let expression = self.expressions.iter().find(|(it, _)| it.fits(path));
        match (prefix, expression) {
            (Some((length, _)), Some((longer, target))) if longer.text.len() > *length => Some(target),
            (Some((_, target)), _) | (None, Some((_, target))) => Some(target),
            (None, None) => self.any.as_ref(),
        }
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
