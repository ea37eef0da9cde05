//! What an API server refuses although it is of the right type: the rules of its validation (kubernetes/kubernetes,
//! pkg/apis/…/validation.go) that the manifests could break.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::objects::{kustomizations, kustomize, list, name};

/// What is refused of an object.
fn refusals(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let named = object["metadata"]["name"].as_str().unwrap_or_default();
    if !is_label(named) {
        found.push(format!("the name {named:?}"));
    }
    if let Some(template) = object.pointer("/spec/template") {
        pod(&template["spec"], &mut found);
    }
    if let Some("Service") = object["kind"].as_str() {
        let ports = list(object, "/spec/ports");
        if ports.len() > 1 && ports.iter().any(|port| port["name"].is_null()) {
            found.push("several ports need names".to_owned());
        }
    }
    for rule in list(object, "/spec/egress").iter().chain(list(object, "/spec/ingress")) {
        policy_rule(rule, &mut found);
    }
    found
}

fn pod(pod: &Value, found: &mut Vec<String>) {
    let policy = pod["restartPolicy"].as_str().unwrap_or("Always");
    if policy != "Always" {
        found.push(format!("restartPolicy {policy}"));
    }
    for one in list(pod, "/containers") {
        container(one, pod["hostNetwork"] == true, found);
    }
}

fn container(container: &Value, host_network: bool, found: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    for port in list(container, "/ports") {
        let of = |key: &str| port[key].as_u64();
        if host_network && of("hostPort").is_some_and(|host| Some(host) != of("containerPort")) {
            found.push(format!("hostPort and containerPort differ on the host's network: {port}"));
        }
        let name = port["name"].as_str().unwrap_or_default();
        if !name.is_empty() && (!is_port_name(name) || !names.insert(name)) {
            found.push(format!("the port's name {name:?}"));
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &container[kind];
        let is_zero = |key: &&&str| probe[**key].as_u64() == Some(0);
        if let Some(key) = ["periodSeconds", "timeoutSeconds", "failureThreshold"].iter().find(is_zero) {
            found.push(format!("{kind}.{key} is 0"));
        }
        if kind != "readinessProbe" && probe["successThreshold"].as_u64().is_some_and(|it| it != 1) {
            found.push(format!("{kind}.successThreshold is not 1"));
        }
    }
    let (requests, limits) = (&container["resources"]["requests"], &container["resources"]["limits"]);
    for (resource, limit) in limits.as_object().into_iter().flatten() {
        if quantity(&requests[resource]) > quantity(limit) {
            found.push(format!("more {resource} requested than permitted"));
        }
    }
    let context = &container["securityContext"];
    for capability in list(context, "/capabilities/add") {
        if capability.as_str().is_some_and(|it| it.starts_with("CAP_")) {
            found.push(format!("a runtime would look for CAP_{}", capability.as_str().unwrap_or_default()));
        }
        // The API server knows it by this name alone; `SYS_ADMIN` it takes.
        if *capability == json!("CAP_SYS_ADMIN") && context["allowPrivilegeEscalation"] == false {
            found.push("CAP_SYS_ADMIN without allowPrivilegeEscalation".to_owned());
        }
    }
    for mount in list(container, "/volumeMounts") {
        if mount["mountPropagation"] == json!("Bidirectional") && context["privileged"] != true {
            found.push("bidirectional propagation without privilege".to_owned());
        }
    }
}

fn policy_rule(rule: &Value, found: &mut Vec<String>) {
    for port in list(rule, "/ports") {
        if let Some(end) = port["endPort"].as_u64() {
            match port["port"].as_u64() {
                Some(first) if first <= end => {}
                _ => found.push(format!("endPort {end} without a smaller number in port")),
            }
        }
    }
    for peer in list(rule, "/to").iter().chain(list(rule, "/from")) {
        if let Some(cidr) = peer["ipBlock"]["cidr"].as_str() {
            let parsed = cidr.split_once('/').map(|(ip, bits)| (ip.parse::<IpAddr>(), bits.parse::<u8>()));
            if !matches!(parsed, Some((Ok(_), Ok(_)))) {
                found.push(format!("the CIDR {cidr}"));
            }
            if peer["podSelector"].is_object() || peer["namespaceSelector"].is_object() {
                found.push("ipBlock beside a selector".to_owned());
            }
        }
    }
}

/// RFC 1123, with dots between labels as object names may have.
fn is_label(name: &str) -> bool {
    let edge = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit();
    !name.is_empty()
        && name.starts_with(edge)
        && name.ends_with(edge)
        && name.chars().all(|it| edge(it) || it == '-' || it == '.')
}

/// RFC 6335, section 5.1: at most 15 letters, digits and single hyphens, a letter among them.
fn is_port_name(name: &str) -> bool {
    is_label(name)
        && name.len() <= 15
        && !name.contains("--")
        && !name.contains('.')
        && name.contains(|it: char| it.is_ascii_lowercase())
}

/// A quantity in thousandths.
fn quantity(value: &Value) -> u64 {
    let text = value.as_str().map_or_else(|| value.as_u64().unwrap_or(0).to_string(), str::to_owned);
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().unwrap_or(0);
    number
        * match &text[digits..] {
            "m" => 1,
            "" => 1000,
            "Ki" => 1000 << 10,
            "Mi" => 1000 << 20,
            "Gi" => 1000 << 30,
            other => panic!("no unit: {other}"),
        }
}

#[test]
fn an_api_server_takes_every_object() {
    for folder in kustomizations() {
        for object in kustomize(&folder) {
            assert_eq!(refusals(&object), Vec::<String>::new(), "{folder}: {}", name(&object));
        }
    }
}

#[test]
fn each_rule_finds_what_breaks_it() {
    let of_container = |container: Value| {
        let spec = json!({ "hostNetwork": true, "containers": [container] });
        refusals(
            &json!({ "kind": "DaemonSet", "metadata": { "name": "a" }, "spec": { "template": { "spec": spec } } }),
        )
    };
    for (container, said) in [
        (json!({ "ports": [{ "containerPort": 1, "hostPort": 2 }] }), "differ"),
        (json!({ "ports": [{ "containerPort": 1, "name": "a-name-too-long-" }] }), "name"),
        (json!({ "ports": [{ "containerPort": 1, "name": "80" }] }), "name"),
        (json!({ "readinessProbe": { "periodSeconds": 0 } }), "periodSeconds"),
        (json!({ "livenessProbe": { "successThreshold": 2 } }), "successThreshold"),
        (
            json!({ "resources": { "requests": { "memory": "1Gi" }, "limits": { "memory": "256Mi" } } }),
            "memory",
        ),
        (json!({ "securityContext": { "capabilities": { "add": ["CAP_BPF"] } } }), "CAP_CAP_BPF"),
        (json!({ "volumeMounts": [{ "mountPropagation": "Bidirectional" }] }), "propagation"),
    ] {
        let found = of_container(container.clone()).join("; ");
        assert!(found.contains(said), "{container}: {found:?}");
    }
    for (rule, said) in [
        (json!({ "ports": [{ "port": 9, "endPort": 8 }] }), "endPort"),
        (json!({ "to": [{ "ipBlock": { "cidr": "10.0.0.0" } }] }), "CIDR"),
        (json!({ "to": [{ "ipBlock": { "cidr": "10.0.0.0/8" }, "podSelector": {} }] }), "beside"),
    ] {
        let policy = json!({ "metadata": { "name": "a" }, "spec": { "egress": [rule] } });
        let found = refusals(&policy).join("; ");
        assert!(found.contains(said), "{policy}: {found:?}");
    }
}

/// An egress policy forbids whatever none permits.
#[test]
fn the_network_policies_permit_weirs_ports_one_by_one_and_the_look_up_of_names() {
    let mut permitted = BTreeSet::new();
    for policy in kustomize("examples/network-policy") {
        for rule in list(&policy, "/spec/egress") {
            for port in list(rule, "/ports") {
                assert!(port["endPort"].is_null(), "1.21 and some network plug-ins ignore endPort");
                let protocol = port["protocol"].as_str().unwrap().to_owned();
                permitted.insert((protocol, port["port"].as_u64().unwrap()));
            }
        }
    }
    let tcp = [53, 4140].into_iter().chain(4142..=4149).map(|port| ("TCP".to_owned(), port));
    assert_eq!(permitted, tcp.chain([("UDP".to_owned(), 53)]).collect());
}
