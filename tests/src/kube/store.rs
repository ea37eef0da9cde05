//! The objects, and the log of their changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::resource::Resource;

/// Where an object is: its resource's plural, its namespace (empty without one), its name.
pub(super) type Key = (&'static str, String, String);

/// An object at one version.
#[derive(Debug)]
pub(super) struct Stored {
    /// Without `kind` and `apiVersion`, as lists have it.
    pub(super) value: Value,
    /// The same as text, made once.
    pub(super) text: String,
}

/// What happened to an object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) key: Key,
    pub(super) before: Option<Arc<Stored>>,
    /// Absent when it was deleted.
    pub(super) after: Option<Arc<Stored>>,
    /// The object as a watch tells of it: after the change, or its last state.
    pub(super) told: Arc<Stored>,
}

/// Everything the server knows.
#[derive(Debug)]
pub(super) struct Store {
    version: u64,
    objects: BTreeMap<Key, Arc<Stored>>,
    log: VecDeque<Change>,
    /// The version before the oldest change in the log.
    floor: u64,
    uids: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { version: 100, objects: BTreeMap::new(), log: VecDeque::new(), floor: 100, uids: 0 }
    }
}

impl Store {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The oldest version one can go on from.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn compact(&mut self) {
        self.log.clear();
        // Whoever has the newest version is not too old.
        self.floor = self.version;
    }

    /// Takes back all that is in the log, as a backup of the time before does.
    pub(super) fn restore(&mut self) {
        for Change { key, before, .. } in std::mem::take(&mut self.log).into_iter().rev() {
            match before {
                Some(before) => self.objects.insert(key, before),
                None => self.objects.remove(&key),
            };
        }
        self.version = self.floor;
    }

    /// What changed after `version`, oldest first.
    pub(super) fn since(&self, version: u64) -> impl Iterator<Item = &Change> {
        let start = self.log.partition_point(|change| change.version <= version);
        self.log.range(start..)
    }

    pub(super) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<&Arc<Stored>> {
        let plural = Resource::of_plural(plural)?.plural;
        self.objects.get(&(plural, namespace.to_owned(), name.to_owned()))
    }

    pub(super) fn all(&self, plural: &str) -> Vec<Arc<Stored>> {
        self.objects.iter().filter(|(key, _)| key.0 == plural).map(|(_, it)| it.clone()).collect()
    }

    /// The objects of a resource as they were at `version`, in order.
    pub(super) fn at(&self, resource: &Resource, version: u64) -> BTreeMap<Key, Arc<Stored>> {
        let from = (resource.plural, String::new(), String::new());
        let mut objects: BTreeMap<_, _> = self
            .objects
            .range(from..)
            .take_while(|(key, _)| key.0 == resource.plural)
            .map(|(key, it)| (key.clone(), it.clone()))
            .collect();
        for change in self.log.iter().rev().take_while(|change| change.version > version) {
            if change.key.0 != resource.plural {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), before.clone()),
                None => objects.remove(&change.key),
            };
        }
        objects
    }

    /// Creates or replaces an object. `None` for a kind this server does not have, and for one without a name.
    pub(super) fn put(&mut self, mut object: Value) -> Option<u64> {
        let resource = Resource::of_kind(object.get("kind")?.as_str()?)?;
        let fields = object.as_object_mut()?;
        fields.remove("kind");
        fields.remove("apiVersion");
        let metadata = fields.get_mut("metadata")?.as_object_mut()?;
        let name = metadata.get("name")?.as_str()?.to_owned();
        let namespace = match (resource.namespaced, metadata.get("namespace").and_then(Value::as_str)) {
            (false, _) => String::new(),
            (true, namespace) => namespace.unwrap_or("default").to_owned(),
        };
        if resource.namespaced {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        let key = (resource.plural, namespace, name);
        let before = self.objects.get(&key).cloned();
        self.version += 1;
        self.uids += 1;
        let old = before.as_ref().map(|it| &it.value["metadata"]);
        let uid = match old {
            Some(old) => old["uid"].clone(),
            None => metadata.get("uid").cloned().unwrap_or_else(|| json!(uid(self.uids))),
        };
        let generation = old.and_then(|old| old["generation"].as_u64()).unwrap_or(0) + 1;
        metadata.insert("uid".to_owned(), uid);
        metadata.insert("generation".to_owned(), json!(generation));
        let created = old.map(|old| old["creationTimestamp"].clone());
        let created = created.or_else(|| metadata.get("creationTimestamp").cloned());
        let created = created.unwrap_or_else(|| json!("2026-01-01T00:00:00Z"));
        metadata.insert("creationTimestamp".to_owned(), created);
        metadata.insert("resourceVersion".to_owned(), json!(self.version.to_string()));
        metadata.insert("managedFields".to_owned(), managed_fields(resource));
        let stored = stored(object);
        self.objects.insert(key.clone(), stored.clone());
        let told = stored.clone();
        self.log.push_back(Change { version: self.version, key, before, after: Some(stored), told });
        Some(self.version)
    }

    /// Deletes an object; what it was, at the version of its deletion.
    pub(super) fn delete(&mut self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        let key = (Resource::of_plural(plural)?.plural, namespace.to_owned(), name.to_owned());
        let before = self.objects.remove(&key)?;
        self.version += 1;
        let mut last = before.value.clone();
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let told = stored(last);
        let gone = told.clone();
        self.log.push_back(Change { version: self.version, key, before: Some(before), after: None, told });
        Some(gone)
    }
}

fn stored(value: Value) -> Arc<Stored> {
    let text = value.to_string();
    Arc::new(Stored { value, text })
}

/// What a client has no use for, and every object carries.
fn managed_fields(resource: &Resource) -> Value {
    json!([{
        "manager": "double", "operation": "Update", "apiVersion": resource.api_version(),
        "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
        "fieldsV1": { "f:metadata": { "f:labels": { ".": {}, "f:app": {} } }, "f:spec": { "f:ports": {} } },
    }])
}

fn uid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}
