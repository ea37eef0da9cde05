//! The cost of a cache miss. Prints its figures; run it in release mode to read them.

use std::time::{Duration, Instant};

use super::{Configured, Delegation, Limits, Table, dtab};
use crate::domain::dtab::Origin;
use crate::domain::name::Path;

const ENTRIES: usize = 500;
const SERVICES: usize = 10_000;
const ROUNDS: usize = 300;

#[test]
fn a_miss_among_500_entries_and_10_000_names_is_quick() {
    let names: Vec<String> = (0..SERVICES).map(|at| format!("service-{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let table = Table::of_fs(&names);
    // The base dtab's path, and entries for one name each; the last one of the chain is the base's.
    let overrides: String =
        (3..ENTRIES).map(|at| format!("/svc/service-{at} => /svc/service-{at}-v2 ;\n")).collect();
    let text = format!("/host => /#/io.l5d.fs ; /srv => /host ; /svc => /srv ;\n{overrides}");
    let dtab = dtab(&text, Origin::Base);
    assert_eq!(dtab.entries.len(), ENTRIES);
    let namers = Configured::defaults();
    let delegation =
        Delegation { dtabs: &[&dtab], namers: &namers, names: &table, limits: Limits::CONFIGURATION };
    for (what, first) in
        [("rewritten twice", 3), ("by the common entries", ENTRIES + 1), ("unknown", SERVICES)]
    {
        let paths: Vec<Path> = (0..400)
            .map(|at| Path::from_labels(["svc".to_owned(), format!("service-{}", first + at)]))
            .collect();
        let plain = time(&paths, |path| drop(delegation.bind(path)));
        let explained = time(&paths, |path| drop(delegation.explain(path)));
        println!("a miss, {what}: {plain:?}; explained: {explained:?}");
        assert!(plain < Duration::from_millis(20), "{what}: {plain:?}");
    }
}

/// The average time for one of `paths`.
fn time(paths: &[Path], each: impl Fn(&Path)) -> Duration {
    let begun = Instant::now();
    (0..ROUNDS).for_each(|round| each(&paths[round % paths.len()]));
    begun.elapsed() / ROUNDS as u32
}
