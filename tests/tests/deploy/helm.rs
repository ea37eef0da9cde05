//! The Helm chart: the same objects as the kustomization, and each of its values does what it says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::objects::{find, helm, helm_lint, helm_refuses, kustomize, list, name, parse};
use crate::types::{compare, mistakes};

/// The labels that only Helm sets, as `values.yaml` says.
const HELMS: [&str; 3] = ["app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"];

#[test]
fn the_chart_makes_the_same_objects_as_the_kustomization() {
    let mut expected = comparable(kustomize("."));
    same(&expected, &comparable(helm(r#"{ "namespace": { "create": true } }"#)));
    // Helm keeps its record in the namespace, which has to be there before: by default the chart does not make it.
    expected.remove("Namespace/weir").unwrap();
    same(&expected, &comparable(helm("{}")));
}

#[test]
fn with_every_option_it_still_does() {
    let monitors = json!({
        "namespace": { "create": true },
        "podMonitor": { "enabled": true },
        "serviceMonitor": { "enabled": true },
    });
    same(&comparable(kustomize("overlays/prometheus-operator")), &comparable(helm(&monitors.to_string())));
    let values = json!({
        "namespace": { "create": true },
        "image": { "repository": "registry.example.com/platform/weir" },
        "seLinuxOptions": { "type": "spc_t" },
        "seccompProfile": { "type": "Unconfined" },
        "criticalQuota": true,
        "ingress": { "enabled": true },
    });
    same(&comparable(kustomize("overlays/everything")), &comparable(helm(&values.to_string())));
}

#[test]
fn the_right_to_enter_namespaces_goes_with_the_place_of_the_sockets() {
    let expected = kustomize("overlays/sockets-on-node");
    let config = parse(&crate::weir::config(&expected))[0].clone();
    assert_eq!(config["transparent"], json!({ "sockets": "node" }));
    let values = json!({ "namespace": { "create": true }, "config": config });
    same(&comparable(expected), &comparable(helm(&values.to_string())));
    for (transparent, netns) in [
        (r#"{ "sockets": "pod" }"#, Some("/run/netns")),
        (r#"{ "netns": "/var/run/docker/netns" }"#, Some("/var/run/docker/netns")),
        (r#"{ "sockets": "node" }"#, None),
        ("null", None),
    ] {
        let objects = helm(&format!(r#"{{ "config": {{ "transparent": {transparent} }} }}"#));
        let pod = &find(&objects, "DaemonSet", "weir")["spec"]["template"]["spec"];
        let added = &pod["containers"][0]["securityContext"]["capabilities"]["add"];
        assert_eq!(list(added, "").contains(&json!("SYS_ADMIN")), netns.is_some(), "{transparent}");
        let is_it = |volume: &&Value| volume["name"] == "netns";
        let volume = list(pod, "/volumes").iter().find(is_it).map(|it| &it["hostPath"]["path"]);
        assert_eq!(volume, netns.map(|it| json!(it)).as_ref(), "{transparent}");
        let mount = list(pod, "/containers/0/volumeMounts").iter().find(is_it).map(|it| &it["mountPath"]);
        assert_eq!(mount, volume, "{transparent}");
    }
}

#[test]
fn with_several_routers_and_dtabs_in_the_cluster_it_still_does() {
    let expected = kustomize("overlays/routers");
    let config = parse(&crate::weir::config(&expected))[0].clone();
    let values = json!({ "namespace": { "create": true }, "config": config });
    same(&comparable(expected), &comparable(helm(&values.to_string())));
}

/// What the routers of a configuration need: ports of the node, and objects beside weir's own.
#[test]
fn the_routers_of_the_configuration_decide_over_rights() {
    let own: BTreeSet<String> = helm("{}").iter().map(name).collect();
    let dtabs = r#"{ "label": "a", "interpreter": { "kind": "io.l5d.k8s.dtabs", "name": "web" } }"#;
    let map = |name: &str, namespace: &str| {
        format!(
            r#"{{ "label": "{name}", "listen": "[::]:4160", "interpreter": {{ "kind": "io.l5d.k8s.configMap", {namespace}
               "name": "{name}", "filename": "x" }} }}"#
        )
    };
    let roles = ["ClusterRole/weir-dtab-editor", "ClusterRole/weir-dtab-viewer"];
    let crd = ["CustomResourceDefinition/dtabs.l5d.io"];
    let ingresses = ["ClusterRole/weir-ingress", "ClusterRoleBinding/weir-ingress"];
    let named = ["Role/weir-dtabs", "RoleBinding/weir-dtabs"];
    let two = r#"[{ "label": "a" }, { "label": "b", "listen": "10.0.0.7:4150" }, { "label": "c", "listen": "none" }]"#;
    for (outgoing, dtabs, added) in [
        ("{}", "{}", vec![]),
        (r#"[{ "label": "a", "interpreter": null, "identifier": null }]"#, "{}", vec![]),
        (r#"{ "identifier": "io.l5d.path" }"#, "{}", vec![]),
        (r#"{ "identifier": { "kind": "io.l5d.ingress" } }"#, "{}", ingresses.to_vec()),
        (
            r#"[{ "label": "a", "identifier": [{ "kind": "io.l5d.path" }, { "kind": "io.l5d.ingress" }] }]"#,
            "{}",
            ingresses.to_vec(),
        ),
        (r#"{ "listen": "none" }"#, "{}", vec![]),
        (two, "{}", vec![]),
        (r#"{ "listen": ["[::]:4140", "10.0.0.7:4150", "[fd00::7]:4150"] }"#, "{}", vec![]),
        (&format!("[{dtabs}]"), "{}", [&crd[..], &roles, &named].concat()),
        (dtabs, r#"{ "crd": false, "roles": false }"#, named.to_vec()),
        (&map("a", ""), "{}", named.to_vec()),
        (
            &format!("[{dtabs}, {}]", map("b", r#""namespace": "shop","#)),
            "{}",
            [&crd[..], &roles, &named].concat(),
        ),
    ] {
        let objects = helm(&format!(r#"{{ "config": {{ "outgoing": {outgoing} }}, "dtabs": {dtabs} }}"#));
        let found: BTreeSet<String> = objects.iter().map(name).collect();
        let added: BTreeSet<String> = added.into_iter().map(str::to_owned).collect();
        assert_eq!(found.difference(&own).cloned().collect::<BTreeSet<_>>(), added, "{outgoing}");
        let container = &find(&objects, "DaemonSet", "weir")["spec"]["template"]["spec"]["containers"][0];
        assert!(
            container["ports"].is_null(),
            "host ports would keep the next weir from the node: {outgoing}"
        );
        for object in &objects {
            assert_eq!(mistakes(object), Vec::<String>::new(), "{}", name(object));
        }
    }
    // One Role for the objects of a namespace, which names them.
    let outgoing = [map("a", ""), map("b", r#""namespace": "shop","#), map("c", ""), dtabs.to_owned()];
    let outgoing = format!("[{}]", outgoing.join(", "));
    let objects = helm(&format!(r#"{{ "config": {{ "outgoing": {outgoing} }} }}"#));
    let roles = objects.iter().filter(|it| it["kind"] == "Role");
    let named: BTreeMap<_, _> = roles
        .map(|it| {
            let rules = list(it, "/rules").iter().filter(|rule| rule["resources"] != json!(["events"]));
            let names: Vec<_> =
                rules.map(|rule| json!([rule["resources"][0], rule["resourceNames"]])).collect();
            (it["metadata"]["namespace"].as_str().unwrap(), names)
        })
        .collect();
    let of = |resource: &str, names: &[&str]| json!([resource, names]);
    let default = vec![of("dtabs", &["web"]), of("dtabs/status", &["web"]), of("configmaps", &["a", "c"])];
    assert_eq!(named, BTreeMap::from([("default", default), ("shop", vec![of("configmaps", &["b"])])]));
}

/// With the type every Dtab would go.
#[test]
fn the_type_dtab_stays_when_the_chart_goes() {
    let values =
        r#"{ "config": { "outgoing": { "interpreter": { "kind": "io.l5d.k8s.dtabs", "name": "web" } } } }"#;
    let objects = helm(values);
    let annotations = &find(&objects, "CustomResourceDefinition", "dtabs.l5d.io")["metadata"]["annotations"];
    assert_eq!(annotations["helm.sh/resource-policy"], "keep");
}

#[test]
fn each_value_reaches_its_object() {
    let values = json!({
        "image": { "repository": "a/b", "tag": "c", "pullPolicy": "Always", "pullSecrets": [{ "name": "s" }] },
        "config": {
            "workers": 3, "transparent": null,
            "outgoing": { "listen": "[::]:5140" }, "probes": { "listen": "10.0.0.7:5991" },
        },
        "resources": { "limits": { "memory": "1Gi" } },
        "priorityClassName": "other",
        "nodeSelector": { "pool": "x" },
        "tolerations": [{ "key": "k", "operator": "Exists" }],
        "affinity": { "nodeAffinity": {} },
        "podAnnotations": { "n": "v" },
        "podLabels": { "l": "v" },
        "extraEnv": [{ "name": "E", "value": "v" }],
        "updateStrategy": { "type": "OnDelete", "rollingUpdate": null },
        "terminationGracePeriodSeconds": 60,
        "serviceMonitor": { "enabled": true },
    });
    let objects = helm(&values.to_string());
    for object in &objects {
        assert_eq!(mistakes(object), Vec::<String>::new(), "{}", name(object));
    }
    let weir = find(&objects, "DaemonSet", "weir");
    let at = |path: &str| weir.pointer(path).cloned().unwrap_or(Value::Null);
    let (pod, container) = ("/spec/template", "/spec/template/spec/containers/0");
    assert_eq!(at(&format!("{container}/image")), "a/b:c");
    assert_eq!(at(&format!("{container}/imagePullPolicy")), "Always");
    let service = find(&objects, "Service", "weir-metrics");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 5991);
    assert_eq!(at(&format!("{container}/resources/limits/memory")), "1Gi");
    assert_eq!(at(&format!("{container}/env/4")), json!({ "name": "E", "value": "v" }));
    assert_eq!(at(&format!("{pod}/spec/imagePullSecrets/0/name")), "s");
    assert_eq!(at(&format!("{pod}/spec/priorityClassName")), "other");
    assert_eq!(at(&format!("{pod}/spec/nodeSelector/pool")), "x");
    assert_eq!(at(&format!("{pod}/spec/tolerations/0/key")), "k");
    assert_eq!(at(&format!("{pod}/spec/affinity")), json!({ "nodeAffinity": {} }));
    assert_eq!(at(&format!("{pod}/spec/terminationGracePeriodSeconds")), 60);
    assert_eq!(at(&format!("{pod}/metadata/annotations/n")), "v");
    assert_eq!(at(&format!("{pod}/metadata/labels/l")), "v");
    assert_eq!(at("/spec/updateStrategy"), json!({ "type": "OnDelete" }));
    let config = &parse(&crate::weir::config(&objects))[0];
    assert_eq!((&config["workers"], &config["transparent"]), (&json!(3), &Value::Null));
    assert!(config["discovery"]["kubernetes"].is_object(), "what is not overridden stays");
}

#[test]
fn a_value_that_is_none_of_the_charts_is_refused() {
    for (values, said) in [
        (r#"{ "toleration": [] }"#, "toleration"),
        (r#"{ "image": { "Tag": "1" } }"#, "Tag"),
        (r#"{ "image": { "tag": 1.10 } }"#, "/image/tag"),
        // kubelet would end a weir without probes again and again.
        (r#"{ "config": { "probes": null } }"#, "probes"),
        (r#"{ "config": { "probes": { "socket": null } } }"#, "socket"),
        (r#"{ "config": { "probes": { "socket": "/tmp/other" } } }"#, "socket"),
        // The next weir of a node could not start beside the one that is there.
        (r#"{ "config": { "drain": { "handover": null } } }"#, "drain.handover"),
        (r#"{ "config": { "outgoing": [] } }"#, "outgoing"),
        (r#"{ "config": { "outgoing": "[::]:4140" } }"#, "outgoing"),
        (r#"{ "dtabs": { "enabled": true } }"#, "enabled"),
    ] {
        let error = helm_refuses(values);
        assert!(error.contains(said), "{values}: {error}");
    }
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    assert_eq!(helm_lint().trim(), "");
}

/// The objects by name, without what only Helm adds, with weir's configuration as what it says instead of how.
fn comparable(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let mut comparable = BTreeMap::new();
    for mut object in objects {
        if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.retain(|label, _| !HELMS.contains(&label.as_str()));
        }
        if let Some(notes) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            notes.retain(|note, _| note != "helm.sh/resource-policy");
        }
        if let Some(text) = object.pointer_mut("/data/weir.yaml") {
            *text = parse(text.as_str().unwrap())[0].clone();
        }
        comparable.insert(name(&object), object);
    }
    comparable
}

#[track_caller]
fn same(expected: &BTreeMap<String, Value>, made: &BTreeMap<String, Value>) {
    assert_eq!(expected.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    let mut found = Vec::new();
    for (name, object) in expected {
        compare(name, object, &made[name], &mut found);
    }
    assert!(found.is_empty(), "kustomize's became Helm's:\n{}", found.join("\n"));
}
