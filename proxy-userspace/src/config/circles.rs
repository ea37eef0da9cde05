//! Names of a dtab that lead back to themselves, or to ever longer names: no request for one can be bound.
//!
//! Found by delegating each entry's own prefix as if every service existed, so that only what goes in a circle whatever
//! there is gets a warning.

use std::collections::HashSet;

use crate::domain::dtab::{Dentry, Dtab, Element, NameTree, Prefix};
use crate::domain::name::{Labels, Path};
use crate::domain::route::{Answer, Configured, Delegation, Failure, Kind, Limits, Names, Transformer};

/// The most entries that are followed.
const FOLLOWED: usize = 1_000;

/// The most comparisons of a name with an entry: each step compares one with all. Under a second.
const COMPARED: usize = 10_000_000;

/// The most that lead nowhere; after that many, the rest is of the same kind.
const MOST: usize = 20;

/// Smaller than for requests: a circle is found by its length, and what branches more is none.
const LIMITS: Limits = Limits { steps: 200, ..Limits::CONFIGURATION };

/// Each circle, with the first entry that leads there.
pub(super) fn circles<'d>(dtab: &'d Dtab, namers: &[Configured]) -> Vec<(&'d Dentry, Failure)> {
    let dtabs = [dtab];
    let delegation = Delegation { dtabs: &dtabs, namers, names: &Everything, limits: LIMITS };
    let (mut seen, mut found, mut failures) = (HashSet::new(), Vec::new(), 0);
    let mut steps = COMPARED / dtab.entries.len().max(1);
    for entry in dtab.entries.iter().filter(|entry| leads_on(&entry.tree)).take(FOLLOWED) {
        if steps == 0 {
            break;
        }
        let (bound, taken) = delegation.bind_counting(&name_of(&entry.prefix));
        steps = steps.saturating_sub(taken);
        let Err(failure) = bound else { continue };
        failures += 1;
        if failures > MOST {
            break;
        }
        let names = match &failure {
            Failure::Cycle { names: circle, .. }
            | Failure::Nesting { cycle: circle, .. }
            | Failure::Work { cycle: circle, .. } => circle.as_slice(),
            Failure::Endless { names, .. } => &names[..names.len().min(1)],
            Failure::Length { .. } | Failure::Leaves { .. } => &[],
        };
        let mut key: Vec<_> = names.iter().map(ToString::to_string).collect();
        key.sort_unstable();
        // Without a name it only branches more than is followed here.
        if !key.is_empty() && seen.insert(key) {
            found.push((entry, failure));
        }
    }
    found
}

/// Whether a leaf is not a namer's.
fn leads_on(tree: &NameTree<Path>) -> bool {
    let mut leads_on = false;
    tree.for_each(&mut |leaf: &Path| leads_on |= leaf.labels().text(0) != Some("#"));
    leads_on
}

/// A name that the prefix matches.
fn name_of(prefix: &Prefix) -> Path {
    Path::from_labels(prefix.elements.iter().map(|element| match element {
        Element::Any => &b"x"[..],
        Element::Label(label) => label,
    }))
}

/// A world where every service exists.
struct Everything;

impl Names for Everything {
    type Port = ();

    fn find(&self, _kind: &Kind, rest: Labels<'_>) -> Answer<()> {
        Answer::Port { port: (), taken: rest.len() }
    }

    fn transformed(&self, (): (), _steps: &[Transformer], _id: &Path) {}

    fn why_not(&self, _kind: &Kind, _rest: Labels<'_>) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dtab::{Bounds, Origin};

    fn found(text: &str) -> Vec<String> {
        let dtab = Dtab::parse(text, Origin::Configured, &Bounds::CONFIGURATION).unwrap();
        let circles = circles(&dtab, &Configured::defaults());
        circles.iter().map(|(entry, failure)| format!("{}: {failure}", entry.at.line)).collect()
    }

    #[test]
    fn each_circle_is_found_once() {
        for (text, expected) in [
            ("/svc => /svc", &["1: the dtab goes in a circle: /svc -> /svc ("][..]),
            ("/svc/web => /a ;\n/a => /b ;\n/b => /a", &["1: the dtab goes in a circle: /a -> /b -> /a ("]),
            ("/a => /b ;\n/b => /a ;\n/c => /d ;\n/d => /c", &["1: ", "3: "]),
            ("/svc => /svc/x", &["1: the dtab leads to ever new names: /svc -> /svc/x -> /svc/x/x"]),
            ("/svc/* => /svc/y", &["1: the dtab goes in a circle: /svc/y -> /svc/y ("]),
            ("/a => /b & /b ;\n/b => /a", &["1: "]),
            ("/ => /$/nil", &["1: the dtab leads to ever new names: / -> /$/nil -> /$/nil/$/nil"]),
            ("/a => /$/io.buoyant.porthostPfx/a", &[]),
        ] {
            let found = found(text);
            assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
            assert!(found.iter().zip(expected).all(|(said, start)| said.starts_with(start)), "{found:?}");
        }
    }

    #[test]
    fn what_ends_has_no_warning() {
        for text in [
            "",
            "/svc => /#/io.l5d.fs ;\n/svc/web => /svc/v1",
            "/svc/web => /svc/v1 ;\n/svc => /#/io.l5d.fs",
            "/svc => /#/io.l5d.fs | /svc",
            "/a => /b | /#/io.l5d.fs/x ;\n/b => ~ ;\n/c => ! ;\n/d => $",
            "/a => /a/b ;\n/a/b => /#/io.l5d.fs/b",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_large_dtab_is_looked_through_in_bounded_steps() {
        let text: String = (0..1_500).map(|n| format!("/svc/{n} => /svc/{} ;", (n + 1) % 1_500)).collect();
        assert_eq!(
            found(&text).len(),
            MOST,
            "as when a request asks for one, which is not followed for longer"
        );
        let many = "/svc/x => /svc/y ;".repeat(1_500);
        assert_eq!(found(&many), [""; 0]);
    }
}
