//! Routing: from a name to the places its requests may go to.
//!
//! [`Delegation`] rewrites a name by dtabs, asks namers about what no entry rewrites, and looks the result up again,
//! until only places are left: a closed [`NameTree`](super::dtab::NameTree) of [`Bound`] leaves. That happens once
//! per name and is worth keeping; [`choose`] then picks one place for each request, by weight and by fallback.
//!
//! The rules are finagle's and linkerd's. Where they differ between versions, these are 1.7's. Two are worth knowing:
//! an entry that matches hides namers even when its tree is `~`, and an alternative that only DNS can deny
//! (`/$/inet/example.com/80`) is kept together with those after it, since the answer comes later.
//!
//! Deliberately absent: endpoints and waiting. A name is bound when it *exists*; who serves it is not a question of
//! names, so that endpoints come and go without a new delegation.

mod bound;
mod choose;
mod engine;
mod explain;
mod failure;
mod namers;
mod pattern;
mod rewrite;
mod transform;
mod utility;

#[cfg(test)]
mod tests;

pub use bound::{Bound, Outside, Target};
pub use choose::{Choice, choose};
pub use engine::{Delegation, Limits};
pub use explain::{Explanation, Role, Step, Verdict, What};
pub use failure::Failure;
pub use namers::{Answer, Configured, Kind, Names, Resolver};
pub use pattern::Pattern;
pub use rewrite::{BadRewrite, Rewrite};
pub use transform::{Step as Transformer, Transform, When, apply as transform};
pub use utility::is_builtin;
