//! `Pod` and `Namespace`, of `v1`: the input of enrolment.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::meta::Scalar;
use crate::domain::pods::{ANNOTATIONS, DivertAnnotations, Pod, Sidecar};

/// On the mirror pod of a static pod: the hash that replaces its UID on the node. kubelet deletes a pod that has this
/// annotation but is no mirror pod; `kubernetes.io/config.hash`, with the same value, can be set on any pod by anybody.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// How many of weir's annotations are kept per object, and how much of each; an API server accepts 256 KiB of them.
const KEPT: usize = 32;
const KEPT_BYTES: usize = 4096;

/// A Pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PodObject {
    /// Its metadata.
    pub metadata: PodMetadata,
    /// Its spec.
    #[serde(default)]
    pub spec: PodSpec,
    /// Its status.
    #[serde(default)]
    pub status: Option<PodStatus>,
}

/// A Namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NamespaceObject {
    /// Its metadata.
    pub metadata: NamespaceMetadata,
}

/// A Pod's `metadata`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PodMetadata {
    /// Its name.
    pub name: String,
    /// Its namespace; `default` where none is written.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Its UID, which distinguishes it from an earlier pod of the same name.
    pub uid: String,
    /// Its annotations.
    #[serde(default)]
    pub annotations: Option<PodAnnotations>,
}

/// A Namespace's `metadata`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NamespaceMetadata {
    /// Its name.
    pub name: String,
    /// Its annotations.
    #[serde(default)]
    pub annotations: Option<PodAnnotations>,
}

/// The annotations that are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodAnnotations {
    /// weir's own.
    pub wishes: DivertAnnotations,
    /// `kubernetes.io/config.mirror`.
    pub config_mirror: Option<Arc<str>>,
    /// The mesh whose injector has left its annotation.
    pub sidecar: Option<Sidecar>,
}

/// A Pod's `spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// The node it runs on, once scheduled.
    #[serde(default)]
    pub node_name: Option<String>,
    /// Whether it uses the node's network.
    #[serde(default)]
    pub host_network: bool,
    /// The RuntimeClass that says what runs it; the node's usual runtime without one.
    #[serde(default)]
    pub runtime_class_name: Option<String>,
}

/// A Pod's `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[serde(default)]
    pub phase: Option<String>,
    /// Its addresses.
    #[serde(default, rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIp>>,
}

/// One of a Pod's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PodIp {
    /// The address, as text: an invalid one must not hide the pod.
    #[serde(default)]
    pub ip: Option<String>,
}

impl PodObject {
    /// Its UID, and the data that enrolment uses.
    pub fn resident(&self) -> (Arc<str>, Pod) {
        let uid: Arc<str> = self.metadata.uid.as_str().into();
        let annotations = self.metadata.annotations.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let addresses =
            status.pod_ips.iter().flatten().filter_map(|it| it.ip.as_ref()?.parse::<IpAddr>().ok());
        let namespace = self.metadata.namespace.as_deref().filter(|it| !it.is_empty()).unwrap_or("default");
        let pod = Pod {
            namespace: namespace.into(),
            name: self.metadata.name.as_str().into(),
            host_network: self.spec.host_network,
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            cgroup_uid: annotations.config_mirror.filter(|it| is_hash(it)).unwrap_or_else(|| uid.clone()),
            addresses: addresses.collect(),
            wishes: annotations.wishes,
            sidecar: annotations.sidecar,
            runtime_class: self.spec.runtime_class_name.as_deref().map(Into::into),
        };
        (uid, pod)
    }
}

/// Unused content is skipped while reading: it can be 256 KiB for each pod.
impl<'de> Deserialize<'de> for PodAnnotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Annotations;

        impl<'de> Visitor<'de> for Annotations {
            type Value = PodAnnotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PodAnnotations, A::Error> {
                let mut kept = PodAnnotations::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.strip_prefix(ANNOTATIONS) {
                        Some(wish) if kept.wishes.len() < KEPT => {
                            let Scalar(text) = map.next_value()?;
                            kept.wishes.insert(wish.into(), start_of(&text).into());
                        }
                        None if key == MIRROR => {
                            kept.config_mirror = Some(map.next_value::<String>()?.into());
                        }
                        Some(_) | None => match Sidecar::ANNOTATIONS.iter().find(|(its, ..)| *its == key) {
                            Some((_, Some(value), mesh)) => {
                                let Scalar(text) = map.next_value()?;
                                kept.sidecar = kept.sidecar.or((text == *value).then_some(*mesh));
                            }
                            found => {
                                kept.sidecar = kept.sidecar.or(found.map(|(.., mesh)| *mesh));
                                map.next_value::<IgnoredAny>()?;
                            }
                        },
                    }
                }
                Ok(kept)
            }
        }

        deserializer.deserialize_map(Annotations)
    }
}

/// Whether it can be a static pod's hash. UIDs of other pods have dashes, and no pod may claim another's cgroup.
fn is_hash(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn start_of(text: &str) -> &str {
    &text[..text.floor_char_boundary(KEPT_BYTES)]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: Value, spec: Value, status: Value) -> Pod {
        let pod = json!({ "metadata": metadata, "spec": spec, "status": status });
        serde_json::from_value::<PodObject>(pod).unwrap().resident().1
    }

    #[test]
    fn only_what_enrolment_decides_by_is_kept() {
        let metadata = json!({ "name": "web-0", "namespace": "shop", "uid": "0b7f", "annotations": {
            "weir.dev/divert": "disabled", "other.dev/x": { "not": "a text" }, "weir.dev/skip-ports": "80" } });
        let found = pod(
            metadata,
            json!({ "nodeName": "n1", "containers": [{}] }),
            json!({ "phase": "Running", "podIPs": [{ "ip": "10.1.0.7" }, { "ip": "nonsense" }, {}] }),
        );
        assert_eq!((&*found.namespace, &*found.name, &*found.cgroup_uid), ("shop", "web-0", "0b7f"));
        assert_eq!(found.addresses, [IpAddr::from([10, 1, 0, 7])]);
        assert_eq!(found.wishes.keys().map(|key| &**key).collect::<Vec<_>>(), ["divert", "skip-ports"]);
        assert!(!found.host_network && !found.finished && found.runtime_class.is_none());
        let spec = json!({ "runtimeClassName": "gvisor" });
        assert_eq!(
            pod(json!({ "name": "a", "uid": "1" }), spec, json!(null)).runtime_class.as_deref(),
            Some("gvisor")
        );
    }

    #[test]
    fn a_static_pods_cgroup_is_named_by_its_hash_and_a_finished_pod_is_told_by_its_phase() {
        let metadata = json!({ "name": "etcd-n1", "uid": "0b7f", "annotations": {
            "kubernetes.io/config.hash": "dbe0", "kubernetes.io/config.mirror": "dbe0" } });
        let found = pod(metadata, json!({ "hostNetwork": true }), json!({ "phase": "Succeeded" }));
        assert_eq!((&*found.namespace, &*found.cgroup_uid), ("default", "dbe0"));
        assert!(found.host_network && found.finished);
        let bare = pod(json!({ "name": "a", "uid": "1", "annotations": null }), json!({}), json!(null));
        assert!(!bare.finished && bare.wishes.is_empty());
    }

    #[test]
    fn a_sidecar_is_told_by_the_annotation_of_who_has_put_it_there() {
        for (annotation, value, sidecar) in [
            ("sidecar.istio.io/status", "{\"containers\":[]}", Some(Sidecar::Istio)),
            ("ambient.istio.io/redirection", "enabled", Some(Sidecar::Ambient)),
            ("ambient.istio.io/redirection", "disabled", None),
            ("ambient.istio.io/redirection", "pending", None),
            ("linkerd.io/proxy-version", "edge-26.1.1", Some(Sidecar::Linkerd)),
            // What is only asked for.
            ("sidecar.istio.io/inject", "true", None),
            ("linkerd.io/inject", "enabled", None),
            ("config.linkerd.io/proxy-version", "edge-26.1.1", None),
        ] {
            let metadata = json!({ "name": "a", "uid": "1", "annotations": { annotation: value } });
            assert_eq!(pod(metadata, json!({}), json!(null)).sidecar, sidecar, "{annotation}: {value}");
        }
    }

    #[test]
    fn no_annotation_makes_a_pod_another() {
        let other = "0b7f1c1e-0000-4000-8000-000000000042";
        for (key, value) in [
            ("kubernetes.io/config.hash", "dbe0"),
            ("kubernetes.io/config.hash", other),
            ("kubernetes.io/config.mirror", other),
            ("kubernetes.io/config.mirror", ""),
        ] {
            let metadata = json!({ "name": "a", "uid": "1", "annotations": { key: value } });
            assert_eq!(&*pod(metadata, json!({}), json!(null)).cgroup_uid, "1", "{key}: {value}");
        }
    }

    #[test]
    fn endless_annotations_are_cut() {
        let many: serde_json::Map<_, _> =
            (0..1000).map(|it| (format!("weir.dev/{it}"), json!("\u{e9}".repeat(50_000)))).collect();
        let found = pod(json!({ "name": "a", "uid": "1", "annotations": many }), json!({}), json!(null));
        assert_eq!(found.wishes.len(), KEPT);
        assert!(found.wishes.values().all(|text| text.len() <= KEPT_BYTES));
    }
}
