//! `outgoing.interpreter`: a dtab that is kept in the cluster.

use std::fmt;

use serde::Deserialize;

use super::tree::{Node, Value};
use super::{Mistake, quoted, values};

/// An object of the cluster that has a router's dtab. Its entries follow those of `baseDtab` and precede those of
/// `dtab`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interpreter {
    /// The kind of object.
    pub store: DtabStore,
    /// Its namespace. Default `default`.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What kind of object has the dtab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DtabStore {
    /// `io.l5d.k8s.dtabs`: a `Dtab` (`l5d.io/v1alpha1`), as namerd kept them.
    Dtab,
    /// `io.l5d.k8s.configMap`: the text under this key of a ConfigMap (`filename`).
    ConfigMap(String),
}

#[derive(Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
enum Written {
    #[serde(rename = "io.l5d.k8s.dtabs")]
    Dtab { namespace: Option<String>, name: String },
    #[serde(rename = "io.l5d.k8s.configMap")]
    ConfigMap { namespace: Option<String>, name: String, filename: String },
}

pub(super) fn read(node: &Node) -> Result<Option<Interpreter>, Mistake> {
    if !matches!(node.value, Value::Map(_)) {
        return Err(Mistake::new(format!("expected keys with values, not {}", node.kind())).hint(HINT));
    }
    let written = Written::deserialize(node)
        .map_err(|error| Mistake::new(format!("no interpreter: {error}")).hint(HINT))?;
    let (store, namespace, name) = match written {
        Written::Dtab { namespace, name } => (DtabStore::Dtab, namespace, name),
        Written::ConfigMap { namespace, name, filename } => (DtabStore::ConfigMap(filename), namespace, name),
    };
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    for text in [&namespace, &name] {
        if !values::is_domain(text) {
            return Err(Mistake::new(format!("{} is no name of an object", quoted(text)))
                .hint("lower-case letters, digits, `-` and `.`"));
        }
    }
    Ok(Some(Interpreter { store, namespace, name }))
}

const HINT: &str = "write `{ kind: io.l5d.k8s.dtabs, namespace: default, name: web }`";

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, namespace, name } = self;
        match store {
            DtabStore::Dtab => write!(f, "Dtab {namespace}/{name}"),
            DtabStore::ConfigMap(key) => write!(f, "ConfigMap {namespace}/{name} ({key})"),
        }
    }
}
