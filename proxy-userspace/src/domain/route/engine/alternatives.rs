//! Collecting bound alternatives in order.

use super::Closed;
use crate::domain::dtab::NameTree;
use crate::domain::route::{Bound, Failure, Target};

/// The alternatives found so far, without those known to be negative.
pub(super) struct Alternatives<P> {
    members: Vec<NameTree<Bound<P>>>,
    settled: bool,
}

impl<P> Alternatives<P> {
    pub(super) fn new() -> Self {
        Self { members: Vec::new(), settled: false }
    }

    /// Whether later alternatives cannot matter: one certainly exists, or fails.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Adds the next one, if its delegation succeeded. A [local](Failure::is_local) failure after one was found only
    /// ends the alternatives, since linkerd would have stopped at that one too; any other failure is an error.
    pub(super) fn add(&mut self, next: Closed<P>) -> Result<(), Failure> {
        match next {
            Ok(tree) => self.push(tree),
            Err(failure) if failure.is_local() && !self.members.is_empty() => self.settled = true,
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn push(&mut self, tree: NameTree<Bound<P>>) {
        self.settled |= !can_be_neg(&tree);
        match tree {
            NameTree::Neg => {}
            NameTree::Alt(members) => members.into_iter().for_each(|member| self.push_one(member)),
            tree => self.push_one(tree),
        }
    }

    /// Adds a tree that is neither `Neg` nor `Alt`, unless the same destination is already there.
    fn push_one(&mut self, tree: NameTree<Bound<P>>) {
        let is_same = |known: &NameTree<Bound<P>>| match (known, &tree) {
            (NameTree::Leaf(known), NameTree::Leaf(next)) => {
                known.id == next.id
                    && known.residual == next.residual
                    && is_written(known) == is_written(next)
            }
            _ => false,
        };
        if !self.members.iter().any(is_same) {
            self.members.push(tree);
        }
    }

    pub(super) fn into_tree(mut self) -> NameTree<Bound<P>> {
        match self.members.len() {
            0 => NameTree::Neg,
            1 => self.members.remove(0),
            _ => NameTree::Alt(self.members),
        }
    }
}

fn is_written<P>(bound: &Bound<P>) -> bool {
    matches!(&bound.target, Target::Outside(outside) if outside.written)
}

/// Whether the tree may become negative, depending on DNS.
pub(super) fn can_be_neg<P>(tree: &NameTree<Bound<P>>) -> bool {
    match tree {
        NameTree::Leaf(bound) => bound.target.is_uncertain(),
        NameTree::Neg => true,
        NameTree::Fail | NameTree::Empty => false,
        NameTree::Union(members) => !members.iter().any(|member| is_certain(&member.tree)),
        NameTree::Alt(members) => members.iter().all(can_be_neg),
    }
}

/// Whether the tree exists whatever DNS answers: neither negative nor a fail.
fn is_certain<P>(tree: &NameTree<Bound<P>>) -> bool {
    match tree {
        NameTree::Leaf(bound) => !bound.target.is_uncertain(),
        NameTree::Empty => true,
        NameTree::Neg | NameTree::Fail => false,
        NameTree::Union(members) => members.iter().any(|member| is_certain(&member.tree)),
        NameTree::Alt(members) => {
            members.iter().take_while(|member| !can_fail(member)).any(|member| is_certain(member))
        }
    }
}

/// Whether the tree may evaluate to a fail. A union never does.
fn can_fail<P>(tree: &NameTree<Bound<P>>) -> bool {
    match tree {
        NameTree::Fail => true,
        NameTree::Leaf(_) | NameTree::Empty | NameTree::Neg | NameTree::Union(_) => false,
        NameTree::Alt(members) => members.iter().any(can_fail),
    }
}
