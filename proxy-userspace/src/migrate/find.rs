//! The linkerd configuration in a file: a document of its own, or a text in a ConfigMap.

use super::place::Place;
use crate::config::tree::{Bounds, Node, Position, SyntaxError, Value, read_yaml};
use crate::config::{ConfigError, Mistake, Problem};

/// So much that what is made of it stays within weir's own bounds, a dtab indented or escaped, short mappings spelled out.
pub(super) const BOUNDS: Bounds = Bounds { bytes: 256 << 10, nodes: 5_000 };

/// A linkerd configuration.
pub(super) struct Found {
    /// The document; its positions are the file's.
    pub(super) root: Node,
    /// The namespace of the ConfigMap it was in, which is that of the pods that read it.
    pub(super) namespace: Option<String>,
}

#[derive(Default)]
struct Search {
    found: Vec<Found>,
    /// Texts in ConfigMaps that are no YAML: the configuration may be among them.
    unreadable: Vec<SyntaxError>,
}

/// The one linkerd configuration in `text`.
pub(super) fn configuration(file: &str, text: &str) -> Result<Found, ConfigError> {
    let error = |at, what: String, hint: Option<&str>| {
        let mistake = Mistake { what, hint: hint.map(str::to_owned) };
        ConfigError { problems: vec![Problem::at(file, at, "", mistake)] }
    };
    let documents = read_yaml(text, BOUNDS).map_err(|problem| error(problem.at, problem.what, None))?;
    let start = documents.first().map_or(Position { line: 1, column: 1 }, |document| document.at);
    let mut search = Search::default();
    documents.into_iter().for_each(|document| search.look(document, text));
    let mut found = search.found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(second)) => {
            let what = "a second linkerd configuration".to_owned();
            Err(error(second.root.at, what, Some("import one at a time: each linkerd becomes a weir")))
        }
        (None, _) => Err(match search.unreadable.into_iter().next() {
            Some(problem) => error(problem.at, problem.what, Some("in the data of a ConfigMap")),
            None => {
                let hint = "it has a list `routers`, by itself or in the data of a ConfigMap";
                error(start, "no linkerd configuration here".to_owned(), Some(hint))
            }
        }),
    }
}

impl Search {
    fn look(&mut self, document: Node, source: &str) {
        if document.get("routers").is_some_and(is_list) {
            return self.found.push(Found { root: document, namespace: None });
        }
        match document.get("kind").and_then(Node::text) {
            Some("ConfigMap") => self.look_in_data(&document, source),
            Some("List") => {
                let Value::Map(entries) = document.value else { return };
                let items = entries.into_iter().find(|entry| entry.key == "items");
                let Some(Value::List(items)) = items.map(|entry| entry.value.value) else { return };
                // A list in a list is none that Kubernetes makes, so what is inside is looked at once.
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
        let Some(Value::Map(data)) = map.get("data").map(|data| &data.value) else { return };
        for entry in data {
            let Some(text) = entry.value.text() else { continue };
            let place = Place::find(source, entry.at, text);
            match read_yaml(text, BOUNDS) {
                Ok(documents) => {
                    for mut root in documents.into_iter().filter(|it| it.get("routers").is_some_and(is_list))
                    {
                        place.relocate(&mut root);
                        self.found.push(Found { root, namespace: namespace.map(str::to_owned) });
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
