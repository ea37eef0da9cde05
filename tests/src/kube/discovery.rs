//! What the server says of itself: its version, its groups and their resources, in both forms.

use hyper::Response;
use serde_json::{Value, json};

use super::resource::{self, RESOURCES, Resource};
use super::status::{self, Body};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The answer at this path; `custom` is whether custom resources are defined.
pub(super) fn answer(path: &str, accept: &str, custom: bool) -> Option<Response<Body>> {
    let aggregated = accept.contains("as=APIGroupDiscoveryList") && accept.contains("v=v2");
    Some(match path.trim_end_matches('/') {
        "/version" => status::json(200, &version()),
        "/livez" | "/readyz" | "/healthz" => status::text(200, "text/plain; charset=utf-8", "ok".to_owned()),
        "/api" if aggregated => groups_in_full(&[""]),
        "/apis" if aggregated => groups_in_full(&named(custom)),
        "/api" => status::json(
            200,
            &json!({ "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443" }] }),
        ),
        "/apis" => {
            let groups: Vec<Value> = named(custom).into_iter().map(group).collect();
            status::json(200, &json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        "/api/v1" => status::json(200, &resources("")),
        path => {
            let (group, at) = path.strip_prefix("/apis/")?.split_once('/')?;
            (at == resource::version(group) && named(custom).contains(&group))
                .then(|| status::json(200, &resources(group)))?
        }
    })
}

/// The groups with a name.
fn named(custom: bool) -> Vec<&'static str> {
    let there = RESOURCES.iter().filter(|it| custom || !it.custom);
    let mut groups: Vec<_> = there.map(|it| it.group).filter(|it| !it.is_empty()).collect();
    groups.dedup();
    groups
}

fn of(group: &str) -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().filter(move |it| it.group == group)
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35", "gitVersion": "v1.36.2",
        "gitCommit": "0000000000000000000000000000000000000000", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "go1.26.6", "compiler": "gc", "platform": "linux/amd64",
    })
}

fn verbs() -> Value {
    json!(["create", "delete", "get", "list", "patch", "update", "watch"])
}

fn group(name: &str) -> Value {
    let at = resource::version(name);
    let version = json!({ "groupVersion": format!("{name}/{at}"), "version": at });
    json!({ "name": name, "versions": [version], "preferredVersion": version })
}

fn resources(group: &str) -> Value {
    let list: Vec<Value> = of(group)
        .map(|it| {
            json!({
                "name": it.plural, "singularName": it.singular, "namespaced": it.namespaced, "kind": it.kind,
                "verbs": verbs(), "storageVersionHash": "AAAAAAAAAAA=",
            })
        })
        .collect();
    if group.is_empty() {
        return json!({ "kind": "APIResourceList", "groupVersion": "v1", "resources": list });
    }
    let version = format!("{group}/{}", resource::version(group));
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list })
}

fn groups_in_full(groups: &[&str]) -> Response<Body> {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let resources: Vec<Value> = of(group)
                .map(|it| {
                    json!({
                        "resource": it.plural,
                        "responseKind": { "group": "", "version": "", "kind": it.kind },
                        "scope": if it.namespaced { "Namespaced" } else { "Cluster" },
                        "singularResource": it.singular,
                        "verbs": verbs(),
                    })
                })
                .collect();
            let version = resource::version(group);
            let version = json!({ "version": version, "resources": resources, "freshness": "Current" });
            let name = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
            json!({ "metadata": name, "versions": [version] })
        })
        .collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    status::text(200, AGGREGATED, body.to_string())
}
