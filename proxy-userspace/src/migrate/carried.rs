//! The settings that are carried over, and their output as YAML.

use std::fmt::Write;
use std::net::SocketAddr;

use super::identifier;
use super::notes::{Fate, Note};
use super::scalar::{block, map, scalar};
use crate::config::quoted;

/// weir's configuration under construction. Absent settings keep weir's default.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// The routers; weir's own default without one.
    pub(super) routers: Vec<Router>,
    /// `namers`: mappings on one line each.
    pub(super) namers: Vec<String>,
    /// `discovery.files.path`.
    pub(super) files: Option<String>,
    /// Whether there is `discovery.kubernetes`.
    pub(super) kubernetes: bool,
    /// `admin.listen`.
    pub(super) admin: Option<SocketAddr>,
}

/// A router: one entry of `outgoing`, or all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Router {
    /// `outgoing.label`, where there are several.
    pub(super) label: String,
    /// `outgoing.listen`.
    pub(super) listen: Listen,
    /// `dtab`: entries that refuse destinations, each with its reason.
    pub(super) refused: Vec<Refused>,
    /// Whether `outgoing.overrides` allows nobody.
    pub(super) clears: bool,
    /// `outgoing.dstPrefix`.
    pub(super) dst_prefix: Option<String>,
    /// `outgoing.identifier`: mappings on one line each.
    pub(super) identifiers: Vec<String>,
    /// `outgoing.interpreter`, a mapping on one line.
    pub(super) interpreter: Option<String>,
    /// `baseDtab`, or `dtab` beside an interpreter, whose entries it follows.
    pub(super) dtab: Option<String>,
    /// `limits.bindingIdle`, in seconds.
    pub(super) binding_idle: Option<i128>,
    /// `breaker` and `limits`, for every name.
    pub(super) global: Behaviour,
    /// `policies.services`, by prefix.
    pub(super) services: Vec<(String, Behaviour)>,
    /// `policies.clients`, by prefix.
    pub(super) clients: Vec<(String, Behaviour)>,
}

/// The addresses of a router's listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Listen {
    /// weir's default address.
    #[default]
    Default,
    /// At these addresses.
    At(Vec<SocketAddr>),
    /// No listener: opening it would admit clients that linkerd kept out.
    Nowhere,
}

/// A destination that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The refused names, as the left side of a dtab entry.
    pub(super) prefix: String,
    /// The key that is the reason, as in `routers[0].client.tls`.
    pub(super) because: String,
}

/// Retry, timeout and breaker settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Behaviour {
    /// `breaker.failures`.
    pub(super) failures: Option<i128>,
    /// `breaker.backoff`, in milliseconds.
    pub(super) backoff: Option<(i128, i128)>,
    /// `limits.response`, in milliseconds.
    pub(super) response: Option<i128>,
    /// `limits.attempts`.
    pub(super) attempts: Option<u32>,
}

const DTAB: &str = "\
# linkerd's dtab, unchanged, in the place of weir's own base dtab. So names outside the cluster are not looked up in DNS
# unless an entry says so: `/svc => /$/weir.dns` (with the prefix of your names), first, looks up what nothing else knows.
";

impl Carried {
    /// The configuration as YAML, after a comment line for each note. What all routers share is the first one's:
    /// `several::share` has put it there.
    pub(super) fn write(&self, file: &str, notes: &[Note]) -> String {
        let mut yaml = format!("# weir's configuration, imported from linkerd's in {}.\n", quoted(file));
        list(&mut yaml, "PROTECTION THAT IS GONE:", notes, Fate::Unprotected);
        list(&mut yaml, "Does not work as it stands:", notes, Fate::Broken);
        list(&mut yaml, "Carried over with another meaning:", notes, Fate::Changed);
        list(&mut yaml, "Not carried over:", notes, Fate::Left);
        let (nothing, several) = (Router::default(), self.routers.len() > 1);
        let first = self.routers.first().unwrap_or(&nothing);
        if several {
            yaml.push_str("\noutgoing:\n");
            self.routers.iter().for_each(|router| router.write_item(&mut yaml));
        } else {
            section(&mut yaml, "outgoing", first.outgoing());
        }
        section(&mut yaml, "admin", [self.admin.map(|listen| line("listen", address(listen)))]);
        if !self.namers.is_empty() {
            yaml.push_str("\nnamers:\n");
            self.namers.iter().for_each(|namer| yaml.extend(["  - ", namer, "\n"]));
        }
        let files = self.files.as_deref().map(|path| line("files", map(&[("path", scalar(path))])));
        let reads_ingresses = |it: &String| it.contains(identifier::INGRESS);
        let reads_objects =
            |router: &Router| router.interpreter.is_some() || router.identifiers.iter().any(reads_ingresses);
        let reads_objects = self.routers.iter().any(reads_objects);
        let kubernetes = (self.kubernetes || reads_objects).then(|| line("kubernetes", "{}".to_owned()));
        section(&mut yaml, "discovery", [files, kubernetes]);
        if !several {
            first.write_dtabs(&mut yaml);
        }
        first.write_behaviour(&mut yaml, several);
        yaml
    }
}

impl Router {
    fn outgoing(&self) -> [Option<String>; 5] {
        [
            self.listen.written().map(|listen| line("listen", listen)),
            self.clears.then(|| line("overrides", "[]".to_owned())),
            self.dst_prefix.as_deref().map(|prefix| line("dstPrefix", scalar(prefix))),
            self.identifier(),
            self.interpreter.clone().map(|interpreter| line("interpreter", interpreter)),
        ]
    }

    fn write_dtabs(&self, yaml: &mut String) {
        match &self.dtab {
            // Its own entries win over those of the object, and what is refused over both.
            Some(own) if self.interpreter.is_some() => return write_own(yaml, own, &self.refused),
            Some(dtab) => write_dtab(yaml, dtab),
            None => {}
        }
        write_refused(yaml, &self.refused);
    }

    /// As an item of the list `outgoing`.
    fn write_item(&self, yaml: &mut String) {
        let mut item = line("label", scalar(&self.label));
        item.extend(self.outgoing().into_iter().flatten());
        item.extend(self.global.calls().into_iter().map(|(key, value)| line(key, value)));
        // These have the indentation of a section; the rest is written as at the top of a file.
        item = item.lines().map(|line| format!("{}\n", line.get(2..).unwrap_or_default())).collect();
        self.write_dtabs(&mut item);
        section(&mut item, "policies", [rules("services", &self.services)]);
        for (at, text) in item.lines().enumerate() {
            let start = if at == 0 { "  - " } else { "    " };
            yaml.extend([if text.is_empty() { "" } else { start }, text, "\n"]);
        }
    }

    fn identifier(&self) -> Option<String> {
        match self.identifiers.as_slice() {
            [] => None,
            [one] => Some(line("identifier", one.clone())),
            many => {
                let items: String = many.iter().map(|item| format!("    - {item}\n")).collect();
                Some(format!("  identifier:\n{items}"))
            }
        }
    }

    /// What is written at the top of the file; of `several` routers, what they share.
    fn write_behaviour(&self, yaml: &mut String, several: bool) {
        let lines =
            |pairs: Vec<(&str, String)>| pairs.into_iter().map(|(key, value)| line(key, value)).collect();
        let breaker: String = lines(self.global.breaker());
        section(yaml, "breaker", [Some(breaker).filter(|lines| !lines.is_empty())]);
        let calls: String = if several { String::new() } else { lines(self.global.calls()) };
        let idle = self.binding_idle.map(|idle| line("bindingIdle", format!("{idle}s")));
        section(yaml, "limits", [Some(calls), idle]);
        let services = if several { None } else { rules("services", &self.services) };
        section(yaml, "policies", [services, rules("clients", &self.clients)]);
    }
}

impl Listen {
    fn written(&self) -> Option<String> {
        match self {
            Self::Default => None,
            Self::At(all) => match all.as_slice() {
                [one] => Some(address(*one)),
                all => {
                    Some(format!("[{}]", all.iter().map(|it| address(*it)).collect::<Vec<_>>().join(", ")))
                }
            },
            Self::Nowhere => Some("none".to_owned()),
        }
    }
}

impl Behaviour {
    fn breaker(&self) -> Vec<(&'static str, String)> {
        let backoff = |(min, max)| map(&[("min", format!("{min}ms")), ("max", format!("{max}ms"))]);
        let failures = self.failures.map(|failures| ("failures", failures.to_string()));
        failures.into_iter().chain(self.backoff.map(|both| ("backoff", backoff(both)))).collect()
    }

    fn calls(&self) -> Vec<(&'static str, String)> {
        let response = self.response.map(|response| ("response", format!("{response}ms")));
        response.into_iter().chain(self.attempts.map(|attempts| ("attempts", attempts.to_string()))).collect()
    }
}

/// A list of rules, one per line.
fn rules(key: &str, rules: &[(String, Behaviour)]) -> Option<String> {
    let rule = |(prefix, behaviour): &(String, Behaviour)| {
        let mut pairs = vec![("prefix", scalar(prefix))];
        pairs.extend(behaviour.calls());
        let breaker = behaviour.breaker();
        if !breaker.is_empty() {
            pairs.push(("breaker", map(&breaker)));
        }
        format!("    - {}\n", map(&pairs))
    };
    (!rules.is_empty()).then(|| format!("  {key}:\n{}", rules.iter().map(rule).collect::<String>()))
}

/// A comment line for each note of this fate.
fn list(yaml: &mut String, title: &str, notes: &[Note], fate: Fate) {
    let mut notes = notes.iter().filter(|note| note.fate == fate).peekable();
    if notes.peek().is_none() {
        return;
    }
    let _ = writeln!(yaml, "#\n# {title}");
    for note in notes {
        let _ = writeln!(yaml, "# - {note}");
    }
}

/// The section with its non-empty lines; `None` if there are none.
fn section<const N: usize>(yaml: &mut String, name: &str, lines: [Option<String>; N]) {
    let lines: String = lines.into_iter().flatten().collect();
    if !lines.is_empty() {
        let _ = write!(yaml, "\n{name}:\n{lines}");
    }
}

fn line(key: &str, value: String) -> String {
    format!("  {key}: {value}\n")
}

fn address(listen: SocketAddr) -> String {
    format!("\"{listen}\"")
}

fn write_dtab(yaml: &mut String, dtab: &str) {
    let _ = write!(yaml, "\n{DTAB}baseDtab: ");
    write_text(yaml, dtab);
}

/// `dtab`, beside an interpreter.
fn write_own(yaml: &mut String, own: &str, refused: &[Refused]) {
    let refused: String =
        refused.iter().map(|it| format!("{} => ! ; # {}\n", it.prefix, it.because)).collect();
    let own = own.trim_end();
    let both = match own.is_empty() || own.ends_with(';') {
        true => format!("{own}\n{refused}"),
        false => format!("{own}\n;\n{refused}"),
    };
    if !both.trim().is_empty() {
        yaml.push_str("\ndtab: ");
        write_text(yaml, &both);
    }
}

fn write_text(yaml: &mut String, dtab: &str) {
    let lines = block(dtab);
    // A literal block accepts only printable characters; a comment in a dtab may contain anything.
    let is_odd = |c: char| c.is_control() && c != '\t' || ['\u{2028}', '\u{2029}', '\u{feff}'].contains(&c);
    if lines.is_empty() || lines.iter().any(|line| line.contains(is_odd)) {
        let _ = writeln!(yaml, "{}", scalar(dtab));
        return;
    }
    yaml.push_str("|\n");
    for line in lines {
        if !line.is_empty() {
            yaml.extend(["  ", line]);
        }
        yaml.push('\n');
    }
}

const REFUSED: &str = "\
# Destinations that linkerd encrypted, and weir would reach in plain text. An entry that is deleted sends it there;
# `weir import --plain-text` writes none of them.
";

fn write_refused(yaml: &mut String, refused: &[Refused]) {
    if refused.is_empty() {
        return;
    }
    let _ = writeln!(yaml, "\n{REFUSED}dtab: |");
    for it in refused {
        let _ = writeln!(yaml, "  {} => ! ; # {}", it.prefix, it.because);
    }
}
