//! Delegation over a table of names, rule by rule.

mod choices;
mod explained;
mod limits;
mod namers;
mod properties;
mod rewriting;
mod rules;
mod scopes;
mod speed;
mod transformers;
mod unknown;
mod utilities;
mod written;

use std::collections::HashSet;

use super::*;
use crate::domain::dtab::{Bounds, Dtab, NameTree, Origin};
use crate::domain::name::{Labels, Path, Scope};

/// A few known names. A port is its name.
#[derive(Default)]
struct Table {
    fs: HashSet<String>,
    k8s: HashSet<String>,
    /// Whether `k8s` may have more names than are known.
    awaits_k8s: bool,
}

impl Table {
    /// Services in linkerd's files: `hello`, and so on.
    fn of_fs(names: &[&str]) -> Self {
        Self { fs: names.iter().map(|&name| name.to_owned()).collect(), ..Self::default() }
    }

    /// Services of a cluster as `namespace/port/service`.
    fn with_k8s(mut self, names: &[&str]) -> Self {
        self.k8s.extend(names.iter().map(|&name| name.to_owned()));
        self
    }
}

impl Names for Table {
    type Port = String;

    fn find(&self, kind: &Kind, rest: Labels<'_>) -> Answer<String> {
        let known = |table: &HashSet<String>, name: String, taken| match table.get(&name) {
            Some(port) => Answer::Port { port: port.clone(), taken },
            None if self.awaits_k8s && *kind != Kind::Fs => Answer::Unknown,
            None => Answer::Neg,
        };
        let Some(first) = rest.text(0) else { return Answer::Neg };
        match kind {
            Kind::Fs => known(&self.fs, first.to_owned(), 1),
            Kind::Host => known(&self.k8s, format!("default/http/{first}"), 1),
            Kind::K8s => known(&self.k8s, rest.take(3).to_string()[1..].to_owned(), 3),
            Kind::K8sNamespace(namespace) => known(&self.k8s, format!("{namespace}{}", rest.take(2)), 2),
            Kind::Dns if first.contains('.') => {
                let outside = Outside { host: first.into(), port: 80, scope: rest.scope(0), written: false };
                Answer::Outside { outside, taken: 1 }
            }
            Kind::Dns => Answer::Neg,
        }
    }

    fn scope_of(&self, label: &[u8]) -> Scope {
        if label.ends_with(b".svc") { Scope::Cluster } else { Scope::Anywhere }
    }

    fn transformed(&self, port: String, steps: &[Transformer], _: &Path) -> String {
        format!("{port} {steps:?}")
    }

    fn why_not(&self, kind: &Kind, rest: Labels<'_>) -> String {
        format!("{kind:?} has no {rest}")
    }
}

fn path(text: &str) -> Path {
    text.parse().expect(text)
}

fn dtab(text: &str, origin: Origin) -> Dtab {
    Dtab::parse(text, origin, &Bounds::CONFIGURATION).unwrap_or_else(|error| panic!("{error}"))
}

/// The result for `name` with the dtab `base`, printed: the ids of its destinations, each with its residual in
/// brackets.
fn bind_in(table: &Table, base: &str, name: &str) -> String {
    bind_over(table, base, "", name)
}

fn bind_over(table: &Table, base: &str, local: &str, name: &str) -> String {
    let (base, local) = (dtab(base, Origin::Base), dtab(local, Origin::Request));
    let dtabs = [&base, &local];
    let namers = Configured::defaults();
    let delegation =
        Delegation { dtabs: &dtabs, namers: &namers, names: table, limits: Limits::CONFIGURATION };
    let result = delegation.bind(&path(name));
    let explanation = delegation.explain(&path(name));
    assert_eq!(explanation.result, result, "an explanation is of what happens");
    shown(result)
}

fn shown(result: Result<NameTree<Bound<String>>, Failure>) -> String {
    match result {
        Err(failure) => format!("error: {failure}"),
        Ok(tree) => tree
            .map(&mut |bound| match bound.residual.is_empty() {
                true => bound.id.to_string(),
                false => format!("{}[{}]", bound.id, bound.residual),
            })
            .to_string(),
    }
}
