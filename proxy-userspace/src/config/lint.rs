//! Warnings for a valid configuration that cannot work: names that nothing binds.
//!
//! These are dead ends of a dtab: names that no entry and no namer matches, and circles. They are warnings, not errors, since a
//! request may bring the missing entry (`l5d-dtab`). Unreachable entries are not reported: they do no harm.

use std::fmt;

use super::circles::circles;
use super::prefixes::Prefixes;
use super::problem::quoted;
use super::{Outgoing, Settings};
use crate::domain::dtab::{Dentry, Dtab, Element, Origin};
use crate::domain::name::{Labels, Path};
use crate::domain::route::{Configured, is_builtin};

/// The most warnings; after that many, the rest is of the same kind.
pub(super) const MOST: usize = 50;

/// A part of the configuration that cannot work. Displays as `baseDtab, line 3: what is wrong (what to do)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The key, and the line of its text.
    pub place: String,
    /// What cannot work.
    pub what: String,
    /// How to correct it.
    pub cure: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.place, self.what, self.cure)
    }
}

/// The warnings for `settings`, in the order of the file's keys.
pub fn lint(settings: &Settings) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = Vec::new();
    for (number, router) in settings.all_routers().enumerate() {
        if router.interpreter.is_some() {
            // The entries in the cluster are not known here.
            continue;
        }
        let of_router = Routing::new(settings.dtab_of(router), &settings.namers).all(
            router,
            if settings.routers.is_empty() { "outgoing".to_owned() } else { format!("outgoing[{number}]") },
        );
        // Routers may have the same dtab.
        warnings.extend(of_router.into_iter().filter(|it| !warnings.contains(it)).collect::<Vec<_>>());
    }
    let policies = &settings.policies;
    let prefixes = || settings.all_routers().filter(|it| it.services.is_none()).map(|it| &it.prefix);
    for (at, rule) in policies.services.iter().enumerate() {
        let text = rule.prefix.to_string();
        if !prefixes().any(|prefix| may_begin(&text, prefix.labels())) {
            let begin = prefixes().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            warnings.push(Warning {
                place: format!("policies.services[{at}]"),
                what: format!("no request asks for a name below {text}"),
                cure: format!("names begin with {begin}, as `outgoing.dstPrefix` says"),
            });
        }
    }
    for (at, rule) in policies.clients.iter().enumerate() {
        let text = rule.prefix.to_string();
        if text.starts_with("/%/") && settings.namers.iter().all(|namer| namer.transform.is_empty()) {
            warnings.push(Warning {
                place: format!("policies.clients[{at}]"),
                what: format!("no namer has transformers, which alone make names as {text}"),
                cure: "write the name behind the transformers', which begins with /# or /$".to_owned(),
            });
        }
    }
    warnings.truncate(MOST);
    warnings
}

pub(super) fn circle(place: String, what: String) -> Warning {
    Warning { place, what, cure: "let one of them lead to a name that begins with /# or /$".to_owned() }
}

/// How names are bound.
pub(super) struct Routing<'a> {
    dtab: &'a Dtab,
    namers: &'a [Configured],
    prefixes: Prefixes<'a>,
}

impl<'a> Routing<'a> {
    pub(super) fn new(dtab: &'a Dtab, namers: &'a [Configured]) -> Self {
        Self { dtab, namers, prefixes: Prefixes::new(dtab.entries.iter().map(|entry| &entry.prefix)) }
    }

    /// The warnings for one router, whose section is `key`.
    fn all(&self, router: &Outgoing, key: String) -> Vec<Warning> {
        let mut warnings: Vec<_> = self.names_without_an_entry(&router.prefix, &key).into_iter().collect();
        let place = |entry: &Dentry| match router.dtab.is_some() {
            true => format!("{key}.{}", place(entry)),
            false => place(entry),
        };
        for entry in &self.dtab.entries {
            if warnings.len() >= MOST {
                break;
            }
            warnings.extend(self.entry(entry, &place(entry)));
        }
        warnings.extend(self.circles().map(|(entry, what)| circle(place(entry), what)));
        warnings
    }

    /// What goes in a circle, with the first entry that leads there.
    pub(super) fn circles(&self) -> impl Iterator<Item = (&Dentry, String)> {
        circles(self.dtab, self.namers).into_iter().map(|(entry, failure)| (entry, failure.to_string()))
    }

    /// Names of requests start with `prefix`, so an entry or a namer must match it.
    pub(super) fn names_without_an_entry(&self, prefix: &Path, key: &str) -> Option<Warning> {
        let name = prefix.labels();
        if is_system(name) || self.is_rewritten(name) {
            return None;
        }
        let prefixes: Vec<_> =
            self.dtab.entries.iter().map(|entry| entry.prefix.to_string()).take(5).collect();
        let what = match prefixes.is_empty() {
            true => "the dtab has no entry: no request can be bound".to_owned(),
            false => format!(
                "requests' names begin with {prefix}, and no entry of the dtab does ({}): none can be bound",
                prefixes.join(", ")
            ),
        };
        let cure = format!("write an entry for {prefix}, or another `{key}.dstPrefix`");
        Some(Warning { place: format!("{key}.dstPrefix"), what, cure })
    }

    /// The warnings for one entry, at most [`MOST`]: its tree may have hundreds of thousands of leaves.
    pub(super) fn entry(&self, entry: &Dentry, place: &str) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if is_label(entry.prefix.elements.first(), b"%") {
            warnings.push(Warning {
                place: place.to_owned(),
                what: format!("no name that is looked up begins with {}", entry.prefix),
                cure: "names below /% are what transformers call what they found".to_owned(),
            });
        }
        entry.tree.for_each(&mut |leaf: &Path| {
            if warnings.len() < MOST
                && let Some((what, cure)) = self.dead_end(leaf.labels())
            {
                warnings.push(Warning { place: place.to_owned(), what, cure });
            }
        });
        warnings
    }

    /// Why no name below `leaf` can exist, and what to do.
    fn dead_end(&self, leaf: Labels<'_>) -> Option<(String, String)> {
        if self.is_rewritten(leaf) {
            return None;
        }
        let shown = || leaf.to_path();
        match leaf.text(0) {
            Some("#") => {
                if self.namers.iter().any(|it| overlap(leaf.skip(1), it.prefix.labels())) {
                    return None;
                }
                let names: Vec<_> = self.namers.iter().map(|namer| format!("/#{}", namer.prefix)).collect();
                let cure = format!("there is {}", names.join(", "));
                Some((format!("no namer has the prefix of {}", shown()), cure))
            }
            Some("$") => match leaf.text(1) {
                Some(name) if !is_builtin(name) => {
                    let cure = "docs/configuration.md lists the built-in namers".to_owned();
                    Some((format!("there is no built-in namer {}", quoted(name)), cure))
                }
                _ => self.dead_end(prefix_made(leaf)?.labels()),
            },
            Some("%") => {
                let cure = "write the name behind the transformers', which begins with /# or /$".to_owned();
                Some((format!("nothing is looked up below /%: {}", shown()), cure))
            }
            Some(_) => {
                let meant = Path::from_labels(["#"]).join(leaf);
                let is_namer = self.namers.iter().any(|it| overlap(leaf, it.prefix.labels()));
                let cure = match is_namer {
                    true => format!("did you mean {meant}?"),
                    false => "write an entry for it, or a name that begins with /# or /$".to_owned(),
                };
                Some((format!("no entry is for {}, and no namer", shown()), cure))
            }
            None => None,
        }
    }

    /// Whether an entry may match `name`, or a name below it.
    fn is_rewritten(&self, name: Labels<'_>) -> bool {
        self.prefixes.may_match(name)
    }
}

/// The prefix that linkerd's `…Pfx` namers add: something must match it, too.
fn prefix_made(leaf: Labels<'_>) -> Option<Path> {
    let at = match leaf.text(1)?.strip_prefix("io.buoyant.")? {
        "hostportPfx" | "porthostPfx" | "http.domainToPathPfx" | "http.anyMethodPfx" | "http.anyHostPfx" => 2,
        "http.subdomainOfPfx" => 3,
        _ => return None,
    };
    leaf.get(at).map(|label| Path::from_labels([label]))
}

/// Whether the name needs no entry because namers match it.
fn is_system(name: Labels<'_>) -> bool {
    name.is_empty() || [Some("#"), Some("$")].contains(&name.text(0))
}

fn is_label(element: Option<&Element>, label: &[u8]) -> bool {
    matches!(element, Some(Element::Label(it)) if **it == *label)
}

/// Whether one is a prefix of the other.
fn overlap(one: Labels<'_>, other: Labels<'_>) -> bool {
    one.iter().zip(other.iter()).all(|(one, other)| one == other)
}

/// Whether a pattern may match names that start with `prefix`.
fn may_begin(pattern: &str, prefix: Labels<'_>) -> bool {
    let labels = pattern.split('/').filter(|label| !label.is_empty());
    labels.zip(prefix.iter()).all(|(label, own)| label.contains(['*', '{', '\\']) || label.as_bytes() == own)
}

fn place(entry: &Dentry) -> String {
    let key = if entry.origin == Origin::Base { "baseDtab" } else { "dtab" };
    format!("{key}, line {}", entry.at.line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn warnings(yaml: &str) -> Vec<String> {
        let settings = parse("weir.yaml", yaml, std::path::Path::new("/etc")).unwrap();
        lint(&settings).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_cannot_be_bound_has_its_place_and_cure() {
        for (yaml, expected) in [
            (
                "outgoing: { dstPrefix: /http }\nbaseDtab: /svc => /#/io.l5d.fs\n",
                "outgoing.dstPrefix: requests' names begin with /http, and no entry of the dtab does (/svc): none can be \
                 bound (write an entry for /http, or another `outgoing.dstPrefix`)",
            ),
            (
                "baseDtab: ''\n",
                "outgoing.dstPrefix: the dtab has no entry: no request can be bound (write an entry for /svc, or another \
                 `outgoing.dstPrefix`)",
            ),
            (
                "baseDtab: |\n  /svc => /io.l5d.fs ;\n",
                "baseDtab, line 1: no entry is for /io.l5d.fs, and no namer (did you mean /#/io.l5d.fs?)",
            ),
            (
                "dtab: |\n  /svc/a => /#/io.l5d.fs/a ;\n  /svc/b => /#/io.l5d.consul/dc1/b ;\n",
                "dtab, line 2: no namer has the prefix of /#/io.l5d.consul/dc1/b (there is /#/io.l5d.fs, /#/io.l5d.k8s)",
            ),
            (
                "dtab: /svc/a => /host/a\n",
                "dtab, line 1: no entry is for /host/a, and no namer (write an entry for it, or a name that begins with /# or \
                 /$)",
            ),
            (
                "dtab: /svc/a => /$/io.buoyant.http.domainToPathPfx/host\n",
                "dtab, line 1: no entry is for /host, and no namer (write an entry for it, or a name that begins with /# or /$)",
            ),
            (
                "dtab: /svc/a => /$/io.buoyant.nothing/x\n",
                "dtab, line 1: there is no built-in namer `io.buoyant.nothing` (docs/configuration.md lists the built-in namers)",
            ),
            (
                "dtab: /%/io.l5d.k8s.daemonset/a/b/c => ~\n",
                "dtab, line 1: no name that is looked up begins with /%/io.l5d.k8s.daemonset/a/b/c (names below /% are what \
                 transformers call what they found)",
            ),
            (
                "policies: { clients: [{ prefix: '/%/io.l5d.k8s.daemonset/a/b/c/#/io.l5d.k8s', attempts: 1 }] }\n",
                "policies.clients[0]: no namer has transformers, which alone make names as \
                 /%/io.l5d.k8s.daemonset/a/b/c/#/io.l5d.k8s (write the name behind the transformers', which begins with /# or /$)",
            ),
            (
                "dtab: |\n  /svc/a => /svc/b ;\n  /svc/b => /svc/a ;\n",
                "dtab, line 1: the dtab goes in a circle: /svc/a -> /svc/b -> /svc/a (given up after 101 names) (let one of them \
                 lead to a name that begins with /# or /$)",
            ),
            (
                "policies: { services: [{ prefix: /http/x, attempts: 1 }] }\n",
                "policies.services[0]: no request asks for a name below /http/x (names begin with /svc, as \
                 `outgoing.dstPrefix` says)",
            ),
        ] {
            assert_eq!(warnings(yaml), [expected], "{yaml}");
        }
    }

    #[test]
    fn what_may_be_bound_has_no_warning() {
        for yaml in [
            "",
            "dtab: /svc/a => /svc/b | /svc/c & 0.1 * /$/inet/127.1/80\n",
            "outgoing: { dstPrefix: /http }\nbaseDtab: /http/*/* => /host ; /host => /#/io.l5d.k8s/default/http\n",
            "outgoing: { dstPrefix: / }\nbaseDtab: /hello => /#/io.l5d.fs/hello\n",
            "outgoing: { dstPrefix: '/#/io.l5d.fs' }\nbaseDtab: ''\n",
            "dtab: /svc/x => ! ; /svc/y => $ ; /svc/z => ~\n",
            "dtab: /ph => /$/io.buoyant.rinet ; /svc => /$/io.buoyant.porthostPfx/ph\n",
            "policies: { services: [{ prefix: '/*/x', attempts: 1 }, { prefix: /, attempts: 2 }] }\n",
        ] {
            assert_eq!(warnings(yaml), [""; 0], "{yaml}");
        }
    }
}
