//! The two questions about somebody's bearer token: whose it is (TokenReview), and what they may (SubjectAccessReview). The
//! second is answered by the ClusterRoles and ClusterRoleBindings that are stored, as far as they speak of non-resource URLs.

use std::collections::BTreeMap;

use hyper::Response;
use serde_json::{Value, json};

use super::resource::Resource;
use super::serve::Shared;
use super::status::{self, Body};
use super::store::Store;

/// Users by their tokens.
pub(super) type Tokens = BTreeMap<String, String>;

/// The answer to a question about `resource`; nothing where it is none of the two.
pub(super) fn answer(shared: &Shared, resource: &Resource, question: &Value) -> Option<Response<Body>> {
    let status = match resource.plural {
        "tokenreviews" => whose(&shared.tokens.lock().unwrap(), &question["spec"]["token"]),
        "subjectaccessreviews" => may(&shared.store.lock().unwrap(), &question["spec"]),
        _ => return None,
    };
    let mut answer = question.clone();
    answer["status"] = status;
    Some(status::json(201, &answer))
}

fn whose(tokens: &Tokens, token: &Value) -> Value {
    let Some(user) = token.as_str().and_then(|token| tokens.get(token)) else {
        return json!({ "user": {}, "error": "[invalid bearer token, token lookup failed]" });
    };
    let mut groups = vec!["system:authenticated".to_owned()];
    if let Some(account) = user.strip_prefix("system:serviceaccount:") {
        let namespace = account.split(':').next().unwrap_or_default();
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let user = json!({ "username": user, "uid": "1", "groups": groups });
    json!({ "authenticated": true, "user": user, "audiences": ["https://kubernetes.default.svc"] })
}

fn may(store: &Store, spec: &Value) -> Value {
    let asked = &spec["nonResourceAttributes"];
    let (path, verb) =
        (asked["path"].as_str().unwrap_or_default(), asked["verb"].as_str().unwrap_or_default());
    let bindings = store.all("clusterrolebindings");
    let allowed = bindings
        .iter()
        .filter(|binding| list(&binding.value["subjects"]).any(|it| is(it, spec)))
        .any(|binding| {
            let role = binding.value["roleRef"]["name"].as_str().unwrap_or_default();
            let role = store.get("clusterroles", "", role);
            role.is_some_and(|role| list(&role.value["rules"]).any(|rule| permits(rule, path, verb)))
        });
    if allowed { json!({ "allowed": true }) } else { json!({ "allowed": false, "reason": "no rule" }) }
}

/// Whether `subject` of a binding is whom `spec` asks about.
fn is(subject: &Value, spec: &Value) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    let namespace = subject["namespace"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => spec["user"] == name,
        Some("Group") => list(&spec["groups"]).any(|group| group == name),
        Some("ServiceAccount") => spec["user"] == format!("system:serviceaccount:{namespace}:{name}"),
        _ => false,
    }
}

fn permits(rule: &Value, path: &str, verb: &str) -> bool {
    let covers = |url: &Value| match url.as_str() {
        Some(url) => url == path || url.strip_suffix('*').is_some_and(|start| path.starts_with(start)),
        None => false,
    };
    list(&rule["nonResourceURLs"]).any(covers) && list(&rule["verbs"]).any(|it| it == verb || it == "*")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
