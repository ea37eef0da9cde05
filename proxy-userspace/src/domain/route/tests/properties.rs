//! Properties of every dtab and every name.

use proptest::prelude::*;

use super::{Configured, Delegation, Limits, Table, dtab, path, shown};
use crate::domain::dtab::{Dtab, NameTree, Origin};
use crate::domain::route::{Choice, choose};

/// Dtabs over few labels, so that entries interact: many cycles, unions and alternatives.
fn dtabs() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        6 => prop::collection::vec("[abc]", 0..3).prop_map(|labels| format!("/{}", labels.join("/"))),
        2 => "[abx]".prop_map(|name| format!("/#/io.l5d.fs/{name}")),
        1 => Just("/$/inet/host/80".to_owned()),
        1 => "[~!$]",
    ];
    let tree = prop::collection::vec((name, "[|&]"), 1..4).prop_map(|members| {
        let text: Vec<String> = members.into_iter().map(|(name, by)| format!("{name} {by} ")).collect();
        let text = text.concat();
        text[..text.len() - 3].to_owned()
    });
    let prefix = prop::collection::vec("[abc*]", 0..3).prop_map(|labels| format!("/{}", labels.join("/")));
    prop::collection::vec((prefix, tree), 0..8).prop_map(|entries| {
        entries.into_iter().map(|(prefix, tree)| format!("{prefix} => {tree} ;\n")).collect()
    })
}

fn run(dtabs: &[&Dtab], name: &str) -> String {
    let table = Table::of_fs(&["a", "b"]);
    let namers = Configured::defaults();
    // Few steps, so that an endless dtab costs little here.
    let limits = Limits { steps: 300, ..Limits::REQUEST };
    let delegation = Delegation { dtabs, namers: &namers, names: &table, limits };
    let result = delegation.bind(&path(name));
    let explanation = delegation.explain(&path(name));
    assert_eq!(explanation.result, result);
    let _ = explanation.to_string();
    if let Ok(tree) = &result {
        choices_fit(tree);
    }
    shown(result)
}

/// A tree without alternatives that may be negative is never chosen as negative.
fn choices_fit(tree: &NameTree<super::Bound<String>>) {
    let mut rng = fastrand::Rng::with_seed(1);
    let choice = choose(tree, &mut rng, &|_| false);
    assert_eq!(matches!(choice, Choice::Neg), matches!(tree, NameTree::Neg), "{tree}");
    let _ = choose(tree, &mut rng, &|_| true);
}

proptest! {
    #[test]
    fn delegation_ends(text in dtabs(), name in "(/[abc]){1,3}") {
        run(&[&dtab(&text, Origin::Base)], &name);
    }

    #[test]
    fn the_last_entry_for_a_name_wins(text in dtabs(), name in "(/[abc]){1,3}") {
        let with = format!("{text} {name} => ! ;");
        prop_assert_eq!(run(&[&dtab(&with, Origin::Base)], &name), "!");
    }

    #[test]
    fn a_dtab_in_two_parts_is_the_same_dtab(first in dtabs(), second in dtabs(), name in "(/[abc]){1,3}") {
        let (one, other) = (dtab(&first, Origin::Base), dtab(&second, Origin::Request));
        let mut whole = one.clone();
        whole.append(other.clone());
        prop_assert_eq!(run(&[&one, &other], &name), run(&[&whole], &name));
    }

    #[test]
    fn what_follows_the_prefix_is_left_over(rest in "(/[a-z0-9]{1,4}){0,4}") {
        let dtab = dtab("/svc => /host ; /host => /#/io.l5d.fs/a | /#/io.l5d.fs/b", Origin::Base);
        let expected = if rest.is_empty() { "/#/io.l5d.fs/a".to_owned() } else { format!("/#/io.l5d.fs/a[{rest}]") };
        prop_assert_eq!(run(&[&dtab], &format!("/svc{rest}")), expected);
    }
}
