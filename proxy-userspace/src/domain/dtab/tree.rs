//! Name trees: several names combined.

/// A name or a combination of names (finagle's `NameTree`).
#[derive(Clone, Debug, PartialEq)]
pub enum NameTree<T> {
    /// `a | b`: the first that is not [`Neg`](Self::Neg).
    Alt(Vec<Self>),
    /// `w * a & v * b`: each gets its share of the requests.
    Union(Vec<Weighted<T>>),
    /// One name.
    Leaf(T),
    /// `~`: no such name; an alternative continues with its next member.
    Neg,
    /// `!`: fail; no further alternative is tried.
    Fail,
    /// `$`: the name exists, but has no endpoints.
    Empty,
}

/// A member of a union.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted<T> {
    /// Its share relative to the others: finite and not negative. A member of weight 0 gets no requests while another
    /// has more; it is used when it is the only one left, as in linkerd, where a single member has no weight.
    pub weight: f64,
    /// What gets that share.
    pub tree: NameTree<T>,
}

impl<T> NameTree<T> {
    /// The same tree with each leaf replaced.
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

    /// Calls `each` with every leaf, in source order.
    pub fn for_each<'a>(&'a self, each: &mut impl FnMut(&'a T)) {
        match self {
            Self::Alt(members) => members.iter().for_each(|member| member.for_each(each)),
            Self::Union(members) => members.iter().for_each(|member| member.tree.for_each(each)),
            Self::Leaf(value) => each(value),
            Self::Neg | Self::Fail | Self::Empty => {}
        }
    }
}
