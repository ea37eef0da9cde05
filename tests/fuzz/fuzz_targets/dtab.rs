//! Reading a dtab: nothing panics, bounds are kept, and what reads prints and reads back the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::domain::dtab::{Bounds, Dtab, Origin};

fuzz_target!(|text: &str| {
    for bounds in [Bounds::CONFIGURATION, Bounds::REQUEST] {
        match Dtab::parse(text, Origin::Request, &bounds) {
            Ok(dtab) => reads_back(&dtab, &bounds),
            Err(error) => {
                assert!(!error.problems.is_empty() && error.problems.len() <= bounds.problems);
                let lines = text.split('\n').count();
                for problem in &error.problems {
                    assert!(problem.at.line as usize <= lines, "{problem}");
                    assert_eq!(problem.caret.lines().count(), 2, "{problem:#}");
                }
            }
        }
    }
});

fn reads_back(dtab: &Dtab, bounds: &Bounds) {
    // Printing may be longer than what was read: it escapes, and writes spaces.
    let roomy = Bounds { bytes: usize::MAX, ..*bounds };
    for text in [dtab.to_string(), format!("{dtab:#}")] {
        let again = Dtab::parse(&text, Origin::Request, &roomy).unwrap_or_else(|error| panic!("{error}"));
        let same = |(one, other): (&weir::domain::dtab::Dentry, &weir::domain::dtab::Dentry)| {
            one.prefix == other.prefix && one.tree == other.tree
        };
        assert!(again.entries.len() == dtab.entries.len(), "{text}");
        assert!(again.entries.iter().zip(&dtab.entries).all(same), "{text}");
    }
}
