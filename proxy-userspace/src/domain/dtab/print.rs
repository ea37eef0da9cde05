//! Printing dtabs as text that parses to the same dtab.

use std::fmt::{Display, Formatter, Result};

use super::{Dentry, Dtab, Element, NameTree, Prefix};
use crate::domain::name::write_label;

/// What encloses a tree, which decides whether it needs parentheses.
#[derive(Clone, Copy, PartialEq)]
enum Around {
    Nothing,
    Alternative,
    Union,
}

/// One line, as in a header; with `{:#}` one line per entry.
impl Display for Dtab {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (index, entry) in self.entries.iter().enumerate() {
            match (f.alternate(), index) {
                (true, _) => writeln!(f, "{entry} ;")?,
                (false, 0) => write!(f, "{entry}")?,
                (false, _) => write!(f, "; {entry}")?,
            }
        }
        Ok(())
    }
}

impl Display for Dentry {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} => {}", self.prefix, self.tree)
    }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.is_empty() {
            return f.write_str("/");
        }
        self.elements.iter().try_for_each(|element| {
            f.write_str("/")?;
            match element {
                Element::Any => f.write_str("*"),
                Element::Label(label) => write_label(f, label),
            }
        })
    }
}

impl<T: Display> Display for NameTree<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write_tree(f, self, Around::Nothing)
    }
}

fn write_tree<T: Display>(f: &mut Formatter<'_>, tree: &NameTree<T>, around: Around) -> Result {
    match tree {
        NameTree::Leaf(leaf) => write!(f, "{leaf}"),
        NameTree::Neg => f.write_str("~"),
        NameTree::Fail => f.write_str("!"),
        NameTree::Empty => f.write_str("$"),
        // The grammar has no alternative or union with fewer than two members; these are the equivalents.
        NameTree::Alt(members) if members.is_empty() => f.write_str("~"),
        NameTree::Union(members) if members.is_empty() => f.write_str("~"),
        NameTree::Alt(members) if members.len() == 1 => write_tree(f, &members[0], around),
        NameTree::Union(members) if members.len() == 1 => write_tree(f, &members[0].tree, around),
        NameTree::Alt(members) => {
            let (open, close) = if around == Around::Nothing { ("", "") } else { ("(", ")") };
            f.write_str(open)?;
            separated(f, members, " | ", |f, member| write_tree(f, member, Around::Alternative))?;
            f.write_str(close)
        }
        NameTree::Union(members) => {
            let (open, close) = if around == Around::Union { ("(", ")") } else { ("", "") };
            f.write_str(open)?;
            separated(f, members, " & ", |f, member| {
                if member.weight != 1.0 {
                    write!(f, "{} * ", member.weight)?;
                }
                write_tree(f, &member.tree, Around::Union)
            })?;
            f.write_str(close)
        }
    }
}

fn separated<M>(
    f: &mut Formatter<'_>,
    members: &[M],
    separator: &str,
    mut write: impl FnMut(&mut Formatter<'_>, &M) -> Result,
) -> Result {
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        write(f, member)?;
    }
    Ok(())
}
