//! Parses Kubernetes objects in YAML or JSON.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::FileProblem;
use super::build::PROBLEMS;
use super::fs::LineMistake;
use crate::config::tree::{Bounds, Node, Position, SyntaxError, Value, read_json, read_yaml};
use crate::config::{Mistake, Problem, quoted};
use crate::discovery::objects::{
    EndpointsObject, NamespaceObject, NodeObject, PodObject, ServiceObject, SliceObject,
};

/// An object's identity across all files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// What it is.
    pub kind: Kind,
    /// Its namespace; empty for a Namespace and a Node.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// The kinds that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1`, `Service`.
    Service,
    /// `discovery.k8s.io/v1`, `EndpointSlice`.
    EndpointSlice,
    /// `v1`, `Endpoints`.
    Endpoints,
    /// `v1`, `Pod`.
    Pod,
    /// `v1`, `Namespace`.
    Namespace,
    /// `v1`, `Node`.
    Node,
}

/// An object of one of those kinds.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A Service.
    Service(ServiceObject),
    /// An EndpointSlice.
    Slice(SliceObject),
    /// Endpoints.
    Endpoints(EndpointsObject),
    /// A Pod.
    Pod(PodObject),
    /// A Namespace.
    Namespace(NamespaceObject),
    /// A Node.
    Node(NodeObject),
}

/// An object and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The place.
    pub at: Position,
    /// The object.
    pub object: Object,
}

/// The file's syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `*.yaml`, `*.yml`.
    Yaml,
    /// `*.json`.
    Json,
}

/// The parsed contents of a file.
#[derive(Debug, Default)]
pub struct Documents {
    /// The valid objects.
    pub objects: BTreeMap<ObjectId, Placed>,
    /// Invalid objects whose identity is known.
    pub wrong: Vec<ObjectId>,
    /// Whether there are invalid objects without identity: any object of the file may be meant.
    pub nameless: bool,
    /// Problems, and content that weir ignores.
    pub problems: Vec<FileProblem>,
}

/// Parses the objects in `text`; `file` is its name in problems.
///
/// # Errors
/// The text is not YAML or JSON at all, or exceeds `bounds`. Smaller mistakes are in [`Documents::problems`].
pub fn parse_documents(
    file: &str,
    text: &str,
    syntax: Syntax,
    bounds: Bounds,
) -> Result<Documents, FileProblem> {
    let nodes = read(text, syntax, bounds)
        .map_err(|error| Problem::at(file, error.at, "", Mistake::new(error.what)))?;
    let mut reader = Reader { file, documents: Documents::default() };
    for node in &nodes {
        reader.object(node, None);
    }
    Ok(reader.documents)
}

/// JSON is parsed as YAML, of which it is almost a subset, because that parser reports positions. If YAML rejects it
/// (several documents in a row, surrogate pairs in strings), a JSON parser decides.
fn read(text: &str, syntax: Syntax, bounds: Bounds) -> Result<Vec<Node>, SyntaxError> {
    let read = read_yaml(text, bounds);
    match (&read, syntax) {
        (Err(_), Syntax::Json) if text.len() <= bounds.bytes => read_json(text),
        _ => read,
    }
}

struct Reader<'a> {
    file: &'a str,
    documents: Documents,
}

impl Reader<'_> {
    /// Adds one object. `implied` is the kind of the items of its list, if known.
    fn object(&mut self, node: &Node, implied: Option<&str>) {
        let Some(kind) = node.get("kind").and_then(Node::text).or(implied) else {
            let mistake =
                Mistake::new(format!("expected a Kubernetes object, not {} without a kind", node.kind()));
            self.documents.nameless = true;
            return self.problem(
                node.at,
                "",
                mistake.hint("Service, EndpointSlice, Endpoints, Pod, Namespace or Node"),
            );
        };
        let known = match kind {
            "Service" => Kind::Service,
            "EndpointSlice" => Kind::EndpointSlice,
            "Endpoints" => Kind::Endpoints,
            "Pod" => Kind::Pod,
            "Namespace" => Kind::Namespace,
            "Node" => Kind::Node,
            _ => return self.list_or_stranger(node, kind),
        };
        let version = node.get("apiVersion").and_then(Node::text);
        if version != Some(known.api_version()) && (version.is_some() || implied.is_none()) {
            let at = node.get("apiVersion").map_or(node.at, |version| version.at);
            let found = version
                .map_or("no apiVersion".to_owned(), |version| format!("apiVersion {}", quoted(version)));
            let mistake = Mistake::new(format!("{found} is not one of {kind} that weir reads"));
            self.wrong(identify(node, known));
            let mistake = mistake.hint(format!("write `apiVersion: {}`", known.api_version()));
            return self.problem(at, kind, mistake);
        }
        self.known(node, known);
    }

    fn list_or_stranger(&mut self, node: &Node, kind: &str) {
        let Some(element) = kind.strip_suffix("List") else {
            let mistake = Mistake::new(format!("kind {} is ignored", quoted(kind)));
            let mistake =
                mistake.hint("weir reads Service, EndpointSlice, Endpoints, Pod, Namespace and Node");
            return self.problem(node.at, "", mistake);
        };
        let Some(Node { value: Value::List(items), .. }) = node.get("items") else {
            return self.problem(node.at, kind, Mistake::new("a list without items"));
        };
        for item in items {
            self.object(item, Some(element).filter(|element| !element.is_empty()));
        }
    }

    fn known(&mut self, node: &Node, kind: Kind) {
        let object = match kind {
            Kind::Service => ServiceObject::deserialize(node).map(Object::Service),
            Kind::EndpointSlice => SliceObject::deserialize(node).map(Object::Slice),
            Kind::Endpoints => EndpointsObject::deserialize(node).map(Object::Endpoints),
            Kind::Pod => PodObject::deserialize(node).map(Object::Pod),
            Kind::Namespace => NamespaceObject::deserialize(node).map(Object::Namespace),
            Kind::Node => NodeObject::deserialize(node).map(Object::Node),
        };
        let id = identify(node, kind);
        let label = id.as_ref().map_or_else(|| kind.to_string(), ObjectId::to_string);
        match (object, id) {
            (Ok(object), Some(id)) => self.sound(node.at, id, object),
            (Ok(_), None) => {
                self.documents.nameless = true;
                self.problem(node.at, &label, Mistake::new("an empty name"));
            }
            (Err(error), id) => {
                let mistake = Mistake::new(error.what).hint("this object is left as it last was");
                self.problem(error.at, &label, mistake);
                self.wrong(id);
            }
        }
    }

    fn sound(&mut self, at: Position, id: ObjectId, object: Object) {
        if let Object::Slice(slice) = &object
            && slice.service_name().is_none()
        {
            let mistake = Mistake::new("no label says which service this slice is of");
            self.problem(at, &id.to_string(), mistake.hint("add the label `kubernetes.io/service-name`"));
            return self.wrong(Some(id));
        }
        let label = id.to_string();
        match self.documents.objects.entry(id) {
            Entry::Vacant(vacant) => {
                vacant.insert(Placed { at, object });
            }
            Entry::Occupied(first) => {
                let hint = format!("the one at line {} counts", first.get().at.line);
                self.problem(at, &label, Mistake::new("here a second time").hint(hint));
            }
        }
    }

    /// Records an object that cannot be read, with its identity if known.
    fn wrong(&mut self, id: Option<ObjectId>) {
        self.documents.nameless |= id.is_none();
        self.documents.wrong.extend(id);
    }

    fn problem(&mut self, at: Position, path: &str, mistake: Mistake) {
        if self.documents.problems.len() < PROBLEMS {
            self.documents.problems.push(Problem::at(self.file, at, path, mistake));
        }
    }
}

fn identify(node: &Node, kind: Kind) -> Option<ObjectId> {
    let metadata = node.get("metadata")?;
    let name = metadata.get("name")?.text().filter(|name| !name.is_empty())?;
    let namespace = metadata.get("namespace").and_then(Node::text).filter(|namespace| !namespace.is_empty());
    let namespace = if kind.is_namespaced() { namespace.unwrap_or("default") } else { "" };
    Some(ObjectId { kind, namespace: namespace.into(), name: name.into() })
}

impl Kind {
    fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::Service | Self::Endpoints | Self::Pod | Self::Namespace | Self::Node => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::Pod => "Pod",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
        })
    }
}

/// `Service default/hello`, `Namespace default`.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.kind.is_namespaced() {
            return write!(f, "{} {}", self.kind, self.name.escape_debug());
        }
        write!(f, "{} {}/{}", self.kind, self.namespace.escape_debug(), self.name.escape_debug())
    }
}

/// The problems of a file in linkerd's format.
pub(super) fn of_lines(file: &str, mistakes: Vec<LineMistake>) -> Vec<FileProblem> {
    mistakes.into_iter().map(|(at, mistake)| Problem::at(file, at, "", mistake)).collect()
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
