//! Choosing a destination in a bound tree for one request.

use super::{Bound, Target};
use crate::domain::dtab::{NameTree, Weighted};

/// The destination of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice<'a, P> {
    /// This destination.
    Bound(&'a Bound<P>),
    /// None: no alternative exists.
    Neg,
    /// None: an entry says fail (`!`).
    Fail,
    /// None: the name exists, but has no endpoints (`$`).
    Empty,
}

/// Chooses the destination for one request: the first alternative that exists, and one member of a union by weight. The
/// shares of union members that do not exist or fail go to the others.
///
/// `is_neg` says which targets are known not to exist; delegation cannot know this for DNS names. A caller that must
/// try a name first treats unknown ones as existing, and chooses again if one does not. Does not allocate.
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

/// A member chosen by weight, among those available.
fn member<'a, P>(
    members: &'a [Weighted<Bound<P>>],
    rng: &mut fastrand::Rng,
    is_neg: &impl Fn(&Target<P>) -> bool,
) -> Option<&'a Weighted<Bound<P>>> {
    let there = || members.iter().filter(|member| is_there(&member.tree, is_neg));
    let total: f64 = there().map(|member| member.weight).sum();
    if total <= 0.0 {
        // Only members of weight zero are left: choose among them with equal probability.
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
    // Rounding can leave a small remainder after the last one.
    last
}

/// Whether a member of a union is available: neither fail nor negative.
fn is_there<P>(tree: &NameTree<Bound<P>>, is_neg: &impl Fn(&Target<P>) -> bool) -> bool {
    match tree {
        NameTree::Leaf(bound) => !is_neg(&bound.target),
        NameTree::Empty => true,
        NameTree::Neg | NameTree::Fail => false,
        NameTree::Union(members) => members.iter().any(|member| is_there(&member.tree, is_neg)),
        // The first member that is not negative decides, even if it is a fail.
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
