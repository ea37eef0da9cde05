//! Every manifest, from every kustomization: of the right types, and referring only to what is there.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::objects::{deploy, find, kustomizations, kustomize, list, name};
use crate::types::mistakes;

/// The kinds that live in no namespace.
const CLUSTER_WIDE: [&str; 4] =
    ["Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"];

#[test]
fn every_object_is_of_its_type() {
    let folders = kustomizations();
    assert!(folders.len() >= 5, "{folders:?}");
    for folder in folders {
        let objects = kustomize(&folder);
        assert!(!objects.is_empty(), "{folder} is empty");
        for object in &objects {
            assert_eq!(mistakes(object), Vec::<String>::new(), "{folder}: {}", name(object));
        }
    }
}

#[test]
fn every_object_is_in_a_namespace_and_there_once() {
    for folder in kustomizations() {
        let objects = kustomize(&folder);
        let names: BTreeSet<_> = objects.iter().map(name).collect();
        assert_eq!(names.len(), objects.len(), "{folder}: an object is there twice");
        for object in &objects {
            let namespaced = !CLUSTER_WIDE.contains(&object["kind"].as_str().unwrap());
            let namespace = object["metadata"]["namespace"].as_str();
            assert_eq!(namespace.is_some(), namespaced, "{folder}: {} in {namespace:?}", name(object));
            let namespaces = objects.iter().filter(|object| object["kind"] == "Namespace").count();
            if let (Some(namespace), 1) = (namespace, namespaces) {
                find(&objects, "Namespace", namespace);
            }
        }
    }
}

/// kubectl's own kustomize knows `labels` since 1.22, and their `includeTemplates` since 1.25 only.
#[test]
fn kubectl_of_kubernetes_1_22_can_read_the_kustomizations() {
    for folder in kustomizations() {
        let file = deploy("kubernetes").join(&folder).join("kustomization.yaml");
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains("includeTemplates"), "{folder}");
    }
}

#[test]
fn what_an_object_refers_to_is_there() {
    for folder in kustomizations() {
        let objects = kustomize(&folder);
        for object in &objects {
            if let Some(pod) = object.pointer("/spec/template") {
                pod_refers_to_what_is_there(&objects, object, pod);
            }
            match object["kind"].as_str() {
                Some("Service") => service_selects_a_port(&objects, object),
                Some("ClusterRoleBinding" | "RoleBinding") => {
                    let role = &object["roleRef"];
                    find(&objects, role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
                    for subject in list(object, "/subjects") {
                        let account = find(&objects, "ServiceAccount", subject["name"].as_str().unwrap());
                        assert_eq!(account["metadata"]["namespace"], subject["namespace"]);
                    }
                }
                _ => {}
            }
        }
    }
}

#[track_caller]
fn pod_refers_to_what_is_there(objects: &[Value], owner: &Value, pod: &Value) {
    let owner_name = name(owner);
    assert!(
        matches(&owner["spec"]["selector"]["matchLabels"], pod),
        "{owner_name} does not select its own pods"
    );
    if let Some(account) = pod["spec"]["serviceAccountName"].as_str() {
        find(objects, "ServiceAccount", account);
    }
    let volumes: Vec<_> = list(pod, "/spec/volumes").iter().map(|volume| &volume["name"]).collect();
    for volume in list(pod, "/spec/volumes") {
        if let Some(map) = volume["configMap"]["name"].as_str() {
            find(objects, "ConfigMap", map);
        }
    }
    for container in list(pod, "/spec/containers") {
        for mount in list(container, "/volumeMounts") {
            assert!(volumes.contains(&&mount["name"]), "{owner_name}: no volume {}", mount["name"]);
        }
        let image = container["image"].as_str().unwrap();
        let tag = image.rsplit('/').next().unwrap().split_once(':').map(|(_, tag)| tag);
        assert!(tag.is_some_and(|tag| tag != "latest"), "{owner_name}: {image} may be another one tomorrow");
        for probe in ["livenessProbe", "readinessProbe"] {
            let port = &container[probe]["httpGet"]["port"];
            assert!(port.is_null() || port_of(container, port).is_some(), "{owner_name}: no port {port}");
        }
        assert!(container["resources"]["requests"].is_object(), "{owner_name} asks for no resources");
        references_are_defined_before(container);
    }
}

/// `$(NAME)` in a variable's value is replaced only where NAME stands before it; else it goes through as it is written.
#[track_caller]
fn references_are_defined_before(container: &Value) {
    let mut defined = Vec::new();
    for variable in list(container, "/env") {
        for reference in variable["value"].as_str().unwrap_or_default().split("$(").skip(1) {
            let reference = reference.split(')').next().unwrap();
            assert!(defined.contains(&reference), "$({reference}) is not defined before {variable}");
        }
        defined.push(variable["name"].as_str().unwrap());
    }
}

#[track_caller]
fn service_selects_a_port(objects: &[Value], service: &Value) {
    let selected: Vec<_> = objects
        .iter()
        .filter_map(|object| object.pointer("/spec/template"))
        .filter(|pod| matches(&service["spec"]["selector"], pod))
        .collect();
    assert_eq!(selected.len(), 1, "{} selects the pods of {} workloads", name(service), selected.len());
    for port in list(service, "/spec/ports") {
        let containers = list(selected[0], "/spec/containers");
        let found = containers.iter().any(|container| port_of(container, &port["targetPort"]).is_some());
        assert!(found, "{}: no container has port {}", name(service), port["targetPort"]);
    }
}

/// Whether the pod has all these labels.
pub(crate) fn matches(labels: &Value, pod: &Value) -> bool {
    let labels = labels.as_object().unwrap();
    !labels.is_empty() && labels.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value)
}

/// The number of a container's port, given by name or number. What a container listens on need not be declared: a number
/// stands for itself where nothing is.
pub(crate) fn port_of(container: &Value, port: &Value) -> Option<u64> {
    if container["ports"].is_null() {
        return port.as_u64();
    }
    let ports = list(container, "/ports").iter();
    let mut found = ports.filter(|it| it["name"] == *port || it["containerPort"] == *port);
    found.next()?["containerPort"].as_u64()
}
