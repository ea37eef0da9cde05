//! Dtabs by themselves, as namerd kept and gave them: a `Dtab` object of Kubernetes (`l5d.io/v1alpha1`), the list of
//! `prefix` and `dst` of its HTTP API, and the text of a dtab, which is what its other stores have.

use super::Imported;
use super::find::BOUNDS;
use super::scalar::block;
use crate::config::tree::{self, Node, Position, Value, read_yaml};
use crate::config::{ConfigError, Mistake, Problem, quoted};
use crate::domain::dtab::{Bounds, Dentry, Dtab, DtabError, Origin};

/// The largest file with an object that has as many entries as a dtab may have: 10,000, each a map of two keys and texts.
const OBJECT: tree::Bounds = tree::Bounds { bytes: 3 << 20, nodes: 80_000 };

/// A dtab by itself, as it was read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenDtab {
    /// The object's name, if it is one.
    pub name: Option<String>,
    /// Its namespace, if it says one.
    pub namespace: Option<String>,
    /// The version of the object that was written down, if any.
    pub version: Option<String>,
    /// The dtab's text: as it is in the file, or one line for each entry of a list.
    pub text: String,
    /// Whether the file has a list of entries; line N of `text` is then entry N - 1 of it.
    pub is_list: bool,
    /// The entries, of [`Origin::Stored`].
    pub dtab: Dtab,
}

/// A dtab, and where it comes from.
struct Found<'a> {
    /// The object's name, if it is one.
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    version: Option<&'a str>,
    entries: &'a [Node],
    at: Position,
}

/// The configuration with the dtab in `text`; `None` if `text` is none.
pub(super) fn import(file: &str, text: &str, name: Option<&str>) -> Option<Result<Imported, ConfigError>> {
    Some(find(file, text, name, BOUNDS)?.map(|written| configuration(file, &written)))
}

/// Reads a dtab by itself: its text, a `Dtab` object, or the list of `prefix` and `dst` of namerd's HTTP API. Of several
/// objects the one that is called `name`.
///
/// # Errors
///
/// It is none of these, there are several of that name, or it has mistakes: each with its position.
pub fn read_dtab(file: &str, text: &str, name: Option<&str>) -> Result<WrittenDtab, ConfigError> {
    if let Some(found) = find(file, text, name, OBJECT) {
        return found;
    }
    let problem = match read_yaml(text, OBJECT) {
        Err(error) => Problem::at(file, error.at, "", Mistake::new(error.what)),
        Ok(_) => Problem {
            hint: Some("lines `prefix => dst ;`, a Dtab object, or a list of `prefix` and `dst`".to_owned()),
            ..Problem::of_file(file, "no dtab here")
        },
    };
    Err(ConfigError { problems: vec![problem] })
}

/// The dtab in `text`; `None` if `text` is none.
fn find(
    file: &str,
    text: &str,
    name: Option<&str>,
    bounds: tree::Bounds,
) -> Option<Result<WrittenDtab, ConfigError>> {
    if is_plain(text) {
        let dtab = match parse(file, text) {
            Ok(dtab) => dtab,
            Err(error) => return Some(Err(error)),
        };
        let text = text.to_owned();
        return Some(Ok(WrittenDtab {
            name: None,
            namespace: None,
            version: None,
            text,
            is_list: false,
            dtab,
        }));
    }
    let documents = read_yaml(text, bounds).ok()?;
    let mut found: Vec<Found<'_>> = documents.iter().flat_map(look).collect();
    let names: Vec<_> = found.iter().filter_map(|it| it.name).map(quoted).collect();
    let names = names.join(", ");
    let start = found.first()?.at;
    if let Some(name) = name {
        // A list by itself has no name.
        found.retain(|it| it.name.is_none_or(|its| its == name));
    }
    let error = |at, what: String| {
        let mistake = Mistake::new(what).hint(format!("choose one by name, of {names}"));
        Err(ConfigError { problems: vec![Problem::at(file, at, "", mistake)] })
    };
    Some(match found.as_slice() {
        [one] => one.read(file),
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
            vec![Found { name: None, namespace: None, version: None, entries, at: document.at }]
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
    Some(Found {
        name: metadata("name"),
        namespace: metadata("namespace"),
        version: metadata("resourceVersion"),
        entries,
        at: node.at,
    })
}

impl Found<'_> {
    fn read(&self, file: &str) -> Result<WrittenDtab, ConfigError> {
        let (mut text, mut dtab, mut problems) = (String::new(), Dtab::default(), Vec::new());
        for (at, entry) in self.entries.iter().enumerate() {
            let part = |key| entry.get(key).and_then(Node::text);
            let Some((prefix, dst)) = part("prefix").zip(part("dst")) else {
                let mistake = Mistake::new("an entry without `prefix` or `dst`");
                problems.push(Problem::at(file, entry.at, format!("dentries[{at}]"), mistake));
                continue;
            };
            let written = format!("{prefix} => {dst}");
            match Dentry::parse(&written, Origin::Stored, &Bounds::CONFIGURATION) {
                Ok(mut read) => {
                    // In one line, without comments.
                    let is_line = !written.contains(['\n', '\r']) && !written.replace("/#", "").contains('#');
                    let line = if is_line { written } else { read.to_string() };
                    text.extend([&line, " ;\n"]);
                    read.at.line = u32::try_from(at).unwrap_or(u32::MAX).saturating_add(1);
                    dtab.entries.push(read);
                }
                Err(error) => problems.extend(mistakes(file, error, |_| entry.at)),
            }
            if problems.len() >= Bounds::CONFIGURATION.problems {
                break;
            }
        }
        let bounds = Bounds::CONFIGURATION;
        for (count, most, what) in
            [(dtab.entries.len(), bounds.entries, "entries"), (text.len(), bounds.bytes, "bytes")]
        {
            if count > most {
                let mistake = Mistake::new(format!("{count} {what}, {most} are the most"));
                problems.push(Problem::at(file, self.at, "dentries", mistake));
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let [name, namespace, version] = [self.name, self.namespace, self.version].map(owned);
        Ok(WrittenDtab { name, namespace, version, text, is_list: true, dtab })
    }
}

/// The dtab in the text `dtab`.
fn parse(file: &str, dtab: &str) -> Result<Dtab, ConfigError> {
    Dtab::parse(dtab, Origin::Stored, &Bounds::CONFIGURATION)
        .map_err(|error| ConfigError { problems: mistakes(file, error, |at| at).collect() })
}

/// The mistakes in a dtab; `place` is where a position in it is in the file.
fn mistakes(
    file: &str,
    error: DtabError,
    place: impl Fn(Position) -> Position,
) -> impl Iterator<Item = Problem> {
    error.problems.into_iter().map(move |problem| {
        let mistake = Mistake::new(format!("{}\n{}", problem.what, problem.caret));
        let mistake = problem.hint.into_iter().fold(mistake, Mistake::hint);
        let at = Position { line: problem.at.line, column: problem.at.column };
        Problem::at(file, place(at), "", mistake)
    })
}

fn configuration(file: &str, written: &WrittenDtab) -> Imported {
    let mut yaml = format!("# weir's configuration, with the dtab in {}.\n", quoted(file));
    if let Some(name) = &written.name {
        let namespace = written.namespace.as_deref().unwrap_or("default");
        yaml.push_str(&format!(
            "# To follow the object itself, instead of this copy, leave `baseDtab` out and write\n\
             # outgoing: {{ interpreter: {{ kind: io.l5d.k8s.dtabs, namespace: {}, name: {} }} }}\n\
             # discovery: {{ kubernetes: {{}} }}\n",
            namespace.escape_debug(),
            name.escape_debug()
        ));
    }
    let lines = block(&written.text);
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
