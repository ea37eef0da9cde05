//! Reading and writing: get, list with pages and versions, create, update, patch, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::{Method, Response};
use serde_json::{Value, json};

use super::form::Form;
use super::query::{Query, Target};
use super::serve::Shared;
use super::status::{self, Body};
use super::store::{Key, Store, Stored};

/// An object, or a list.
pub(super) fn read(shared: &Shared, target: &Target, query: &Query, accept: &str) -> Response<Body> {
    let form = Form::of(accept);
    let store = shared.store.lock().unwrap();
    let Some(name) = &target.name else {
        return match form {
            Form::Metadata => Form::not_acceptable("PartialObjectMetadata", "a list"),
            Form::Whole | Form::MetadataList => list(&store, target, query, form == Form::MetadataList),
        };
    };
    match store.get(target.resource.plural, &target.namespace, name) {
        Some(_) if form == Form::MetadataList => {
            Form::not_acceptable("PartialObjectMetadataList", "not a list")
        }
        Some(stored) => status::text(200, "application/json", whole(target, stored, form == Form::Metadata)),
        None => status::not_found(target.resource, name),
    }
}

/// The text of an object by itself.
pub(super) fn whole(target: &Target, stored: &Stored, partial: bool) -> String {
    if partial {
        return partial_of(stored).to_string();
    }
    let resource = target.resource;
    let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\"", resource.kind, resource.api_version());
    format!("{head},{}", &stored.text[1..])
}

pub(super) fn partial_of(stored: &Stored) -> Value {
    let metadata = &stored.value["metadata"];
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
}

fn list(store: &Store, target: &Target, query: &Query, partial: bool) -> Response<Body> {
    let (version, after) = match start(store, query) {
        Ok(start) => start,
        Err(refusal) => return *refusal,
    };
    let objects = store.at(target.resource, version);
    let mut selected = objects
        .iter()
        .filter(|(key, it)| query.selects(target, &key.1, it))
        .filter(|(key, _)| after.as_ref().is_none_or(|after| (&key.1, &key.2) > (&after.0, &after.1)));
    let limit = query.number("limit").filter(|it| *it > 0).map_or(usize::MAX, |it| it as usize);
    let page: Vec<(&Key, &Arc<Stored>)> = selected.by_ref().take(limit).collect();
    let left = selected.count();
    let mut metadata = BTreeMap::from([("resourceVersion", json!(version.to_string()))]);
    if let Some(((_, namespace, name), _)) = page.last().filter(|_| left > 0) {
        metadata.insert("continue", json!(token(version, namespace, name)));
        // With a selector the server does not know how many are left.
        if query.get("labelSelector").is_none() && query.get("fieldSelector").is_none() {
            metadata.insert("remainingItemCount", json!(left));
        }
    }
    let resource = target.resource;
    let (kind, group, items): (_, _, Vec<String>) = if partial {
        let items = page.iter().map(|(_, it)| partial_of(it).to_string()).collect();
        ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned(), items)
    } else {
        let items = page.iter().map(|(_, it)| it.text.clone()).collect();
        (format!("{}List", resource.kind), resource.api_version(), items)
    };
    let metadata = json!(metadata);
    let body = format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{group}\",\"metadata\":{metadata},\"items\":[{}]}}",
        items.join(",")
    );
    status::text(200, "application/json", body)
}

/// The last object of the page before: its namespace and name.
type After = Option<(String, String)>;

/// The version a list shows, and what it goes on after.
fn start(store: &Store, query: &Query) -> Result<(u64, After), Box<Response<Body>>> {
    let current = store.version();
    if let Some(token) = query.get("continue") {
        let (version, namespace, name) = untoken(token)
            .ok_or_else(|| Box::new(status::failure(400, "BadRequest", "continue key is not valid", None)))?;
        if version < store.floor() {
            return Err(Box::new(expired(&namespace, &name)));
        }
        // -1 of an expired token's remainder: the newest.
        return Ok((version.min(current), Some((namespace, name))));
    }
    let matching = query.get("resourceVersionMatch");
    let Some(asked) = query.get("resourceVersion") else {
        return if matching.is_some() { Err(Box::new(no_version_to_match())) } else { Ok((current, None)) };
    };
    let Ok(asked) = asked.parse::<u64>() else {
        let message = format!("resourceVersion: Invalid value: {asked:?}");
        return Err(Box::new(status::failure(400, "BadRequest", &message, None)));
    };
    match matching {
        _ if asked > current => Err(Box::new(status::too_new(asked, current))),
        Some("Exact") if asked < store.floor() => {
            let message = "The resourceVersion for the provided list is too old.";
            Err(Box::new(status::failure(410, "Expired", message, None)))
        }
        Some("Exact") => Ok((asked, None)),
        _ => Ok((current, None)),
    }
}

fn no_version_to_match() -> Response<Body> {
    let why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
    let cause = json!({ "reason": "FieldValueForbidden", "message": why, "field": "resourceVersionMatch" });
    let details = json!({ "group": "meta.k8s.io", "kind": "ListOptions", "causes": [cause] });
    let message = format!("ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: {why}");
    status::failure(422, "Invalid", &message, Some(details))
}

fn expired(namespace: &str, name: &str) -> Response<Body> {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a \
                   new list without the continue parameter, or use the continue token in this response to retrieve \
                   the remainder of the results.";
    let mut refusal = status::status(410, "Expired", message, None);
    refusal["metadata"] = json!({ "continue": token(u64::MAX, namespace, name) });
    status::json(410, &refusal)
}

/// A page's end. Opaque to clients, so hexadecimal will do.
fn token(version: u64, namespace: &str, name: &str) -> String {
    format!("{version}/{namespace}/{name}").bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn untoken(token: &str) -> Option<(u64, String, String)> {
    let bytes: Option<Vec<u8>> =
        (0..token.len()).step_by(2).map(|at| u8::from_str_radix(token.get(at..at + 2)?, 16).ok()).collect();
    let text = String::from_utf8(bytes?).ok()?;
    let mut parts = text.splitn(3, '/');
    Some((parts.next()?.parse().ok()?, parts.next()?.to_owned(), parts.next()?.to_owned()))
}

/// Creates, updates or patches; with `dryRun=All` nothing is stored. What says a version that is not the newest is refused.
pub(super) fn write(
    shared: &Shared,
    target: &Target,
    query: &Query,
    method: &Method,
    sent: Value,
) -> Response<Body> {
    let resource = target.resource;
    let mut store = shared.store.lock().unwrap();
    let name = match &target.name {
        Some(name) => name.clone(),
        None => sent["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
    };
    let before = store.get(resource.plural, &target.namespace, &name).cloned();
    let based_on = sent["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty());
    if let (Some(based_on), Some(before)) = (based_on, &before)
        && *method != Method::POST
        && before.value["metadata"]["resourceVersion"] != based_on
    {
        return status::conflict(resource, &name);
    }
    let mut object = match (method, before) {
        (&Method::POST, Some(_)) => {
            let message = format!("{} {name:?} already exists", resource.qualified());
            let details = json!({ "name": name, "kind": resource.plural });
            return status::failure(409, "AlreadyExists", &message, Some(details));
        }
        (&Method::PATCH, Some(before)) => {
            let mut object = before.value.clone();
            merge(&mut object, sent);
            object
        }
        (&Method::POST, None) => sent,
        (_, Some(_)) => sent,
        (_, None) => return status::not_found(resource, &name),
    };
    object["kind"] = json!(resource.kind);
    object["metadata"]["name"] = json!(name);
    if resource.namespaced {
        object["metadata"]["namespace"] = json!(target.namespace);
    }
    if query.get("dryRun") == Some("All") {
        object["apiVersion"] = json!(resource.api_version());
        return status::json(if *method == Method::POST { 201 } else { 200 }, &object);
    }
    if store.put(object).is_none() {
        return status::failure(422, "Invalid", "an object needs a name", None);
    }
    let stored = store.get(resource.plural, &target.namespace, &name).expect("it was just put").clone();
    drop(store);
    shared.changed();
    let code = if *method == Method::POST { 201 } else { 200 };
    status::text(code, "application/json", whole(target, &stored, false))
}

/// JSON Merge Patch (RFC 7396). A strategic patch's directives, whose names begin with `$`, are dropped.
fn merge(object: &mut Value, patch: Value) {
    let (Value::Object(fields), Value::Object(patches)) = (&mut *object, &patch) else {
        *object = patch;
        return;
    };
    for (key, value) in patches.iter().filter(|(key, _)| !key.starts_with('$')) {
        match value {
            Value::Null => drop(fields.remove(key)),
            value => merge(fields.entry(key.clone()).or_insert(Value::Null), value.clone()),
        }
    }
}

/// Deletes one object, or all of a resource's.
pub(super) fn delete(shared: &Shared, target: &Target) -> Response<Body> {
    let resource = target.resource;
    let mut store = shared.store.lock().unwrap();
    let Some(name) = &target.name else {
        return status::failure(405, "MethodNotAllowed", "collections are not deleted here", None);
    };
    let Some(gone) = store.delete(resource.plural, &target.namespace, name) else {
        return status::not_found(resource, name);
    };
    drop(store);
    shared.changed();
    let details = json!({
        "name": name, "group": resource.group, "kind": resource.plural, "uid": gone.value["metadata"]["uid"],
    });
    let done = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    status::json(200, &done)
}
