//! The prefixes of a dtab's entries, to be looked up: an entry that may match a name is found without comparing each.

use std::collections::HashMap;

use crate::domain::dtab::{Element, Prefix};
use crate::domain::name::Labels;

/// How many elements of a prefix count; what comes behind them may match whatever a name has there.
const ELEMENTS: usize = 16;

/// How many nodes are looked at for one name: where each element may be a label or `*`, there are 2^[`ELEMENTS`] ways.
const NODES: usize = 64;

/// A tree of prefixes.
pub(super) struct Prefixes<'a> {
    /// A node's child for a label; `None` is that for `*`. The root is 0.
    children: HashMap<(u32, Option<&'a [u8]>), u32>,
    /// Whether a prefix ends at the node of this number.
    ends: Vec<bool>,
}

impl<'a> Prefixes<'a> {
    pub(super) fn new(all: impl Iterator<Item = &'a Prefix>) -> Self {
        let mut it = Self { children: HashMap::new(), ends: vec![false] };
        for prefix in all {
            let mut node = 0;
            for element in prefix.elements.iter().take(ELEMENTS) {
                let label = match element {
                    Element::Label(label) => Some(&**label),
                    Element::Any => None,
                };
                // Fewer than 2^32: a text has at most 1 MiB.
                let next = it.ends.len() as u32;
                node = *it.children.entry((node, label)).or_insert(next);
                if node == next {
                    it.ends.push(false);
                }
            }
            it.ends[node as usize] = true;
        }
        it
    }

    /// Whether a prefix may match `name`, or a name below it; also said of a name with more ways than are followed.
    pub(super) fn may_match(&self, name: Labels<'_>) -> bool {
        let has_any = self.ends[0] || !self.children.is_empty();
        // No node is looked at twice: they are a tree.
        let (mut open, mut looked_at) = (vec![(0, 0)], 0);
        while let Some((node, depth)) = open.pop() {
            looked_at += 1;
            if looked_at > NODES {
                return true;
            }
            let label = name.get(depth);
            if self.ends[node as usize] || (label.is_none() && has_any) {
                return true;
            }
            let any_label = label.map(|_| None);
            let next = [any_label, label.map(Some)].into_iter().flatten();
            let next = next.filter_map(|label| self.children.get(&(node, label)));
            open.extend(next.map(|next| (*next, depth + 1)));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dtab::{Bounds, Dtab, Origin};
    use crate::domain::name::Path;

    fn dtab(text: &str) -> Dtab {
        Dtab::parse(text, Origin::Configured, &Bounds::CONFIGURATION).unwrap()
    }

    /// As [`Prefixes::may_match`], one by one.
    fn compared(dtab: &Dtab, name: Labels<'_>) -> bool {
        dtab.entries.iter().any(|entry| {
            entry.prefix.elements.iter().zip(name.iter()).all(|(element, label)| match element {
                Element::Any => true,
                Element::Label(own) => **own == *label,
            })
        })
    }

    #[test]
    fn what_is_found_is_what_comparing_each_finds() {
        let names = ["/", "/a", "/b", "/a/b", "/a/b/c", "/a/c", "/b/b", "/b/b/c/d", "/c/b", "/x/y/z"];
        for text in [
            "",
            "/ => /x",
            "/a => /x",
            "/a/b => /x ; /a/b/c => /x",
            "/*/b => /x",
            "/*/*/c/* => /x ; /b => /x",
            "/a/*/c => /x ; /*/c => /x",
        ] {
            let dtab = dtab(text);
            let prefixes = Prefixes::new(dtab.entries.iter().map(|entry| &entry.prefix));
            for name in names {
                let name: Path = name.parse().unwrap();
                let expected = compared(&dtab, name.labels());
                assert_eq!(prefixes.may_match(name.labels()), expected, "{text}: {name}");
            }
        }
    }

    /// Of a dtab of 1 MiB, 20,000 names would be compared with 16,000 entries each.
    #[test]
    fn a_name_is_compared_in_bounded_steps_whatever_the_entries_are() {
        let entries = |elements: u32| -> String {
            let element = |ways: u32, at: u32| if ways >> at & 1 == 0 { "/a" } else { "/*" };
            let prefix = |ways| (0..elements).map(|at| element(ways, at)).collect::<String>();
            (0..1 << elements).map(|ways| format!("{}/z => /x ;\n", prefix(ways))).collect()
        };
        for (elements, is_followed) in [(3, true), (12, false)] {
            let dtab = dtab(&entries(elements));
            let prefixes = Prefixes::new(dtab.entries.iter().map(|entry| &entry.prefix));
            let start = "/a".repeat(elements as usize);
            for (end, matches) in [("/z", true), ("/b", false)] {
                let name: Path = format!("{start}{end}").parse().unwrap();
                assert_eq!(compared(&dtab, name.labels()), matches);
                assert_eq!(prefixes.may_match(name.labels()), matches || !is_followed, "{elements} {end}");
            }
        }
    }

    #[test]
    fn prefixes_of_any_length_take_bounded_room() {
        let long = format!("{} => /x", "/a".repeat(100_000));
        let dtab = dtab(&long);
        let prefixes = Prefixes::new(dtab.entries.iter().map(|entry| &entry.prefix));
        assert_eq!(prefixes.ends.len(), ELEMENTS + 1);
        let below: Path = "/a".repeat(500).parse().unwrap();
        assert!(prefixes.may_match(below.labels()));
    }
}
