//! Routing: from a name to its destinations.
//!
//! [`Delegation`] rewrites a name by dtabs, asks namers about names that no entry matches, and looks the result up
//! again, until only destinations are left: a [`NameTree`](super::dtab::NameTree) of [`Bound`] leaves. That happens
//! once per name, and the result is cached; [`choose`] then picks one destination for each request, by weight and
//! fallback.
//!
//! The rules are finagle's and linkerd's; where versions differ, those of linkerd 1.7. Two important ones: an entry
//! that matches hides namers even if its tree is `~`, and an alternative that only DNS can deny
//! (`/$/inet/example.com/80`) is kept together with those after it, since the DNS answer comes later.
//!
//! Not here: endpoints and waiting. A name is bound if it *exists*; endpoints come and go without a new delegation.

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
