//! Dtabs by themselves, as namerd kept and gave them: a `Dtab` object of Kubernetes (`l5d.io/v1alpha1`), the list of
//! `prefix` and `dst` of its HTTP API, and the text of a dtab, which is what its other stores have.

use super::Imported;
use super::find::BOUNDS;
use super::scalar::block;
use crate::config::tree::{Node, Position, Value, read_yaml};
use crate::config::{ConfigError, Mistake, Problem, quoted};
use crate::domain::dtab::{Bounds, Dtab, DtabError, Origin};

/// A dtab, and where it comes from.
struct Found<'a> {
    /// The object's name, if it is one.
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    entries: &'a [Node],
    at: Position,
}

/// The configuration with the dtab in `text`; `None` if `text` is none.
pub(super) fn import(file: &str, text: &str, name: Option<&str>) -> Option<Result<Imported, ConfigError>> {
    if is_plain(text) {
        let place = |at: Position| at;
        return Some(parse(file, text, place).map(|()| configuration(file, text, "")));
    }
    let documents = read_yaml(text, BOUNDS).ok()?;
    let mut found: Vec<Found<'_>> = documents.iter().flat_map(look).collect();
    let names: Vec<_> = found.iter().filter_map(|it| it.name).map(quoted).collect();
    let names = names.join(", ");
    let start = found.first()?.at;
    if let Some(name) = name {
        found.retain(|it| it.name == Some(name));
    }
    let error = |at, what: String| {
        let mistake = Mistake::new(what).hint(format!("choose one with --name, of {names}"));
        Err(ConfigError { problems: vec![Problem::at(file, at, "", mistake)] })
    };
    Some(match found.as_slice() {
        [one] => one.configuration(file),
        [] => error(start, format!("no Dtab is called {} here", quoted(name.unwrap_or_default()))),
        [_, second, ..] => error(second.at, "a second Dtab".to_owned()),
    })
}

/// Whether the first character that is not of a comment begins a path. No YAML or JSON of linkerd's does so.
fn is_plain(text: &str) -> bool {
    let code = text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with('#'));
    code.is_some_and(|line| line.starts_with('/'))
}

/// The dtabs in a document.
fn look(document: &Node) -> Vec<Found<'_>> {
    let text = |node: &'_ Node, key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    match (&document.value, text(document, "kind").as_deref()) {
        (Value::List(entries), _) if entries.iter().any(|entry| entry.get("dst").is_some()) => {
            vec![Found { name: None, namespace: None, entries, at: document.at }]
        }
        (_, Some("Dtab")) => object(document).into_iter().collect(),
        (_, Some("List" | "DtabList")) => {
            let Some(Value::List(items)) = document.get("items").map(|items| &items.value) else {
                return Vec::new();
            };
            let is_dtab = |it: &&Node| text(it, "kind").is_none_or(|kind| kind == "Dtab");
            items.iter().filter(is_dtab).filter_map(object).collect()
        }
        _ => Vec::new(),
    }
}

fn object(node: &Node) -> Option<Found<'_>> {
    let metadata = |key| node.get("metadata").and_then(|metadata| metadata.get(key)?.text());
    let entries = match &node.get("dentries")?.value {
        Value::List(entries) => entries.as_slice(),
        _ => &[],
    };
    Some(Found { name: metadata("name"), namespace: metadata("namespace"), entries, at: node.at })
}

impl Found<'_> {
    fn configuration(&self, file: &str) -> Result<Imported, ConfigError> {
        let (mut dtab, mut problems) = (String::new(), Vec::new());
        for (at, entry) in self.entries.iter().enumerate() {
            let part = |key| entry.get(key).and_then(Node::text).map(|text| text.replace(['\n', '\r'], " "));
            match part("prefix").zip(part("dst")) {
                Some((prefix, dst)) => dtab.extend([&prefix, " => ", &dst, " ;\n"]),
                None => {
                    let mistake = Mistake::new("an entry without `prefix` or `dst`");
                    problems.push(Problem::at(file, entry.at, format!("dentries[{at}]"), mistake));
                }
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        // Each entry is a line.
        let place = |at: Position| {
            let entry = self.entries.get((at.line as usize).saturating_sub(1));
            entry.map_or(self.at, |entry| entry.at)
        };
        parse(file, &dtab, place)?;
        let namespace = self.namespace.unwrap_or("default");
        let more = self.name.map(|name| {
            format!(
                "# To follow the object itself, instead of this copy, leave `baseDtab` out and write\n\
                 # outgoing: {{ interpreter: {{ kind: io.l5d.k8s.dtabs, namespace: {}, name: {} }} }}\n\
                 # discovery: {{ kubernetes: {{}} }}\n",
                namespace.escape_debug(),
                name.escape_debug()
            )
        });
        Ok(configuration(file, &dtab, &more.unwrap_or_default()))
    }
}

/// Whether weir reads the dtab; `place` is where a position in it is in the file.
fn parse(file: &str, dtab: &str, place: impl Fn(Position) -> Position) -> Result<(), ConfigError> {
    let Err(DtabError { problems, .. }) = Dtab::parse(dtab, Origin::Base, &Bounds::CONFIGURATION) else {
        return Ok(());
    };
    let problem = |problem: crate::domain::dtab::Problem| {
        let mistake = Mistake::new(format!("{}\n{}", problem.what, problem.caret));
        let mistake = problem.hint.into_iter().fold(mistake, Mistake::hint);
        Problem::at(file, place(Position { line: problem.at.line, column: problem.at.column }), "", mistake)
    };
    Err(ConfigError { problems: problems.into_iter().map(problem).collect() })
}

fn configuration(file: &str, dtab: &str, more: &str) -> Imported {
    let mut yaml = format!("# weir's configuration, with the dtab in {}.\n{more}", quoted(file));
    let lines = block(dtab);
    if lines.is_empty() {
        yaml.push_str("baseDtab: \"\"\n");
    } else {
        yaml.push_str("baseDtab: |\n");
        for line in lines {
            yaml.extend([if line.is_empty() { "" } else { "  " }, line, "\n"]);
        }
    }
    Imported { yaml, notes: Vec::new() }
}
