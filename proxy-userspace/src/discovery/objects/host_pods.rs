//! Which endpoints of a slice are in the network of this node.
//!
//! Whoever may write an EndpointSlice may write any address into it, this node's own included, and would reach through weir
//! what listens there for the node alone. So such an address counts only if the slice names a pod that has it: one of the
//! slice's own namespace (those of others may be named, too), with `hostNetwork`, on this node, as the API server tells of it.
//!
//! The API server writes the slice of its own Service, and no pod into it.
//!
//! Until the pods are known, after a start, a slice is believed that names a pod. Otherwise endpoints in the node's network
//! would fail as long as the API server does not list the pods.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::slice::{SliceEndpoint, SliceObject, TargetRef};
use crate::domain::pods::NodePods;

/// The namespace and the name of the slice that the API server writes for itself.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// The pods in the network of this node, by namespace and name, with their addresses; `None` until they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPods(Option<BTreeMap<String, BTreeMap<String, Vec<IpAddr>>>>);

impl HostPods {
    /// Those of `node_pods`.
    pub fn of(node_pods: &NodePods) -> Self {
        let mut pods = BTreeMap::<String, BTreeMap<String, Vec<IpAddr>>>::new();
        for pod in node_pods.pods.values().filter(|pod| pod.host_network && !pod.finished) {
            let addresses = pod.addresses.iter().map(IpAddr::to_canonical).collect();
            pods.entry((*pod.namespace).to_owned()).or_default().insert((*pod.name).to_owned(), addresses);
        }
        Self(Some(pods))
    }

    /// Whether the pods are known.
    pub fn are_known(&self) -> bool {
        self.0.is_some()
    }

    /// Whether these and `others` differ in `namespace`.
    pub fn differ_in(&self, namespace: &str, others: &Self) -> bool {
        match (&self.0, &others.0) {
            (Some(these), Some(others)) => these.get(namespace) != others.get(namespace),
            (these, others) => these.is_some() != others.is_some(),
        }
    }

    /// Whether `endpoint` of `slice` is in the network of this node.
    pub(super) fn have(&self, slice: &SliceObject, endpoint: &SliceEndpoint) -> bool {
        let metadata = &slice.metadata;
        if (metadata.namespace.as_str(), metadata.name.as_str()) == API_SERVER
            && slice.service_name() == Some(API_SERVER.1)
        {
            return true;
        }
        let (Some(address), Some(target)) = (endpoint.address, &endpoint.target) else { return false };
        if !target.is_pod_of(&metadata.namespace) {
            return false;
        }
        let Some(known) = &self.0 else { return true };
        let addresses = known.get(&metadata.namespace).and_then(|pods| pods.get(target.name.as_deref()?));
        addresses.is_some_and(|them| them.contains(&address.0.to_canonical()))
    }
}

impl TargetRef {
    /// Whether it names a pod of `namespace`.
    pub fn is_pod_of(&self, namespace: &str) -> bool {
        let of_namespace = self.namespace.as_deref().is_none_or(|it| it.is_empty() || it == namespace);
        of_namespace && self.kind.as_deref() == Some("Pod")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::domain::pods::Pod;

    fn node_pods(pods: &[(&str, &str, bool, bool, &str)]) -> NodePods {
        let pod = |(namespace, name, host_network, finished, address): &(&str, &str, bool, bool, &str)| {
            let pod = Pod {
                namespace: (*namespace).into(),
                name: (*name).into(),
                host_network: *host_network,
                finished: *finished,
                cgroup_uid: (*name).into(),
                addresses: vec![address.parse().unwrap(), "fd00::7".parse().unwrap()],
                wishes: Default::default(),
                sidecar: None,
                runtime_class: None,
            };
            (format!("{namespace}-{name}").into(), Arc::new(pod))
        };
        NodePods { pods: pods.iter().map(pod).collect(), known: true, ..NodePods::default() }
    }

    #[test]
    fn only_a_pod_of_the_nodes_network_in_the_slices_own_namespace_counts() {
        let pods = HostPods::of(&node_pods(&[
            ("shop", "agent", true, false, "10.0.0.7"),
            ("shop", "web", false, false, "10.0.0.7"),
            ("shop", "job", true, true, "10.0.0.7"),
            ("kube-system", "proxy", true, false, "10.0.0.7"),
        ]));
        let pod =
            |namespace: &str, name: &str| json!({ "kind": "Pod", "namespace": namespace, "name": name });
        for (address, target, counts) in [
            ("10.0.0.7", pod("shop", "agent"), true),
            ("::ffff:10.0.0.7", pod("shop", "agent"), true),
            ("fd00::7", pod("shop", "agent"), true),
            ("10.0.0.7", json!({ "kind": "Pod", "name": "agent" }), true),
            ("10.0.0.7", json!(null), false),
            ("10.0.0.7", json!({}), false),
            ("10.0.0.7", json!({ "kind": "Pod" }), false),
            ("10.0.0.7", json!({ "kind": "Node", "name": "agent" }), false),
            ("10.0.0.7", json!({ "name": "agent" }), false),
            ("10.0.0.7", pod("shop", "web"), false),
            ("10.0.0.7", pod("shop", "job"), false),
            ("10.0.0.7", pod("shop", "proxy"), false),
            ("10.0.0.7", pod("kube-system", "proxy"), false),
            ("10.0.0.7", pod("kube-system", "agent"), false),
            ("10.0.0.8", pod("shop", "agent"), false),
        ] {
            let slice: SliceObject = serde_json::from_value(json!({
                "metadata": {
                    "name": "kubernetes", "namespace": "shop",
                    "labels": { "kubernetes.io/service-name": "kubernetes" },
                },
                "endpoints": [{ "addresses": [address], "targetRef": target }],
            }))
            .unwrap();
            let endpoint = &slice.endpoints.as_ref().unwrap()[0];
            assert_eq!(pods.have(&slice, endpoint), counts, "{address} {target}");
            // Not known yet, any pod of the slice's namespace may be one.
            let may_be = endpoint.target.as_ref().is_some_and(|it| it.is_pod_of("shop"));
            assert_eq!(HostPods::default().have(&slice, endpoint), may_be, "{address} {target}");
        }
    }

    #[test]
    fn the_api_servers_own_slice_counts_and_no_other_of_its_service() {
        for (namespace, name, service, counts) in [
            ("default", "kubernetes", "kubernetes", true),
            ("default", "kubernetes-2", "kubernetes", false),
            ("default", "kubernetes", "web", false),
            ("shop", "kubernetes", "kubernetes", false),
        ] {
            let slice: SliceObject = serde_json::from_value(json!({
                "metadata": {
                    "name": name, "namespace": namespace, "labels": { "kubernetes.io/service-name": service },
                },
                "endpoints": [{ "addresses": ["10.0.0.7"] }],
            }))
            .unwrap();
            let endpoint = &slice.endpoints.as_ref().unwrap()[0];
            for pods in [HostPods::default(), HostPods::of(&NodePods::default())] {
                assert_eq!(pods.have(&slice, endpoint), counts, "{namespace}/{name} of {service}");
            }
        }
    }

    #[test]
    fn only_namespaces_in_which_a_pod_of_the_nodes_network_has_changed_differ() {
        let of = |pods: &[_]| HostPods::of(&node_pods(pods));
        let agent = ("shop", "agent", true, false, "10.0.0.7");
        let before = of(&[agent, ("dev", "web", false, false, "10.1.0.1")]);
        let differ = |others: &HostPods| {
            assert_eq!(before.differ_in("shop", others), others.differ_in("shop", &before));
            ["dev", "shop", "none"].map(|namespace| before.differ_in(namespace, others))
        };
        assert_eq!(differ(&of(&[agent])), [false, false, false]);
        assert_eq!(differ(&of(&[])), [false, true, false]);
        let moved = ("shop", "agent", true, false, "10.0.0.8");
        assert_eq!(differ(&of(&[moved, ("dev", "agent", true, false, "10.0.0.7")])), [true, true, false]);
        assert_eq!(differ(&HostPods::default()), [true, true, true], "not known");
    }
}
