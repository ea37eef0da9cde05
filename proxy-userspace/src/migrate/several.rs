//! Several routers: their labels, and what weir's routers share although linkerd's did not.
//!
//! weir's routers have the same endpoints, so what is known of an endpoint, and when it is ejected, cannot differ by
//! router.

use super::carried::Router;
use super::notes::Notes;
use super::part::Field;
use crate::config::tree::Node;
use crate::config::{Mistake, quoted};

/// The longest label.
const LONGEST: usize = 60;

/// The router's label, in weir's letters; linkerd's default is its protocol.
pub(super) fn label(router: &Field<'_>) -> String {
    let text = |key| router.node.get(key).and_then(Node::text).filter(|text| !text.is_empty());
    let written = text("label").or_else(|| text("protocol")).unwrap_or("http");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    written.chars().take(LONGEST).map(|c| if is_plain(c) { c } else { '-' }).collect()
}

/// All routers, of which the first has what all share.
pub(super) fn share(read: Vec<(&Field<'_>, Vec<Router>)>, notes: &mut Notes<'_>) -> Vec<Router> {
    let mut all: Vec<Router> = Vec::new();
    let several = read.len() > 1;
    for (field, routers) in read {
        if let Some(next) = routers.first() {
            routers.iter().for_each(|router| check_label(field, router, &all, notes));
            match all.first_mut() {
                Some(first) => join(field, first, next, notes),
                None => note_shared(field, next, several, notes),
            }
        }
        all.extend(routers);
    }
    all
}

fn check_label(field: &Field<'_>, router: &Router, earlier: &[Router], notes: &mut Notes<'_>) {
    if earlier.iter().any(|it| it.label == router.label) {
        let what = format!("a second router is called {}", quoted(&router.label));
        let hint = "give each a `label` of its own; without one it is the protocol";
        notes.problem(field.at, &field.path, Mistake::new(what).hint(hint));
    }
}

/// Gives `first` what `next` has and it lacks; notes what the two cannot both have.
fn join(field: &Field<'_>, first: &mut Router, next: &Router, notes: &mut Notes<'_>) {
    note_shared(field, next, true, notes);
    let mut lost = Vec::new();
    let (had, has) = (&mut first.global, &next.global);
    if let Some(failures) = has.failures
        && *had.failures.get_or_insert(failures) != failures
    {
        lost.push("the failures of its `failureAccrual`");
    }
    if let Some(backoff) = has.backoff
        && *had.backoff.get_or_insert(backoff) != backoff
    {
        lost.push("the backoff of its `failureAccrual`");
    }
    if let Some(idle) = next.binding_idle
        && *first.binding_idle.get_or_insert(idle) != idle
    {
        lost.push("its `bindingCache`");
    }
    for (prefix, behaviour) in &next.clients {
        match first.clients.iter().find(|(known, _)| known == prefix) {
            Some((_, known)) if known == behaviour => {}
            Some(_) => lost.push("one of its `client.configs`"),
            None => first.clients.push((prefix.clone(), behaviour.clone())),
        }
    }
    if !lost.is_empty() {
        let lost = lost.join(", ");
        let what =
            format!("all routers share the endpoints: {lost} differs from an earlier router's, which counts");
        notes.changed(field, what);
    }
}

/// Notes that settings for endpoints are for all routers.
fn note_shared(field: &Field<'_>, router: &Router, several: bool, notes: &mut Notes<'_>) {
    let has_own = !router.clients.is_empty()
        || router.global.failures.is_some()
        || router.global.backoff.is_some()
        || router.binding_idle.is_some();
    if several && has_own {
        let why = "all routers share the endpoints: what is said of clients here (`breaker`, `policies.clients`) is for the \
                   calls of every router";
        notes.changed(field, why);
    }
}
