//! The left side of an entry: the names it applies to.

use crate::domain::name::Labels;

/// The left side of an entry: the first labels of a name, where `*` matches any one label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The elements; an empty list (`/`) is a prefix of every name.
    pub elements: Vec<Element>,
}

/// One element of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// `*`: any label.
    Any,
    /// Exactly this label.
    Label(Box<[u8]>),
}

impl Prefix {
    /// Whether `name` starts with this prefix.
    pub fn matches(&self, name: Labels<'_>) -> bool {
        self.elements.len() <= name.len()
            && self.elements.iter().zip(name.iter()).all(|(element, label)| match element {
                Element::Any => true,
                Element::Label(own) => **own == *label,
            })
    }

    /// The number of labels it matches.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether it is `/`, the prefix of every name.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }
}
