//! What a request asks for.

use std::collections::BTreeMap;

use hyper::Uri;
use serde_json::Value;

use super::resource::{self, Resource};
use super::store::Stored;

/// A request the server has seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// The resource, `services`.
    pub plural: &'static str,
    /// Path and query, as they came.
    pub target: String,
}

/// A path to a resource, or to one of its objects.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) resource: &'static Resource,
    /// Empty for all of them, and for resources without.
    pub(super) namespace: String,
    pub(super) name: Option<String>,
}

impl Target {
    /// `/api/v1/namespaces/default/services/hello`, `/apis/discovery.k8s.io/v1/endpointslices`.
    pub(super) fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, version, rest @ ..] if *version == resource::version(group) => (*group, rest),
            _ => return None,
        };
        let (namespace, plural, name) = match rest {
            ["namespaces", namespace, plural] => (*namespace, *plural, None),
            // A status is merged into the object, as the rest of it.
            ["namespaces", namespace, plural, name] | ["namespaces", namespace, plural, name, "status"] => {
                (*namespace, *plural, Some((*name).to_owned()))
            }
            [plural] => ("", *plural, None),
            [plural, name] => ("", *plural, Some((*name).to_owned())),
            _ => return None,
        };
        let resource = Resource::served(group, plural)?;
        Some(Self { resource, namespace: namespace.to_owned(), name })
    }
}

/// The options of a list or watch.
#[derive(Debug, Default)]
pub(super) struct Query {
    fields: BTreeMap<String, String>,
}

impl Query {
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self { fields: pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.fields.get(key).map(String::as_str).filter(|it| !it.is_empty())
    }

    pub(super) fn is(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1"))
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    /// Whether an object in `namespace` is one of those that are asked for.
    pub(super) fn selects(&self, target: &Target, namespace: &str, object: &Stored) -> bool {
        (target.namespace.is_empty() || target.namespace == namespace)
            && target.name.as_ref().is_none_or(|name| object.value["metadata"]["name"] == **name)
            && selected(self.get("labelSelector"), |key| object.value["metadata"]["labels"].get(key))
            && selected(self.get("fieldSelector"), |path| {
                path.split('.').try_fold(&object.value, |value, field| value.get(field))
            })
    }
}

/// Whether `key=value`, `key!=value` and `key`, separated by commas, all hold.
fn selected<'a>(selector: Option<&str>, value_of: impl Fn(&str) -> Option<&'a Value>) -> bool {
    let text = |key: &str| value_of(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    selector.unwrap_or_default().split(',').filter(|it| !it.is_empty()).all(|term| {
        match (term.split_once("!="), term.split_once('=')) {
            (Some((key, value)), _) => text(key) != value,
            (None, Some((key, value))) => text(key) == value.trim_start_matches('='),
            (None, None) => value_of(term).is_some(),
        }
    })
}
