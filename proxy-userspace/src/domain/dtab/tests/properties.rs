//! Properties of every dtab.

use proptest::prelude::*;

use super::{parse, tree};
use crate::domain::dtab::{Bounds, Dentry, Dtab, Element, NameTree, Origin, Position, Prefix, Weighted};
use crate::domain::name::Path;

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z0-9.:#$%_-]{1,8}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..5),
    ]
}

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(label(), 0..5).prop_map(Path::from_labels)
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![Just(1.0), (1_u32..1000).prop_map(|it| f64::from(it) / 100.0), 1e-9..1e60_f64]
}

/// Trees that the grammar can produce: no alternatives or unions with fewer than two members.
pub(in crate::domain) fn trees() -> impl Strategy<Value = NameTree<Path>> {
    let leaf = prop_oneof![
        6 => path().prop_map(NameTree::Leaf),
        1 => Just(NameTree::Neg),
        1 => Just(NameTree::Fail),
        1 => Just(NameTree::Empty),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let member = (weight(), inner.clone()).prop_map(|(weight, tree)| Weighted { weight, tree });
        prop_oneof![
            prop::collection::vec(inner, 2..5).prop_map(NameTree::Alt),
            prop::collection::vec(member, 2..5).prop_map(NameTree::Union),
        ]
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    let element = prop_oneof![
        1 => Just(Element::Any),
        4 => label().prop_map(|label| Element::Label(label.into())),
    ];
    prop::collection::vec(element, 0..4).prop_map(|elements| Prefix { elements })
}

fn dtabs() -> impl Strategy<Value = Dtab> {
    let at = Position { line: 1, column: 1 };
    let entry = (prefix(), trees());
    prop::collection::vec(entry, 0..8).prop_map(move |entries| Dtab {
        entries: entries
            .into_iter()
            .map(|(prefix, tree)| Dentry { prefix, tree, origin: Origin::Base, at })
            .collect(),
    })
}

fn without_places(dtab: &Dtab) -> Vec<(&Prefix, &NameTree<Path>)> {
    dtab.entries.iter().map(|entry| (&entry.prefix, &entry.tree)).collect()
}

proptest! {
    #[test]
    fn a_tree_reads_as_it_was_printed(expected in trees()) {
        prop_assert_eq!(tree(&expected.to_string()), Ok(expected));
    }

    #[test]
    fn a_dtab_reads_as_it_was_printed(dtab in dtabs()) {
        for text in [dtab.to_string(), format!("{dtab:#}")] {
            let read = parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(without_places(&read), without_places(&dtab), "{}", text);
        }
    }

    #[test]
    fn whatever_reads_prints_and_reads_again(text in "[/ab*=>;|&(!~$.0-9 \n#\\\\x]{0,60}") {
        if let Ok(dtab) = parse(&text) {
            let again = parse(&dtab.to_string()).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(without_places(&again), without_places(&dtab));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        for bounds in [Bounds::CONFIGURATION, Bounds::REQUEST] {
            if let Err(error) = Dtab::parse(&text, Origin::Request, &bounds) {
                prop_assert!(!error.problems.is_empty() && error.problems.len() <= bounds.problems);
                let _ = error.to_string();
            }
        }
    }
}
