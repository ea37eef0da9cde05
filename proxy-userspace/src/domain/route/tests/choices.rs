//! Choosing for each request.

use super::{Bound, Choice, Outside, Target, choose, path};
use crate::domain::dtab::{Bounds, NameTree};
use crate::domain::name::Scope;

const PICKS: u32 = 100_000;

/// A bound tree: `/name` is a service port, `/dns/name` a DNS name.
fn closed(text: &str) -> NameTree<Bound<String>> {
    let tree = NameTree::parse(text, &Bounds::CONFIGURATION).unwrap_or_else(|error| panic!("{error}"));
    tree.map(&mut |name| {
        let target = match (name.labels().get(0), name.labels().text(1)) {
            (Some(b"dns"), Some(host)) => Target::Outside(Outside {
                host: host.into(),
                port: 80,
                scope: Scope::Anywhere,
                written: false,
            }),
            _ => Target::Port(name.to_string()),
        };
        Bound { target, id: name.clone(), residual: path("/") }
    })
}

fn name(choice: Choice<'_, String>) -> String {
    match choice {
        Choice::Bound(bound) => bound.id.to_string(),
        Choice::Neg => "~".to_owned(),
        Choice::Fail => "!".to_owned(),
        Choice::Empty => "$".to_owned(),
    }
}

/// The targets that DNS denies.
fn denied(target: &Target<String>) -> bool {
    matches!(target, Target::Outside(outside) if outside.host.starts_with("no"))
}

/// The share of picks of each of `names`.
fn shares(text: &str, names: &[&str]) -> Vec<f64> {
    let tree = closed(text);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut counts = vec![0_u32; names.len()];
    for _ in 0..PICKS {
        let chosen = name(choose(&tree, &mut rng, &denied));
        let at = names.iter().position(|name| *name == chosen);
        counts[at.unwrap_or_else(|| panic!("{text} chose {chosen}"))] += 1;
    }
    counts.iter().map(|&count| f64::from(count) / f64::from(PICKS)).collect()
}

#[test]
fn a_split_holds_its_ratio_within_statistical_error() {
    for (text, names, expected) in [
        ("0.9 * /a & 0.1 * /b", vec!["/a", "/b"], vec![0.9, 0.1]),
        ("90 * /a & 10 * /b", vec!["/a", "/b"], vec![0.9, 0.1]),
        ("/a & /b & /c", vec!["/a", "/b", "/c"], vec![1.0 / 3.0; 3]),
        ("0.001 * /a & 0.999 * /b", vec!["/a", "/b"], vec![0.001, 0.999]),
        ("1 * (/a & /b) & 1 * /c", vec!["/a", "/b", "/c"], vec![0.25, 0.25, 0.5]),
        ("0 * /a & 1 * /b", vec!["/a", "/b"], vec![0.0, 1.0]),
        ("1 * $ & 3 * /a", vec!["$", "/a"], vec![0.25, 0.75]),
        ("1 * /dns/no & 1 * /a & 3 * /b", vec!["/a", "/b"], vec![0.25, 0.75]),
        ("1 * (/dns/no | /c) & 3 * /b", vec!["/c", "/b"], vec![0.25, 0.75]),
        ("5 * (/dns/no | !) & 1 * /a & 1 * /b", vec!["/a", "/b"], vec![0.5, 0.5]),
        ("0 * /a & 0 * /b & 1 * /dns/no", vec!["/a", "/b"], vec![0.5, 0.5]),
    ] {
        for (share, expected) in shares(text, &names).into_iter().zip(expected) {
            // Five standard deviations of a binomial share.
            let error = 5.0 * (expected * (1.0 - expected) / f64::from(PICKS)).sqrt();
            assert!((share - expected).abs() <= error, "{text}: {share} is not {expected} ± {error}");
        }
    }
}

#[test]
fn of_alternatives_the_first_that_exists_is_chosen() {
    for (text, expected) in [
        ("/a | /b", "/a"),
        ("/dns/yes | /b", "/dns/yes"),
        ("/dns/no | /b", "/b"),
        ("/dns/no | /dns/nobody | /dns/yes", "/dns/yes"),
        ("/dns/no | ! | /b", "!"),
        ("/dns/no | $ | /b", "$"),
        ("/dns/no", "~"),
        ("/dns/no | /dns/none", "~"),
        ("/dns/no & /dns/none | /c", "/c"),
        ("/dns/no & ! | /c", "/c"),
        ("/dns/no & (/dns/none | !)", "~"),
        ("~", "~"),
        ("!", "!"),
        ("$", "$"),
    ] {
        let chosen = name(choose(&closed(text), &mut fastrand::Rng::with_seed(1), &denied));
        assert_eq!(chosen, expected, "{text}");
    }
}

#[test]
fn the_same_seed_chooses_the_same() {
    let tree = closed("0.2 * /a & 0.3 * (/b & /c) & 0.5 * (/dns/no | /d)");
    let run = |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..1000).map(|_| name(choose(&tree, &mut rng, &denied))).collect::<Vec<_>>()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn the_largest_weights_do_not_overflow() {
    let heavy = format!("{0} * /a & {0} * /b", 1e100);
    for share in shares(&heavy, &["/a", "/b"]) {
        assert!((share - 0.5).abs() < 0.01, "{share}");
    }
}
