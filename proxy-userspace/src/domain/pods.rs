//! The pods of this node and their annotations: the input of enrolment.
//!
//! Only this node's pods are stored, and only weir's annotations of them: a pod takes some 10 KB in the API server's
//! JSON, and some 200 bytes here.
//!
//! They also tell which pod a client is ([`Clients`]).
//!
//! Not here: the decision itself, and cgroups.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// The prefix of weir's annotations; [`DivertAnnotations`] hold the rest of the key.
pub const ANNOTATIONS: &str = "weir.dev/";

/// The annotations below `weir.dev/` of one object, not parsed: `divert` -> `enabled`.
pub type DivertAnnotations = BTreeMap<Arc<str>, Arc<str>>;

/// The pods of this node at one moment, and the namespaces' annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePods {
    /// The pods by their UID, as the API server spells it (`0b7f…-…`).
    pub pods: BTreeMap<Arc<str>, Arc<Pod>>,
    /// The namespaces with annotations of weir.
    pub namespaces: BTreeMap<Arc<str>, Arc<DivertAnnotations>>,
    /// Whether these are all pods: the API server's list has arrived.
    pub known: bool,
}

/// The pods of clients, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// Whether all pods of this node are included.
    pub known: bool,
    addresses: HashMap<IpAddr, AtAddress>,
    /// By the UID in the name of the pod's cgroup.
    cgroups: HashMap<Arc<str>, (Arc<str>, Arc<Pod>)>,
}

/// What is said of the pod whose cgroup a process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Its address, of the family asked for if it has one.
    Address(IpAddr),
    /// The pod, or its address, is not known yet.
    NotYet,
    /// Nothing is known of pods here, or the cgroup is not that of a single pod.
    Nothing,
}

/// Who has an address: several pods, when it was just reused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AtAddress {
    /// None for pods of different namespaces.
    namespace: Option<Arc<str>>,
    /// The UID of the pod, and the pod; none for several.
    pod: Option<(Arc<str>, Arc<Pod>)>,
}

impl Clients {
    /// The clients among `node_pods`. Not those with `hostNetwork`, which have the node's address, and not finished
    /// ones, whose address may already belong to another pod.
    pub fn new(node_pods: &NodePods) -> Self {
        let (mut addresses, mut cgroups) = (HashMap::<IpAddr, AtAddress>::new(), HashMap::new());
        for (uid, pod) in node_pods.pods.iter().filter(|(_, pod)| !pod.host_network && !pod.finished) {
            cgroups.insert(pod.cgroup_uid.clone(), (uid.clone(), pod.clone()));
            for address in &pod.addresses {
                let first = || AtAddress {
                    namespace: Some(pod.namespace.clone()),
                    pod: Some((uid.clone(), pod.clone())),
                };
                let at = addresses.entry(address.to_canonical()).or_insert_with(first);
                at.namespace.take_if(|namespace| *namespace != pod.namespace);
                at.pod.take_if(|(other, _)| other != uid);
            }
        }
        Self { known: node_pods.known, addresses, cgroups }
    }

    /// Whether no pod of this node has this address.
    pub fn is_stranger(&self, address: IpAddr) -> bool {
        self.known && !self.addresses.contains_key(&address.to_canonical())
    }

    /// The namespace of the pod that has this address.
    pub fn namespace(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.addresses.get(&address.to_canonical())?.namespace.as_ref()
    }

    /// The pod that has this address, and its UID.
    pub fn pod(&self, address: IpAddr) -> Option<(&Arc<str>, &Arc<Pod>)> {
        let (uid, pod) = self.addresses.get(&address.to_canonical())?.pod.as_ref()?;
        Some((uid, pod))
    }

    /// The address of the pod whose cgroup's name has this UID.
    pub fn address(&self, uid: Option<&str>, v6: bool) -> Said {
        let Some(uid) = uid.filter(|_| !self.cgroups.is_empty()) else { return Said::Nothing };
        let addresses = self.cgroups.get(uid).map_or(&[][..], |(_, pod)| &pod.addresses);
        let mut addresses = addresses.iter().map(IpAddr::to_canonical);
        let first = addresses.clone().next();
        addresses.find(|it| it.is_ipv6() == v6).or(first).map_or(Said::NotYet, Said::Address)
    }

    /// The pod whose cgroup's name has this UID, and its own UID.
    pub fn of_cgroup(&self, uid: &str) -> Option<(&Arc<str>, &Arc<Pod>)> {
        let (uid, pod) = self.cgroups.get(uid)?;
        Some((uid, pod))
    }
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// `spec.hostNetwork`: it has the node's addresses and network namespace.
    pub host_network: bool,
    /// Whether its phase is `Succeeded` or `Failed`: none of its containers run any more.
    pub finished: bool,
    /// The UID in its cgroup's name: for a static pod that of the annotation `kubernetes.io/config.mirror`, otherwise
    /// its own.
    pub cgroup_uid: Arc<str>,
    /// `status.podIPs`; empty until it has some.
    pub addresses: Vec<IpAddr>,
    /// Its annotations for weir.
    pub wishes: DivertAnnotations,
    /// The service mesh whose sidecar it has, as that mesh's injector says.
    pub sidecar: Option<Sidecar>,
    /// `spec.runtimeClassName`.
    pub runtime_class: Option<Arc<str>>,
}

impl Pod {
    /// Its RuntimeClass, if that is named after a runtime with a kernel of its own (gVisor's runsc, Kata Containers), as their
    /// documentation and the cloud providers name theirs: then this node's kernel does not see the pod's connections.
    pub fn other_kernel(&self) -> Option<&Arc<str>> {
        let is_one = |name: &str| ["gvisor", "runsc", "kata"].iter().any(|it| name.contains(it));
        self.runtime_class.as_ref().filter(|name| is_one(name))
    }
}

/// A service mesh that catches the connections of its pod, within the pod's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// Istio's.
    Istio,
    /// Istio's ambient mode: the proxy of the node (ztunnel), which listens within the pod.
    Ambient,
    /// Linkerd 2's.
    Linkerd,
}

impl Sidecar {
    /// Each with the annotation that the mesh itself writes to a pod whose connections it catches, and with its value where another
    /// one says that it does not.
    pub const ANNOTATIONS: [(&'static str, Option<&'static str>, Self); 3] = [
        ("sidecar.istio.io/status", None, Self::Istio),
        ("ambient.istio.io/redirection", Some("enabled"), Self::Ambient),
        ("linkerd.io/proxy-version", None, Self::Linkerd),
    ];

    /// What a pod with it is.
    pub fn says(self) -> &'static str {
        match self {
            Self::Istio => "it has Istio's sidecar",
            Self::Ambient => "it is in Istio's ambient mesh",
            Self::Linkerd => "it has Linkerd's sidecar",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, addresses: &[&str]) -> Pod {
        Pod {
            namespace: namespace.into(),
            name: "pod".into(),
            host_network: false,
            finished: false,
            cgroup_uid: "uid".into(),
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            wishes: DivertAnnotations::default(),
            sidecar: None,
            runtime_class: None,
        }
    }

    #[test]
    fn a_client_is_in_the_namespace_of_the_pod_that_has_its_address() {
        let pods = [
            pod("shop", &["10.1.0.1", "fd00::1"]),
            Pod { host_network: true, ..pod("kube-system", &["10.1.0.9"]) },
            Pod { finished: true, ..pod("jobs", &["10.1.0.2"]) },
            pod("dev", &["10.1.0.2", "10.1.0.3"]),
            pod("test", &["10.1.0.3"]),
            pod("dev", &["10.1.0.4"]),
            pod("dev", &["10.1.0.4"]),
        ];
        let pods = pods.into_iter().enumerate().map(|(at, pod)| (at.to_string().into(), Arc::new(pod)));
        let clients = Clients::new(&NodePods { pods: pods.collect(), known: true, ..NodePods::default() });
        for (address, namespace, is_stranger) in [
            ("10.1.0.1", Some("shop"), false),
            ("::ffff:10.1.0.1", Some("shop"), false),
            ("fd00::1", Some("shop"), false),
            ("10.1.0.9", None, true),
            ("10.1.0.2", Some("dev"), false),
            ("10.1.0.3", None, false),
            ("10.1.0.4", Some("dev"), false),
            ("10.1.0.5", None, true),
        ] {
            let at = address.parse().unwrap();
            assert_eq!(clients.namespace(at).map(|it| &**it), namespace, "{address}");
            assert_eq!(clients.is_stranger(at), is_stranger, "{address}");
            assert!(!Clients::default().is_stranger(at), "nobody is, as long as the pods are not known");
        }
        for (address, uid) in
            [("fd00::1", Some("0")), ("10.1.0.2", Some("3")), ("10.1.0.3", None), ("10.1.0.4", None)]
        {
            assert_eq!(clients.pod(address.parse().unwrap()).map(|it| &**it.0), uid, "{address}");
        }
    }

    #[test]
    fn a_pods_address_is_what_is_said_of_it() {
        let of = |uid: &str, addresses: &[&str]| Pod { cgroup_uid: uid.into(), ..pod("shop", addresses) };
        let pods = [
            of("both", &["10.1.0.1", "fd00::1"]),
            of("four", &["10.1.0.2"]),
            of("new", &[]),
            of("mapped", &["::ffff:10.1.0.3"]),
        ];
        let pods = pods.into_iter().map(|pod| (pod.cgroup_uid.clone(), Arc::new(pod))).collect();
        let clients = Clients::new(&NodePods { pods, known: true, ..NodePods::default() });
        let at = |address: &str| Said::Address(address.parse().unwrap());
        for (uid, v6, said) in [
            (Some("both"), false, at("10.1.0.1")),
            (Some("both"), true, at("fd00::1")),
            (Some("four"), true, at("10.1.0.2")),
            (Some("mapped"), false, at("10.1.0.3")),
            (Some("new"), false, Said::NotYet),
            (Some("other"), false, Said::NotYet),
            (None, false, Said::Nothing),
        ] {
            assert_eq!(clients.address(uid, v6), said, "{uid:?}");
        }
        assert_eq!(Clients::default().address(Some("both"), false), Said::Nothing);
    }
}
