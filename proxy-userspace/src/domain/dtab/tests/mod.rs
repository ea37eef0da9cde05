//! The language: what reads, what does not and how it is said, and that printing and reading are each other's inverse.

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
