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

impl DtabStore {
    /// The API group and the plural name of the objects; the core group is empty.
    pub fn resource(&self) -> (&'static str, &'static str) {
        match self {
            Self::Dtab => ("l5d.io", "dtabs"),
            Self::ConfigMap(_) => ("", "configmaps"),
        }
    }

    /// The `apiVersion` and `kind` of the objects.
    pub fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::Dtab => ("l5d.io/v1alpha1", "Dtab"),
            Self::ConfigMap(_) => ("v1", "ConfigMap"),
        }
    }
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
    Interpreter { store, namespace, name }.checked().map(Some)
}

const HINT: &str = "write `{ kind: io.l5d.k8s.dtabs, namespace: default, name: web }`";

impl Interpreter {
    /// The object `[NAMESPACE/]NAME`, without the first in `namespace`: a ConfigMap with the dtab under `key`, or else a
    /// `Dtab`.
    ///
    /// # Errors
    ///
    /// It is no name of an object, or `key` no key of a ConfigMap.
    pub fn named(text: &str, namespace: &str, key: Option<&str>) -> Result<Self, Mistake> {
        let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
        let store = match key {
            None => DtabStore::Dtab,
            Some(key) if is_key(key) => DtabStore::ConfigMap(key.to_owned()),
            Some(key) => {
                return Err(Mistake::new(format!("{} is no key of a ConfigMap", quoted(key)))
                    .hint("letters, digits, `-`, `_` and `.`"));
            }
        };
        Self { store, namespace: namespace.to_owned(), name: name.to_owned() }.checked()
    }

    /// Where in the object the entry is that stands in this line of its text.
    pub fn place(&self, line: u32) -> String {
        match &self.store {
            DtabStore::Dtab => format!("dentries[{}]", line.saturating_sub(1)),
            DtabStore::ConfigMap(key) => format!("data.{key}, line {line}"),
        }
    }

    fn checked(self) -> Result<Self, Mistake> {
        for text in [&self.namespace, &self.name] {
            if !values::is_domain(text) {
                return Err(Mistake::new(format!("{} is no name of an object", quoted(text)))
                    .hint("lower-case letters, digits, `-` and `.`"));
            }
        }
        Ok(self)
    }
}

/// Whether this may be a key of a ConfigMap (its `data` is validated so by the API server).
fn is_key(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=253).contains(&text.len()) && text.bytes().all(is_plain)
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, namespace, name } = self;
        match store {
            DtabStore::Dtab => write!(f, "Dtab {namespace}/{name}"),
            DtabStore::ConfigMap(key) => write!(f, "ConfigMap {namespace}/{name} ({key})"),
        }
    }
}
