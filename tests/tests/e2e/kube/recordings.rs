//! The API server's double answers as a real one did: every exchange below `fixtures/kube` was recorded from a real
//! Kubernetes 1.36, and is asked again here.

use std::collections::BTreeMap;
use std::path::Path;

use e2e::kube::{Act, ApiServer, Refusal};
use e2e::{Client, Request};
use serde_json::{Value, json};

/// One exchange.
struct Exchange {
    target: String,
    accept: String,
    status: u16,
    content_type: String,
    retry_after: Option<String>,
    body: String,
}

fn recorded(name: &str) -> Exchange {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kube").join(format!("{name}.http"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (head, body) = text.split_once("\n\n").unwrap();
    let line = |start: &str| head.lines().find_map(|it| it.strip_prefix(start));
    Exchange {
        target: line("> GET ").unwrap().to_owned(),
        accept: line("> Accept: ").unwrap().to_owned(),
        status: line("< ").unwrap()[..3].parse().unwrap(),
        content_type: line("< Content-Type: ").unwrap().to_owned(),
        retry_after: line("< Retry-After: ").map(str::to_owned),
        body: body.to_owned(),
    }
}

impl Exchange {
    /// The recorded objects: of a list, of a watch's events, or the one.
    fn objects(&self) -> Vec<(Option<String>, Value)> {
        let mut objects = Vec::new();
        for line in self.body.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            if let Some(kind) = value["type"].as_str() {
                objects.push((Some(kind.to_owned()), value["object"].clone()));
                continue;
            }
            let kind = value["kind"].as_str().unwrap_or_default().trim_end_matches("List").to_owned();
            for item in value["items"].as_array().into_iter().flatten() {
                let mut item = item.clone();
                item["kind"] = json!(kind);
                objects.push((None, item));
            }
        }
        objects
    }

    /// Has `server` answer it, at `target`, which names the double's versions instead of the recorded ones.
    fn asked_again(&self, server: &ApiServer, target: &str) -> Vec<Value> {
        let request = Request::get(target)
            .with("Host", "kubernetes")
            .with("Accept", &self.accept)
            .with("Connection", "close");
        let answer = Client::to(server.address()).ask(&request);
        assert_eq!(answer.status, self.status, "{target}: {}", answer.text());
        assert_eq!(answer.get("Content-Type"), Some(&*self.content_type), "{target}");
        assert_eq!(answer.get("Retry-After"), self.retry_after.as_deref(), "{target}");
        if self.content_type != "application/json" && !self.content_type.contains("as=") {
            assert_eq!(answer.text(), self.body, "{target}");
            return Vec::new();
        }
        let text = answer.text();
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect()
    }

    /// The same, and every key and kind of value of the envelope is the recorded one.
    fn matches(&self, server: &ApiServer, target: &str) {
        let mut recorded = serde_json::Deserializer::from_str(&self.body).into_iter::<Value>();
        let answered = self.asked_again(server, target);
        for (at, answered) in answered.iter().enumerate() {
            let Some(Ok(recorded)) = recorded.next() else {
                panic!("{target}: more than was recorded: {answered}")
            };
            assert_eq!(
                shape(answered, 0),
                shape(&recorded, 0),
                "{target}, value {at}:\n{answered}\n{recorded}"
            );
        }
        assert!(
            self.content_type.starts_with("text/") || recorded.next().is_none(),
            "{target}: less than recorded"
        );
    }
}

/// The kinds of what is in `value`. Of lists, one element speaks for all; of an object in a list or event only what
/// every API object has, since the others are whatever was stored.
fn shape(value: &Value, depth: usize) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(list) => json!([list.first().map(|it| shape(it, depth + 1))]),
        Value::Object(fields) => {
            let stored = fields.contains_key("metadata") && depth > 0;
            let kept =
                fields.iter().filter(|(key, _)| !stored || ["kind", "apiVersion"].contains(&key.as_str()));
            // Whether a group's resource has categories and short names depends on the resource.
            let kept = kept
                .filter(|(key, _)| !["shortNames", "categories", "managedFields"].contains(&key.as_str()));
            let mut shapes: BTreeMap<&str, Value> =
                kept.map(|(key, value)| (key.as_str(), shape(value, depth + 1))).collect();
            if stored {
                let metadata = &fields["metadata"];
                let has = |key: &str| metadata.get(key).is_some();
                shapes.insert(
                    "identity",
                    json!(["name", "uid", "creationTimestamp", "resourceVersion"].map(has)),
                );
            }
            json!(shapes)
        }
    }
}

/// A server that holds what was recorded in these.
fn seeded(names: &[&str]) -> ApiServer {
    let server = ApiServer::start();
    for name in names {
        for (_, object) in recorded(name).objects() {
            server.put(object);
        }
    }
    server
}

#[test]
fn what_the_server_says_of_itself_has_the_recorded_shape() {
    let server = ApiServer::start();
    for name in ["version", "api", "apis", "core-v1", "discovery-v1", "apis-aggregated", "unknown-group-404"]
    {
        let exchange = recorded(name);
        exchange.matches(&server, &exchange.target);
    }
}

#[test]
fn lists_have_the_recorded_shape() {
    for name in
        ["list-services", "list-endpointslices", "list-endpointslices-rv0", "list-namespaces", "list-nodes"]
    {
        let exchange = recorded(name);
        exchange.matches(&seeded(&[name]), &exchange.target);
    }
    let exchange = recorded("list-pods-on-node");
    exchange.matches(&seeded(&["list-pods-on-node", "list-page-1"]), &exchange.target);
}

#[test]
fn pages_and_metadata_alone_have_the_recorded_shape() {
    let (first, second) = (recorded("list-page-1"), recorded("list-page-2"));
    let server = seeded(&["list-page-1", "list-page-2"]);
    first.matches(&server, &first.target);
    let page = &first.asked_again(&server, &first.target)[0];
    assert_eq!(
        (page["metadata"]["remainingItemCount"].clone(), page["items"].as_array().unwrap().len()),
        (json!(2), 2)
    );
    let rest = format!("/api/v1/pods?limit=2&continue={}", page["metadata"]["continue"].as_str().unwrap());
    server.put(json!({ "kind": "Pod", "metadata": { "name": "zz-later" } }));
    second.matches(&server, &rest);
    assert_eq!(second.asked_again(&server, &rest)[0]["items"].as_array().unwrap().len(), 2, "of one version");
    server.compact();
    recorded("list-continue-expired-410").matches(&server, &rest);
    let alone = recorded("list-pods-metadata-only");
    alone.matches(&server, &alone.target);
}

#[test]
fn versions_are_kept_to_as_recorded() {
    let server = seeded(&["list-endpointslices"]);
    let version = server.version();
    server.put(json!({ "kind": "EndpointSlice", "metadata": { "name": "later" } }));
    let list = "/apis/discovery.k8s.io/v1/endpointslices";
    let exact = format!("{list}?resourceVersion={version}&resourceVersionMatch=Exact&limit=1");
    recorded("list-exact-rv").matches(&server, &exact);
    let at_most = &recorded("list-endpointslices").asked_again(&server, &exact)[0];
    assert_eq!(at_most["metadata"]["remainingItemCount"], 2, "the later one is not in it");
    for name in ["list-future-rv", "list-bad-match", "watch-bad-rv-500", "get-404"] {
        let exchange = recorded(name);
        exchange.matches(&server, &exchange.target);
    }
    server.compact();
    recorded("list-gone-410").matches(&server, &exact);
    let watch = format!("{list}?watch=1&resourceVersion={version}&timeoutSeconds=3");
    recorded("watch-gone-410").matches(&server, &watch);
}

#[test]
fn refusals_have_the_recorded_shape() {
    let server = ApiServer::start();
    for (name, refusal) in
        [("unauthorized-401", Refusal::Unauthorized), ("anonymous-403", Refusal::Forbidden)]
    {
        server.refuse("services", refusal);
        let exchange = recorded(name);
        exchange.matches(&server, &exchange.target);
    }
    server.heal();
    server.faults(|faults| faults.token = Some("another".into()));
    recorded("unauthorized-401").matches(&server, "/api/v1/services");
}

#[test]
fn watches_tell_what_happened_in_the_recorded_order() {
    for (name, list) in [
        ("watch-services-changes", None),
        ("watch-endpointslices-rollout", Some("list-endpointslices")),
        ("watch-pods-rollout", Some("list-pods-on-node")),
    ] {
        let exchange = recorded(name);
        let server = seeded(list.as_slice());
        let mut happened = exchange.objects();
        happened.retain(|(kind, _)| kind.as_deref() != Some("BOOKMARK"));
        // An object that was modified or deleted was there before.
        for (kind, object) in happened.clone() {
            if kind.as_deref() != Some("ADDED") && !known(&server, &object) {
                server.put(object);
            }
        }
        let version = server.version();
        for (kind, object) in happened.clone() {
            let metadata = object["metadata"].clone();
            let [namespace, name] = ["namespace", "name"].map(|it| metadata[it].as_str().unwrap_or_default());
            match kind.as_deref() {
                Some("DELETED") => drop(server.delete(plural(&object), namespace, name)),
                Some("ADDED") => {
                    server.delete(plural(&object), namespace, name);
                    server.put(object);
                }
                _ => drop(server.put(object)),
            }
        }
        let query = exchange.target.split('?').next().unwrap();
        let target =
            format!("{query}?watch=1&resourceVersion={version}&timeoutSeconds=1&allowWatchBookmarks=true");
        let kinds = |events: &[Value]| -> Vec<String> {
            events.iter().map(|it| format!("{} {}", it["type"], it["object"]["metadata"]["name"])).collect()
        };
        let told = exchange.asked_again(&server, &target);
        let recorded: Vec<Value> =
            happened.into_iter().map(|(kind, object)| json!({ "type": kind, "object": object })).collect();
        let again: Vec<String> = kinds(&told);
        // What was put back before it was added again is deleted first, which nobody recorded.
        let expected = kinds(&recorded);
        let mut again = again.iter();
        for event in &expected {
            assert!(again.any(|it| it == event), "{name}: {event} of {expected:?} in {:?}", kinds(&told));
        }
    }
}

fn plural(object: &Value) -> &'static str {
    match object["kind"].as_str() {
        Some("Service") => "services",
        Some("EndpointSlice") => "endpointslices",
        Some("Pod") => "pods",
        kind => panic!("{kind:?}"),
    }
}

fn known(server: &ApiServer, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let [namespace, name] = ["namespace", "name"].map(|it| metadata[it].as_str().unwrap_or_default());
    server.object(plural(object), namespace, name).is_some()
}

#[test]
fn bookmarks_and_initial_events_come_as_recorded() {
    let server = seeded(&["list-endpointslices"]);
    let streamed = recorded("watch-streaming-list");
    let target = streamed.target.replace("timeoutSeconds=4", "timeoutSeconds=1");
    let told = streamed.asked_again(&server, &target);
    let kinds: Vec<_> = told.iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..4], ["ADDED", "ADDED", "ADDED", "BOOKMARK"], "{kinds:?}");
    assert_eq!(told[3]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let end = streamed.objects().into_iter().find(|(kind, _)| kind.as_deref() == Some("BOOKMARK")).unwrap().1;
    assert_eq!(shape(&told[3]["object"], 0), shape(&end, 0));
    let quiet = recorded("watch-quiet-with-timeout");
    let target = format!(
        "/apis/discovery.k8s.io/v1/endpointslices?watch=1&resourceVersion={}&allowWatchBookmarks=true&timeoutSeconds=1",
        server.version()
    );
    let told = quiet.asked_again(&server, &target);
    assert_eq!(told.last().unwrap()["type"], "BOOKMARK");
    assert_eq!(shape(&told[0]["object"], 0), shape(&quiet.objects()[0].1, 0));
}

#[test]
fn every_recording_is_asked_again() {
    let source = include_str!("recordings.rs");
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kube")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".http");
        assert!(source.contains(&format!("\"{name}\"")), "no test asks {name} again");
    }
}

#[test]
fn a_watch_can_be_ended_cut_and_spoilt() {
    let server = ApiServer::start();
    for (act, complete) in [(Act::End, true), (Act::Cut, false), (Act::Gone, true)] {
        let target =
            format!("/api/v1/services?watch=1&resourceVersion={}&timeoutSeconds=20", server.version());
        let mut client = Client::to(server.address());
        client.start(&Request::get(&target).with("Host", "kubernetes").with("Connection", "close"));
        assert_eq!(client.head().status(), Some(200));
        server.act(act);
        let (rest, _) = client.rest();
        let text = String::from_utf8_lossy(&rest);
        assert_eq!(text.ends_with("0\r\n\r\n"), complete, "{act:?}: {text:?}");
        assert_eq!(text.contains("410"), act == Act::Gone, "{text:?}");
    }
}
