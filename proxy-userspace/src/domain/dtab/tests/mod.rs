//! The language: valid texts, invalid texts and their messages, and the round trip of printing and parsing.

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
