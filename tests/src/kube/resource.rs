//! The resources the server has.

/// A kind of object, and where it is served.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) singular: &'static str,
    pub(super) kind: &'static str,
    pub(super) namespaced: bool,
    /// Whether it is there only where somebody has defined it (CustomResourceDefinition).
    pub(super) custom: bool,
}

const fn resource(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Resource {
    Resource { group, plural, singular, kind, namespaced, custom: false }
}

/// One of the Prometheus operator's.
const fn monitor(plural: &'static str, singular: &'static str, kind: &'static str) -> Resource {
    Resource { custom: true, ..resource("monitoring.coreos.com", plural, singular, kind, true) }
}

/// The group of linkerd's dtabs, whose only version is `v1alpha1`.
const DTABS: &str = "l5d.io";

/// All of them, in the order of their groups.
pub(super) static RESOURCES: [Resource; 25] = [
    resource("", "configmaps", "configmap", "ConfigMap", true),
    resource("", "events", "event", "Event", true),
    resource("", "namespaces", "namespace", "Namespace", false),
    resource("", "nodes", "node", "Node", false),
    resource("", "pods", "pod", "Pod", true),
    resource("", "resourcequotas", "resourcequota", "ResourceQuota", true),
    resource("", "secrets", "secret", "Secret", true),
    resource("", "serviceaccounts", "serviceaccount", "ServiceAccount", true),
    resource("", "services", "service", "Service", true),
    resource(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "customresourcedefinition",
        "CustomResourceDefinition",
        false,
    ),
    resource("apps", "daemonsets", "daemonset", "DaemonSet", true),
    resource("apps", "deployments", "deployment", "Deployment", true),
    resource("authentication.k8s.io", "tokenreviews", "tokenreview", "TokenReview", false),
    resource(
        "authorization.k8s.io",
        "subjectaccessreviews",
        "subjectaccessreview",
        "SubjectAccessReview",
        false,
    ),
    resource("discovery.k8s.io", "endpointslices", "endpointslice", "EndpointSlice", true),
    Resource { custom: true, ..resource(DTABS, "dtabs", "dtab", "Dtab", true) },
    monitor("podmonitors", "podmonitor", "PodMonitor"),
    monitor("servicemonitors", "servicemonitor", "ServiceMonitor"),
    resource("networking.k8s.io", "ingresses", "ingress", "Ingress", true),
    resource("networking.k8s.io", "networkpolicies", "networkpolicy", "NetworkPolicy", true),
    resource(
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        "clusterrolebinding",
        "ClusterRoleBinding",
        false,
    ),
    resource("rbac.authorization.k8s.io", "clusterroles", "clusterrole", "ClusterRole", false),
    resource("rbac.authorization.k8s.io", "rolebindings", "rolebinding", "RoleBinding", true),
    resource("rbac.authorization.k8s.io", "roles", "role", "Role", true),
    resource("policy", "poddisruptionbudgets", "poddisruptionbudget", "PodDisruptionBudget", true),
];

/// The version in which a group is served.
pub(super) fn version(group: &str) -> &'static str {
    if group == DTABS { "v1alpha1" } else { "v1" }
}

impl Resource {
    /// The one that is served as this.
    pub(super) fn served(group: &str, plural: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|it| it.group == group && it.plural == plural)
    }

    /// The one with this plural name.
    pub(super) fn of_plural(plural: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|it| it.plural == plural)
    }

    /// The one of this kind.
    pub(super) fn of_kind(kind: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|it| it.kind == kind)
    }

    /// `v1`, `discovery.k8s.io/v1`.
    pub(super) fn api_version(&self) -> String {
        let version = version(self.group);
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// `endpointslices.discovery.k8s.io`, as messages name it.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}
