//! Name trees: several names at once, and how they stand to one another.

/// A name that is made of others (finagle's `NameTree`).
#[derive(Clone, Debug, PartialEq)]
pub enum NameTree<T> {
    /// `a | b`: the first that is not [`Neg`](Self::Neg).
    Alt(Vec<Self>),
    /// `w * a & v * b`: each gets its share of the requests.
    Union(Vec<Weighted<T>>),
    /// One name.
    Leaf(T),
    /// `~`: there is no such name; an alternative goes on with its next member.
    Neg,
    /// `!`: there is none and no alternative is wanted.
    Fail,
    /// `$`: the name exists, but nothing is there.
    Empty,
}

/// A member of a union.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted<T> {
    /// Its share relative to the others: finite and not negative. A member of weight 0 gets nothing as long as
    /// another has more; it takes over when it alone is left, as in linkerd, where a single member has no weight.
    pub weight: f64,
    /// What gets that share.
    pub tree: NameTree<T>,
}

impl<T> NameTree<T> {
    /// The same tree with other leaves.
    pub fn map<U>(&self, leaf: &mut impl FnMut(&T) -> U) -> NameTree<U> {
        match self {
            Self::Alt(members) => NameTree::Alt(members.iter().map(|member| member.map(leaf)).collect()),
            Self::Union(members) => {
                let each = |it: &Weighted<T>| Weighted { weight: it.weight, tree: it.tree.map(leaf) };
                NameTree::Union(members.iter().map(each).collect())
            }
            Self::Leaf(value) => NameTree::Leaf(leaf(value)),
            Self::Neg => NameTree::Neg,
            Self::Fail => NameTree::Fail,
            Self::Empty => NameTree::Empty,
        }
    }

    /// Calls `each` with every leaf, in the order they are written.
    pub fn for_each<'a>(&'a self, each: &mut impl FnMut(&'a T)) {
        match self {
            Self::Alt(members) => members.iter().for_each(|member| member.for_each(each)),
            Self::Union(members) => members.iter().for_each(|member| member.tree.for_each(each)),
            Self::Leaf(value) => each(value),
            Self::Neg | Self::Fail | Self::Empty => {}
        }
    }
}
