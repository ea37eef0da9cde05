//! The right side of an entry: alternatives of unions of names.

use super::super::{NameTree, Weighted};
use super::{Mistake, Parser};
use crate::domain::name::Path;

/// The largest weight: keeps sums of weights finite.
pub const LARGEST_WEIGHT: f64 = 1e100;

/// The most characters of a weight; the largest weight has fewer.
const WEIGHT_LENGTH: usize = 128;

type Tree = NameTree<Path>;

impl Parser<'_> {
    /// Members separated by `|`, inside `nesting` open parentheses.
    pub(super) fn tree(&mut self, nesting: usize) -> Result<Tree, Mistake> {
        let mut members = vec![self.union(nesting)?];
        while self.separator(b'|', members.len())? {
            members.push(self.union(nesting)?);
        }
        Ok(if members.len() == 1 { members.remove(0) } else { NameTree::Alt(members) })
    }

    /// Members separated by `&`. The weight of a single member is dropped.
    fn union(&mut self, nesting: usize) -> Result<Tree, Mistake> {
        self.cursor.skip_space();
        let at = self.cursor.at();
        let mut members = vec![self.member(nesting)?];
        while self.separator(b'&', members.len())? {
            members.push(self.member(nesting)?);
        }
        if members.len() == 1 {
            return Ok(members.remove(0).tree);
        }
        if members.iter().all(|member| member.weight == 0.0) {
            let what = "every weight of this union is zero".to_owned();
            return Err(Mistake { at, what, hint: Some("give one member a weight above zero") });
        }
        Ok(NameTree::Union(members))
    }

    /// Whether another member follows the first `count`.
    fn separator(&mut self, separator: u8, count: usize) -> Result<bool, Mistake> {
        self.cursor.skip_space();
        let at = self.cursor.at();
        if !self.cursor.eat(separator) {
            return Ok(false);
        }
        if count < self.bounds.members {
            return Ok(true);
        }
        let what = format!("more than {count} members with `{}` between them", char::from(separator));
        Err(Mistake { at, what, hint: None })
    }

    /// `weight * simple`, or `simple` with weight 1.
    fn member(&mut self, nesting: usize) -> Result<Weighted<Path>, Mistake> {
        self.cursor.skip_space();
        let weight = match self.cursor.peek() {
            Some(b'0'..=b'9' | b'.') => self.weight()?,
            Some(b'-' | b'+') => {
                return Err(Mistake {
                    hint: Some("weights have no sign"),
                    ..self.cursor.expected("a path or a weight")
                });
            }
            _ => 1.0,
        };
        Ok(Weighted { weight, tree: self.simple(nesting)? })
    }

    /// A number followed by `*`.
    fn weight(&mut self) -> Result<f64, Mistake> {
        let bytes = self.cursor.bytes();
        let start = self.cursor.at();
        let number = bytes[start..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'.'));
        let end = start + number.count();
        let mut points = (start..end).filter(|&at| bytes[at] == b'.');
        if let (Some(_), Some(second)) = (points.next(), points.next()) {
            let mistake = self.cursor.expected_at(second, "`*` after the weight");
            return Err(Mistake { hint: Some("a number has one decimal point"), ..mistake });
        }
        if end - start == 1 && bytes[start] == b'.' {
            return Err(self.cursor.expected_at(end, "a digit"));
        }
        let text = std::str::from_utf8(&bytes[start..end]).unwrap_or_default();
        let weight = text.parse().ok().filter(|&weight: &f64| weight <= LARGEST_WEIGHT);
        let Some(weight) = weight.filter(|_| text.len() <= WEIGHT_LENGTH) else {
            let what = "the weight is too large or too long a number".to_owned();
            return Err(Mistake { at: start, what, hint: None });
        };
        self.cursor.move_to(end);
        self.cursor.skip_space();
        if !self.cursor.eat(b'*') {
            let exponent = matches!(self.cursor.peek(), Some(b'e' | b'E'));
            let hint = exponent.then_some("weights have no exponent");
            return Err(Mistake { hint, ..self.cursor.expected("`*` after the weight") });
        }
        self.cursor.skip_space();
        Ok(weight)
    }

    /// A path, a tree in parentheses, or one of `! ~ $`.
    fn simple(&mut self, nesting: usize) -> Result<Tree, Mistake> {
        let at = self.cursor.at();
        match self.cursor.peek() {
            Some(b'/') => {
                let scanned = Path::scan(self.cursor.bytes(), at);
                let (path, end) = scanned.map_err(|bad| self.bad_path(bad))?;
                self.cursor.move_to(end);
                Ok(NameTree::Leaf(path))
            }
            Some(b'!') => self.sign(NameTree::Fail),
            Some(b'~') => self.sign(NameTree::Neg),
            Some(b'$') => self.sign(NameTree::Empty),
            Some(b'(') if nesting >= self.bounds.nesting => {
                let what = format!("more than {nesting} parentheses inside one another");
                Err(Mistake { at, what, hint: None })
            }
            Some(b'(') => {
                self.cursor.move_to(at + 1);
                let tree = self.tree(nesting + 1)?;
                self.cursor.skip_space();
                if self.cursor.eat(b')') { Ok(tree) } else { Err(self.cursor.expected("`|`, `&` or `)`")) }
            }
            _ => Err(self.cursor.expected("a path, a weight, `(`, `!`, `~` or `$`")),
        }
    }

    fn sign(&mut self, meaning: Tree) -> Result<Tree, Mistake> {
        self.cursor.move_to(self.cursor.at() + 1);
        Ok(meaning)
    }
}
