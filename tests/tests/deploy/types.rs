//! Validation as kubeconform does it, by the types that are generated from Kubernetes' OpenAPI document: an object goes
//! through its type and back. What the type does not know is lost on the way, what it requires is added, and what
//! is of another type does not go in.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is wrong with the object; nothing when it is right.
pub(crate) fn mistakes(object: &Value) -> Vec<String> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("v1", "ConfigMap") => round_trip::<ConfigMap>(object),
        ("v1", "Namespace") => round_trip::<Namespace>(object),
        ("v1", "ResourceQuota") => round_trip::<ResourceQuota>(object),
        ("v1", "Secret") => round_trip::<Secret>(object),
        ("v1", "Service") => round_trip::<Service>(object),
        ("v1", "ServiceAccount") => round_trip::<ServiceAccount>(object),
        ("apps/v1", "DaemonSet") => round_trip::<DaemonSet>(object),
        ("apps/v1", "Deployment") => round_trip::<Deployment>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => round_trip::<NetworkPolicy>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => round_trip::<ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => round_trip::<ClusterRoleBinding>(object),
        ("rbac.authorization.k8s.io/v1", "Role") => round_trip::<Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => round_trip::<RoleBinding>(object),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => {
            round_trip::<CustomResourceDefinition>(object)
        }
        ("monitoring.coreos.com/v1", "PodMonitor" | "ServiceMonitor") => round_trip::<Monitor>(object),
        (version, kind) => vec![format!("{version} {kind} is of no known type")],
    }
}

/// The part of the Prometheus operator's PodMonitor and ServiceMonitor that the manifests may use: its types are in no
/// crate. Written from its API reference.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Monitor {
    api_version: String,
    kind: String,
    metadata: Map<String, Value>,
    spec: MonitorSpec,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MonitorSpec {
    selector: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<Scrape>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pod_metrics_endpoints: Vec<Scrape>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Scrape {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<String>,
    path: String,
    scheme: String,
    tls_config: TlsConfig,
    authorization: Authorization,
    interval: String,
    relabelings: Vec<Relabeling>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TlsConfig {
    insecure_skip_verify: bool,
}

/// The operator's SafeAuthorization; its `type` is Bearer where it is not said.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Authorization {
    credentials: k8s_openapi::api::core::v1::SecretKeySelector,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Relabeling {
    source_labels: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replacement: Option<String>,
    target_label: String,
}

fn round_trip<T: DeserializeOwned + Serialize>(object: &Value) -> Vec<String> {
    match serde_json::from_value::<T>(object.clone()) {
        Err(error) => vec![error.to_string()],
        Ok(typed) => {
            let mut found = Vec::new();
            compare("", object, &serde_json::to_value(typed).unwrap(), &mut found);
            found
        }
    }
}

/// Notes where the two differ, each place by its path. An absent field and an empty one are the same.
pub(crate) fn compare(path: &str, given: &Value, back: &Value, found: &mut Vec<String>) {
    match (given, back) {
        (Value::Object(given), Value::Object(back)) => {
            for key in given.keys().chain(back.keys()).collect::<BTreeSet<_>>() {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                compare(&format!("{path}.{key}"), &of(given), &of(back), found);
            }
        }
        (Value::Array(given), Value::Array(back)) if given.len() == back.len() => {
            for (index, (given, back)) in given.iter().zip(back).enumerate() {
                compare(&format!("{path}[{index}]"), given, back, found);
            }
        }
        _ if given == back || (is_empty(given) && is_empty(back)) => {}
        _ => found.push(format!("{path}: {given} became {back}")),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[test]
fn a_misspelt_a_missing_and_a_mistyped_field_are_found() {
    let service = |spec: &str| {
        serde_json::from_str::<Value>(&format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"a"}},"spec":{spec}}}"#
        ))
        .unwrap()
    };
    let of = |spec: &str| mistakes(&service(spec)).join("; ");
    assert_eq!(of(r#"{"ports":[{"port":80}]}"#), "");
    assert!(of(r#"{"ports":[{"port":80,"targetport":8080}]}"#).contains(".spec.ports[0].targetport"));
    assert!(of(r#"{"ports":[{"name":"http"}]}"#).contains(".spec.ports[0].port"));
    assert!(!of(r#"{"ports":[{"port":"eighty"}]}"#).is_empty());
    let unknown = serde_json::json!({ "apiVersion": "v2", "kind": "Service" });
    assert!(mistakes(&unknown)[0].contains("no known type"));
}
