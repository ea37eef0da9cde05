//! Entries: `prefix => tree`, separated by `;`.

use super::super::{Dentry, Element, Origin, Prefix};
use super::{Mistake, Parser};
use crate::domain::name::{BadPath, scan_label, starts_label};

impl Parser<'_> {
    /// All entries, and all mistakes.
    pub(super) fn entries(&mut self, origin: Origin) -> (Vec<Dentry>, Vec<Mistake>) {
        let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
        let mut count = 0;
        loop {
            self.cursor.skip_space();
            if self.cursor.at_end() {
                break;
            }
            count += 1;
            if count > self.bounds.entries {
                let what = format!("more than {} entries", self.bounds.entries);
                mistakes.push(Mistake { at: self.cursor.at(), what, hint: None });
                break;
            }
            match self.entry(origin) {
                Ok(entry) => entries.push(entry),
                Err(mistake) => {
                    mistakes.push(mistake);
                    if mistakes.len() >= self.bounds.problems {
                        break;
                    }
                    self.cursor.skip_entry();
                }
            }
            self.cursor.eat(b';');
        }
        (entries, mistakes)
    }

    /// One entry, up to its `;` or the end.
    fn entry(&mut self, origin: Origin) -> Result<Dentry, Mistake> {
        if self.cursor.peek() == Some(b';') {
            let empty = self.cursor.expected("an entry such as `/svc => /host`");
            return Err(Mistake { hint: Some("one `;` ends an entry"), ..empty });
        }
        let at = self.cursor.position();
        let prefix = self.prefix()?;
        self.cursor.skip_space();
        self.arrow(&prefix)?;
        let tree = self.tree(0)?;
        self.cursor.skip_space();
        match self.cursor.peek() {
            None | Some(b';') => Ok(Dentry { prefix, tree, origin, at }),
            Some(b'=') => {
                let hint = "is the `;` missing after the entry before?";
                Err(Mistake { hint: Some(hint), ..self.cursor.expected("`;`") })
            }
            Some(b'/') => Err(Mistake {
                hint: Some("an entry ends with `;`"),
                ..self.cursor.expected("`|`, `&` or `;`")
            }),
            Some(b'*') => {
                let hint = "`*` stands for a label only left of `=>`; a weight is a number before it";
                Err(Mistake { hint: Some(hint), ..self.cursor.expected("`|`, `&` or `;`") })
            }
            Some(_) => Err(self.cursor.expected("`|`, `&` or `;`")),
        }
    }

    fn arrow(&mut self, prefix: &Prefix) -> Result<(), Mistake> {
        let at = self.cursor.at();
        if self.cursor.eat(b'=') && self.cursor.eat(b'>') {
            return Ok(());
        }
        let mistake = self.cursor.expected_at(at, "`=>`");
        let after_any = matches!(prefix.elements.last(), Some(Element::Any));
        let hint = match self.cursor.bytes().get(at) {
            Some(&byte) if after_any && starts_label(byte) => Some("`*` stands for a whole label"),
            Some(b'*') => Some("`*` stands for a whole label"),
            _ => None,
        };
        Err(Mistake { hint, ..mistake })
    }

    /// `/`, or `/` and elements with `/` between them.
    pub(super) fn prefix(&mut self) -> Result<Prefix, Mistake> {
        self.cursor.skip_space();
        if !self.cursor.eat(b'/') {
            return Err(self.cursor.expected("a prefix that starts with `/`"));
        }
        let mut elements = Vec::new();
        if !self.cursor.peek().is_some_and(|byte| byte == b'*' || starts_label(byte)) {
            return Ok(Prefix { elements });
        }
        loop {
            elements.push(self.element()?);
            if !self.cursor.eat(b'/') {
                return Ok(Prefix { elements });
            }
        }
    }

    fn element(&mut self) -> Result<Element, Mistake> {
        if self.cursor.eat(b'*') {
            return Ok(Element::Any);
        }
        let mut label = Vec::new();
        let scanned = scan_label(self.cursor.bytes(), self.cursor.at(), |byte| label.push(byte));
        let end = scanned.map_err(|bad| self.bad_path(bad))?;
        self.cursor.move_to(end);
        Ok(Element::Label(label.into()))
    }

    pub(super) fn bad_path(&self, bad: BadPath) -> Mistake {
        let before = bad.at.checked_sub(1).map(|before| self.cursor.bytes()[before]);
        let hint = match (self.cursor.bytes().get(bad.at), before) {
            (Some(b'/'), Some(b'/')) => Some("a path has no empty labels"),
            (Some(b'*'), _) => Some("`*` stands for a label only left of `=>`"),
            (_, Some(b'/')) => Some("a path does not end with `/`"),
            _ => None,
        };
        Mistake { hint, ..self.cursor.expected_at(bad.at, bad.expected) }
    }
}
