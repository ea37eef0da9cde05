//! Warnings for a dtab that is kept in the cluster: as those of [`super::lint`], for its own entries.

use std::sync::Arc;

use super::lint::{MOST, Routing, circle};
use super::{Interpreter, Outgoing, Settings, Warning};
use crate::domain::dtab::{Dentry, Dtab, Origin};

/// The warnings for `stored`, the dtab of an object of the cluster: its own entries' only. `router` is the one that reads
/// it; without one, that of no file, whose names may begin with anything. `place` is where an entry's line is.
pub fn lint_stored(
    settings: &Settings,
    router: Option<&Outgoing>,
    stored: &Dtab,
    place: impl Fn(u32) -> String,
) -> Vec<Warning> {
    let whole = router.map_or_else(|| stored.clone(), |router| settings.dtab_of(router).with_stored(stored));
    let routing = Routing::new(&whole, &settings.namers);
    let prefix = router.and_then(|router| routing.names_without_an_entry(&router.prefix, &router.label));
    let is_own = |entry: &Dentry| entry.origin == Origin::Stored;
    let own = whole.entries.iter().filter(|entry| is_own(entry));
    let entries = own.flat_map(|entry| routing.entry(entry, &place(entry.at.line)));
    let circles = routing.circles().filter(|(entry, _)| is_own(entry));
    let circles = circles.map(|(entry, what)| circle(place(entry.at.line), what));
    prefix.into_iter().chain(entries).chain(circles).take(MOST).collect()
}

/// The warnings for `stored`, the dtab of `which`, in all routers of `settings` that read it. The time that it takes is bounded:
/// below a second for the largest dtab, times the routers that have different entries of their own.
pub fn lint_of_readers(settings: &Settings, which: &Interpreter, stored: &Dtab) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = Vec::new();
    let mut judged: Vec<&Outgoing> = Vec::new();
    for router in settings.all_routers().filter(|router| router.interpreter.as_ref() == Some(which)) {
        let is_as = |it: &&Outgoing| {
            it.prefix == router.prefix && Arc::ptr_eq(settings.dtab_of(it), settings.dtab_of(router))
        };
        if judged.iter().any(is_as) || warnings.len() >= MOST {
            continue;
        }
        judged.push(router);
        let of_router = lint_stored(settings, Some(router), stored, |line| which.place(line));
        // Others may have the same entry of it.
        warnings.extend(of_router.into_iter().filter(|it| !warnings.contains(it)).collect::<Vec<_>>());
    }
    warnings.truncate(MOST);
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::domain::dtab::Bounds;

    #[test]
    fn of_a_stored_dtab_its_own_entries_are_judged_with_those_of_its_router() {
        let stored = |text: &str| {
            let bounds = Bounds::CONFIGURATION;
            Dtab::parse(text, Origin::Stored, &bounds).unwrap()
        };
        let yaml = "discovery: { kubernetes: {} }\noutgoing: { label: mesh, dstPrefix: /http, interpreter: { kind: \
                    io.l5d.k8s.dtabs, name: web }, dtab: '/b => /#/io.l5d.fs/b ; /c => /nothing' }\n";
        let settings = parse("weir.yaml", yaml, std::path::Path::new("/etc")).unwrap();
        for (router, text, expected) in [
            (None, "/svc => /b", &["entry 1: no entry is for /b, and no namer"][..]),
            (
                None,
                "/http => /#/io.l5d.fs ;\n/x => /#/io.l5d.consul/dc1",
                &["entry 2: no namer has the prefix"],
            ),
            (Some(&settings.outgoing), "/http => /b", &[]),
            (Some(&settings.outgoing), "/svc => /b", &["mesh.dstPrefix: requests' names begin with /http"]),
            (None, "/svc => /svc/x", &["entry 1: the dtab leads to ever new names"]),
            (Some(&settings.outgoing), "/http => /b ;\n/b/y => /http", &[]),
            (Some(&settings.outgoing), "", &["mesh.dstPrefix: requests' names begin with /http"]),
        ] {
            let found = lint_stored(&settings, router, &stored(text), |line| format!("entry {line}"));
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
            assert!(found.iter().zip(expected).all(|(said, start)| said.starts_with(start)), "{found:?}");
        }
    }

    /// Comparing every name with every entry would be a hundred million steps for each, and more for circles.
    #[test]
    fn ten_thousand_entries_of_any_kind_are_judged_in_bounded_steps() {
        let yaml = "discovery: { kubernetes: {} }\noutgoing: { interpreter: { kind: io.l5d.k8s.dtabs, name: web } }\n";
        let settings = parse("weir.yaml", yaml, std::path::Path::new("/etc")).unwrap();
        let which = settings.outgoing.interpreter.clone().unwrap();
        let all = |entry: &dyn Fn(usize) -> String| (0..10_000).map(entry).collect::<String>();
        for (text, count) in [
            (all(&|_| "/svc/x => /svc/y ;\n".to_owned()), 1),
            (all(&|n| format!("/svc/{n} => /svc/{} ;\n", (n + 1) % 10_000)), 5),
            (all(&|n| format!("/svc/{n} => /svc/{} ;\n", n / 2)), 1),
            (all(&|n| format!("/svc/{n} => /#/nosuch/{n} ;\n")), MOST),
            (all(&|n| format!("/svc/{n} => /none/{n} | /svc/{} ;\n", n + 1)), MOST),
            (all(&|n| format!("/*/*/{n} => /svc/x/{n} ;\n")), 5),
        ] {
            let stored = Dtab::parse(&text, Origin::Stored, &Bounds::CONFIGURATION).unwrap();
            let warnings = lint_of_readers(&settings, &which, &stored);
            assert!(warnings.len() >= count, "{}: {:?}", &text[..40], warnings.first());
        }
    }

    /// Texts for each of them would take 100 MB, on all nodes at once.
    #[test]
    fn one_entry_with_hundreds_of_thousands_of_dead_ends_has_no_more_warnings_than_any() {
        let yaml = "discovery: { kubernetes: {} }\noutgoing: { interpreter: { kind: io.l5d.k8s.dtabs, name: web } }\n";
        let settings = parse("weir.yaml", yaml, std::path::Path::new("/etc")).unwrap();
        let which = settings.outgoing.interpreter.clone().unwrap();
        for leaf in ["/a", "/#/x", "/%/x", "/$/x"] {
            let member = format!("({}{leaf})", format!("{leaf}|").repeat(499));
            let members = (1 << 20) / (member.len() + 1) - 1;
            let text = format!("/svc => {}{leaf} ;", format!("{member}|").repeat(members));
            let stored = Dtab::parse(&text, Origin::Stored, &Bounds::CONFIGURATION).unwrap();
            let mut leaves = 0;
            stored.entries[0].tree.for_each(&mut |_| leaves += 1);
            assert!(leaves > 150_000, "{leaf}: {leaves}");
            let routing = Routing::new(&stored, &settings.namers);
            assert_eq!(routing.entry(&stored.entries[0], "here").len(), MOST, "{leaf}");
            assert_eq!(lint_of_readers(&settings, &which, &stored).len(), MOST, "{leaf}");
        }
    }
}
