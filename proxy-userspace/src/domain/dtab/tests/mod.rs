//! The language: valid texts, invalid texts and their messages, and the round trip of printing and parsing.

mod errors;
mod grammar;
mod properties;

use super::*;

fn parse(text: &str) -> Result<Dtab, DtabError> {
    Dtab::parse(text, Origin::Base, &Bounds::CONFIGURATION)
}

fn tree(text: &str) -> Result<NameTree<crate::domain::name::Path>, DtabError> {
    NameTree::parse(text, &Bounds::CONFIGURATION)
}

#[test]
fn the_entries_of_the_cluster_come_after_the_base_dtab_and_before_the_others() {
    let parse = |text, origin| Dtab::parse(text, origin, &Bounds::CONFIGURATION).unwrap();
    let stored = parse("/c => /d", Origin::Stored);
    for (base, own, expected) in [
        ("/a => /b", "/e => /f", "/a => /b; /c => /d; /e => /f"),
        ("", "/e => /f", "/c => /d; /e => /f"),
        ("/a => /b", "", "/a => /b; /c => /d"),
        ("", "", "/c => /d"),
    ] {
        let mut dtab = parse(base, Origin::Base);
        dtab.append(parse(own, Origin::Configured));
        assert_eq!(dtab.with_stored(&stored).to_string(), expected);
    }
}
