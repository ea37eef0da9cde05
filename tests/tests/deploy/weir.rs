//! What the manifests say of weir itself: its rights, its ports, its configuration, and what it changes on a node.

use std::collections::BTreeSet;

use e2e::Weir;
use serde_json::{Value, json};

use crate::objects::{find, helm, kustomize, list, parse};

fn container(objects: &[Value]) -> Value {
    list(find(objects, "DaemonSet", "weir"), "/spec/template/spec/containers")[0].clone()
}

/// weir's configuration, as the ConfigMap has it.
pub(crate) fn config(objects: &[Value]) -> String {
    find(objects, "ConfigMap", "weir")["data"]["weir.yaml"].as_str().unwrap().to_owned()
}

#[test]
fn the_config_maps_configuration_passes_the_check() {
    let folders = [".", "overlays/everything", "overlays/routers", "overlays/sockets-on-node"];
    for objects in folders.into_iter().map(kustomize).chain([helm("{}")]) {
        let config = config(&objects);
        let exit = Weir::new().config(&config).run(&["check", "CONFIG"]);
        assert_eq!(exit.code, Some(0), "{}\n{config}", exit.stderr);
    }
}

/// Discovery lists and watches these five, and readers of the metrics are asked about; that weir asks for no more is shown
/// in [`crate::install`].
#[test]
fn weir_may_read_what_discovery_reads_and_ask_about_tokens_and_nothing_else() {
    let objects = kustomize(".");
    let mut rights = BTreeSet::new();
    for rule in list(find(&objects, "ClusterRole", "weir"), "/rules") {
        let words = |key: &str| {
            let words = rule[key].as_array().unwrap().iter();
            words.map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for (group, resource) in words("apiGroups")
            .iter()
            .flat_map(|group| words("resources").into_iter().map(move |resource| (group.clone(), resource)))
        {
            rights.extend(words("verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
        }
        assert_eq!(rule.as_object().unwrap().len(), 3, "a rule with more than groups, resources and verbs");
    }
    let expected: BTreeSet<_> = [
        ("", "services"),
        ("", "namespaces"),
        ("", "nodes"),
        ("", "pods"),
        ("discovery.k8s.io", "endpointslices"),
    ]
    .iter()
    .flat_map(|(group, resource)| {
        ["list", "watch"].map(|verb| (group.to_string(), resource.to_string(), verb.to_owned()))
    })
    .chain(
        [("authentication.k8s.io", "tokenreviews"), ("authorization.k8s.io", "subjectaccessreviews")]
            .map(|(group, resource)| (group.to_owned(), resource.to_owned(), "create".to_owned())),
    )
    .collect();
    assert_eq!(rights, expected);
    let roles = objects.iter().filter(|object| object["kind"].as_str().unwrap().contains("Role")).count();
    assert_eq!(roles, 3, "weir's role with its binding, and that of those who read the metrics");
    let reader = find(&objects, "ClusterRole", "weir-metrics-reader");
    assert_eq!(reader["rules"], json!([{ "nonResourceURLs": ["/metrics"], "verbs": ["get"] }]));
}

#[test]
fn each_weir_of_a_node_is_probed_for_itself_and_declares_no_port() {
    for objects in [kustomize("."), helm("{}")] {
        let container = container(&objects);
        // On the node's network declared ports are host ports, and no second weir would be put on the node.
        assert!(container["ports"].is_null(), "{}", container["ports"]);
        let socket = &parse(&config(&objects))[0]["probes"]["socket"];
        assert_eq!(socket, "/run/probes/weir.sock", "where `weir probe` asks");
        for (probe, what) in [("livenessProbe", "live"), ("readinessProbe", "ready")] {
            assert_eq!(container[probe]["exec"]["command"], json!(["/usr/bin/weir", "probe", what]));
        }
        let pod = &find(&objects, "DaemonSet", "weir")["spec"]["template"]["spec"];
        let mount =
            list(&container, "/volumeMounts").iter().find(|it| it["mountPath"] == "/run/probes").unwrap();
        let volume = list(pod, "/volumes").iter().find(|it| it["name"] == mount["name"]).unwrap();
        assert!(volume["emptyDir"].is_object(), "no other pod has it: {volume}");
    }
}

#[test]
fn the_monitors_find_the_metrics_at_the_probes_port() {
    let values = r#"{ "podMonitor": { "enabled": true }, "serviceMonitor": { "enabled": true } }"#;
    for objects in [kustomize("overlays/prometheus-operator"), helm(values)] {
        let service = find(&objects, "Service", "weir-metrics");
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 9991);
        let endpoint = &find(&objects, "PodMonitor", "weir")["spec"]["podMetricsEndpoints"][0];
        assert!(endpoint["port"].is_null(), "the pods declare none");
        let address = |rule: &&Value| rule["targetLabel"] == "__address__";
        let rules: Vec<_> = list(endpoint, "/relabelings").iter().filter(address).collect();
        let made: Vec<_> = rules.iter().map(|it| (&it["regex"], &it["replacement"])).collect();
        assert_eq!(made, [(&json!("([^:]+)"), &json!("$1:9991")), (&json!("(.+:.+)"), &json!("[$1]:9991"))]);
    }
}

#[test]
fn weir_gets_three_capabilities_and_no_other_privilege() {
    let node = helm(r#"{ "config": { "transparent": { "sockets": "node" } } }"#);
    for (objects, in_pods) in [
        (kustomize("."), true),
        (kustomize("overlays/everything"), true),
        (helm("{}"), true),
        (kustomize("overlays/sockets-on-node"), false),
        (node, false),
    ] {
        let container = container(&objects);
        let context = &container["securityContext"];
        // Without CAP_, as Kubernetes wants it: a runtime ignores names that it does not know.
        let added: &[&str] = if in_pods { &["BPF", "NET_ADMIN", "SYS_ADMIN"] } else { &["BPF", "NET_ADMIN"] };
        assert_eq!(context["capabilities"], json!({ "drop": ["ALL"], "add": added }));
        assert!(context["privileged"].is_null());
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        let pod = &find(&objects, "DaemonSet", "weir")["spec"]["template"]["spec"];
        assert_eq!(pod["hostNetwork"], true);
        assert!(pod["hostPID"].is_null() && pod["hostIPC"].is_null());
        let host_paths: Vec<_> =
            list(pod, "/volumes").iter().filter_map(|volume| volume.get("hostPath")).collect();
        let handover = json!({ "path": "/run/weir", "type": "DirectoryOrCreate" });
        let cgroup = json!({ "path": "/sys/fs/cgroup", "type": "Directory" });
        assert!(host_paths.contains(&&handover) && host_paths.contains(&&cgroup), "{host_paths:?}");
        let netns = json!({ "path": "/run/netns", "type": "DirectoryOrCreate" });
        assert_eq!(host_paths.contains(&&netns), in_pods, "{host_paths:?}");
        assert_eq!(host_paths.len(), 2 + usize::from(in_pods), "{host_paths:?}");
        // What is mounted on the node later is to be seen in the container, too.
        let mounts = list(&container, "/volumeMounts").iter();
        let follows = mounts.filter(|it| it["mountPropagation"] == "HostToContainer").count();
        assert_eq!(follows, 1 + usize::from(in_pods));
        for mount in list(&container, "/volumeMounts") {
            let writable = ["/run/weir", "/run/probes"].contains(&mount["mountPath"].as_str().unwrap());
            assert_eq!(mount["readOnly"] == true, !writable, "{mount}");
        }
    }
}

#[test]
fn the_next_weir_starts_beside_the_old_one_which_may_drain_before_it_is_killed() {
    for objects in [kustomize("."), helm("{}")] {
        let weir = find(&objects, "DaemonSet", "weir");
        let strategy = &weir["spec"]["updateStrategy"]["rollingUpdate"];
        assert_eq!(strategy, &json!({ "maxSurge": 1, "maxUnavailable": 0 }));
        let config = &parse(&config(&objects))[0];
        let span =
            |value: &Value, unit| value.as_str().unwrap().strip_suffix(unit).unwrap().parse::<u64>().unwrap();
        // A weir that is told to stop while the next one gets ready waits for it, and may then have to end by itself.
        let grace =
            60 * span(&config["drain"]["handover"]["grace"], 'm') + span(&config["drain"]["grace"], 's');
        let patience = weir["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(patience >= grace + 15, "killed after {patience} s while draining for {grace} s");
    }
}

#[test]
fn every_node_gets_a_weir_whatever_its_taints() {
    let objects = kustomize(".");
    let pod = &find(&objects, "DaemonSet", "weir")["spec"]["template"]["spec"];
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(
        pod["dnsPolicy"], "ClusterFirstWithHostNet",
        "on the host's network it would not know cluster names"
    );
    let namespace = &find(&objects, "Namespace", "weir")["metadata"]["labels"];
    assert_eq!(namespace["pod-security.kubernetes.io/enforce"], "privileged");
}

#[test]
fn the_node_and_the_namespace_come_by_the_downward_api() {
    let container = container(&kustomize("."));
    let field = |name: &str| {
        let variable = list(&container, "/env").iter().find(|variable| variable["name"] == name).unwrap();
        variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap().to_owned()
    };
    let fields = ["NODE_NAME", "NODE_IP", "POD_NAMESPACE", "POD_UID"].map(field);
    assert_eq!(fields, ["spec.nodeName", "status.hostIP", "metadata.namespace", "metadata.uid"]);
}

#[test]
fn hello_and_world_are_used_both_ways() {
    let objects = kustomize("examples/hello-world");
    let proxy_of = |deployment: &str| {
        let pod = find(&objects, "Deployment", deployment);
        let environment = list(pod, "/spec/template/spec/containers/0/env");
        environment.iter().find(|variable| variable["name"] == "http_proxy").map(|it| it["value"].clone())
    };
    assert_eq!(proxy_of("diverted"), None, "nothing at all");
    assert_eq!(proxy_of("kismatic"), Some(json!("$(NODE_NAME):4140")));
    assert_eq!(proxy_of("explicit"), Some(json!("http://$(NODE_IP):4140")));
}
