//! Finds the linkerd configuration in a file: a document of its own, or a text in a ConfigMap.
//!
//! Several in one file are distinguished by the ConfigMap's name and the key in it.

use super::place::Place;
use crate::config::tree::{Bounds, Node, Position, SyntaxError, Value, read_yaml};
use crate::config::{ConfigError, Mistake, Problem, quoted};

/// Limits that keep the output within weir's own limits, after a dtab was indented or escaped and short mappings
/// expanded.
pub(super) const BOUNDS: Bounds = Bounds { bytes: 256 << 10, nodes: 5_000 };

/// A linkerd configuration.
pub(super) struct Found {
    /// The document, with positions in the file.
    pub(super) root: Node,
    /// The namespace of the ConfigMap, which is also that of the pods that read it.
    pub(super) namespace: Option<String>,
    /// `CONFIGMAP/KEY`, or empty for a document of its own.
    name: String,
}

#[derive(Default)]
struct Search {
    found: Vec<Found>,
    /// Texts in ConfigMaps that are not valid YAML: the configuration may be among them.
    unreadable: Vec<SyntaxError>,
}

/// The only linkerd configuration in `text`, or the one named `name` (`CONFIGMAP` or `CONFIGMAP/KEY`).
pub(super) fn configuration(file: &str, text: &str, name: Option<&str>) -> Result<Found, ConfigError> {
    let error = |at, what: String, hint: Option<String>| ConfigError {
        problems: vec![Problem::at(file, at, "", Mistake { what, hint })],
    };
    if let Some(at) = template(text) {
        let what = "a template, not a configuration: `{{`, `{%` or `<%` has to be filled in".to_owned();
        let hint = "render it first, as in `helm template . | weir import -`";
        return Err(error(at, what, Some(hint.to_owned())));
    }
    let documents = read_yaml(text, BOUNDS).map_err(|problem| error(problem.at, problem.what, None))?;
    let start = documents.first().map_or(Position { line: 1, column: 1 }, |document| document.at);
    let mut search = Search::default();
    documents.into_iter().for_each(|document| search.look(document, text));
    let names = search.names();
    if let Some(name) = name {
        search.found.retain(|found| found.is_called(name));
        if search.found.is_empty() && !names.is_empty() {
            let what = format!("no linkerd configuration is called {} here", quoted(name));
            return Err(error(start, what, Some(format!("there is {names}"))));
        }
    }
    let mut found = search.found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(second)) => {
            let what = "a second linkerd configuration".to_owned();
            let hint = format!("each linkerd becomes a weir: choose one with --name, of {names}");
            Err(error(second.root.at, what, Some(hint)))
        }
        (None, _) => Err(match search.unreadable.into_iter().next() {
            Some(problem) => error(problem.at, problem.what, Some("in the data of a ConfigMap".to_owned())),
            None => {
                let hint = "it has a list `routers`, by itself or in the data of a ConfigMap".to_owned();
                error(start, "no linkerd configuration here".to_owned(), Some(hint))
            }
        }),
    }
}

/// The position of a template's mark, outside comments. linkerd's YAML never begins a mapping with two braces.
fn template(text: &str) -> Option<Position> {
    let mark = |line: &str| {
        let code = if line.trim_start().starts_with('#') { "" } else { line };
        ["{{", "{%", "<%"].iter().filter_map(|mark| code.find(mark)).min()
    };
    text.lines().enumerate().find_map(|(index, line)| {
        let column = line[..mark(line)?].chars().count();
        let number = |it: usize| u32::try_from(it + 1).unwrap_or(u32::MAX);
        Some(Position { line: number(index), column: number(column) })
    })
}

impl Found {
    fn shown(&self) -> String {
        if self.name.is_empty() { "one without a name".to_owned() } else { quoted(&self.name) }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.split('/').next() == Some(name)
    }
}

impl Search {
    /// The names of those found, for a message.
    fn names(&self) -> String {
        const SHOWN: usize = 8;
        let mut names: Vec<_> = self.found.iter().map(|found| found.shown()).collect();
        if names.len() > SHOWN {
            let more = names.len() - SHOWN;
            names.truncate(SHOWN);
            names.push(format!("{more} more"));
        }
        names.join(", ")
    }

    fn look(&mut self, document: Node, source: &str) {
        if document.get("routers").is_some_and(is_list) {
            return self.found.push(Found { root: document, namespace: None, name: String::new() });
        }
        match document.get("kind").and_then(Node::text) {
            Some("ConfigMap") => self.look_in_data(&document, source),
            Some("List") => {
                let Value::Map(entries) = document.value else { return };
                let items = entries.into_iter().find(|entry| entry.key == "items");
                let Some(Value::List(items)) = items.map(|entry| entry.value.value) else { return };
                // Kubernetes never nests lists, so their items are only checked one level deep.
                items
                    .iter()
                    .filter(|item| is_config_map(item))
                    .for_each(|map| self.look_in_data(map, source));
            }
            _ => {}
        }
    }

    fn look_in_data(&mut self, map: &Node, source: &str) {
        let namespace = map.get("metadata").and_then(|metadata| metadata.get("namespace")?.text());
        let name = map.get("metadata").and_then(|metadata| metadata.get("name")?.text()).unwrap_or("?");
        let Some(Value::Map(data)) = map.get("data").map(|data| &data.value) else { return };
        for entry in data {
            let Some(text) = entry.value.text() else { continue };
            let place = Place::find(source, entry.at, text);
            match read_yaml(text, BOUNDS) {
                Ok(documents) => {
                    for mut root in documents.into_iter().filter(|it| it.get("routers").is_some_and(is_list))
                    {
                        place.relocate(&mut root);
                        let name = format!("{name}/{}", entry.key);
                        self.found.push(Found { root, namespace: namespace.map(str::to_owned), name });
                    }
                }
                Err(error) => self.unreadable.push(SyntaxError { at: place.of(error.at), ..error }),
            }
        }
    }
}

fn is_config_map(node: &Node) -> bool {
    node.get("kind").and_then(Node::text) == Some("ConfigMap")
}

fn is_list(node: &Node) -> bool {
    matches!(node.value, Value::List(_))
}
