//! One request's way through a closed tree.

use super::{Bound, Target};
use crate::domain::dtab::{NameTree, Weighted};

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice<'a, P> {
    /// To this place.
    Bound(&'a Bound<P>),
    /// Nowhere: no alternative exists.
    Neg,
    /// Nowhere: an entry says so (`!`).
    Fail,
    /// Nowhere: the name exists, but nothing is there (`$`).
    Empty,
}

/// Chooses the place for one request: of alternatives the first that exists, of a union's members one by weight.
/// Members of a union that do not exist or fail leave their share to the others.
///
/// `is_neg` says what is known not to exist, for what delegation could not know: DNS names. A caller that finds out
/// only by trying treats the unknown as existing, and chooses again when it does not. Allocates nothing.
pub fn choose<'a, P>(
    tree: &'a NameTree<Bound<P>>,
    rng: &mut fastrand::Rng,
    is_neg: &impl Fn(&Target<P>) -> bool,
) -> Choice<'a, P> {
    match tree {
        NameTree::Leaf(bound) if is_neg(&bound.target) => Choice::Neg,
        NameTree::Leaf(bound) => Choice::Bound(bound),
        NameTree::Neg => Choice::Neg,
        NameTree::Fail => Choice::Fail,
        NameTree::Empty => Choice::Empty,
        NameTree::Alt(members) => {
            let mut choices = members.iter().map(|member| choose(member, rng, is_neg));
            choices.find(|choice| !matches!(choice, Choice::Neg)).unwrap_or(Choice::Neg)
        }
        NameTree::Union(members) => match member(members, rng, is_neg) {
            Some(member) => choose(&member.tree, rng, is_neg),
            None => Choice::Neg,
        },
    }
}

/// A member by weight, of those that are there.
fn member<'a, P>(
    members: &'a [Weighted<Bound<P>>],
    rng: &mut fastrand::Rng,
    is_neg: &impl Fn(&Target<P>) -> bool,
) -> Option<&'a Weighted<Bound<P>>> {
    let there = || members.iter().filter(|member| is_there(&member.tree, is_neg));
    let total: f64 = there().map(|member| member.weight).sum();
    if total <= 0.0 {
        // Only members of weight zero are left: better they than nobody, and none before the other.
        let count = there().count();
        return if count == 0 { None } else { there().nth(rng.usize(..count)) };
    }
    let mut point = rng.f64() * total;
    let mut last = None;
    for member in there().filter(|member| member.weight > 0.0) {
        if point < member.weight {
            return Some(member);
        }
        point -= member.weight;
        last = Some(member);
    }
    // Rounding can leave a hair's breadth beyond the last.
    last
}

/// Whether a member of a union takes part: it neither fails nor is negative.
fn is_there<P>(tree: &NameTree<Bound<P>>, is_neg: &impl Fn(&Target<P>) -> bool) -> bool {
    match tree {
        NameTree::Leaf(bound) => !is_neg(&bound.target),
        NameTree::Empty => true,
        NameTree::Neg | NameTree::Fail => false,
        NameTree::Union(members) => members.iter().any(|member| is_there(&member.tree, is_neg)),
        // The first that is not negative decides, and it may be a fail.
        NameTree::Alt(members) => members
            .iter()
            .find(|member| !is_negative(member, is_neg))
            .is_some_and(|member| is_there(member, is_neg)),
    }
}

fn is_negative<P>(tree: &NameTree<Bound<P>>, is_neg: &impl Fn(&Target<P>) -> bool) -> bool {
    match tree {
        NameTree::Leaf(bound) => is_neg(&bound.target),
        NameTree::Neg => true,
        NameTree::Fail | NameTree::Empty => false,
        NameTree::Union(members) => !members.iter().any(|member| is_there(&member.tree, is_neg)),
        NameTree::Alt(members) => members.iter().all(|member| is_negative(member, is_neg)),
    }
}
