//! This node's pods and the namespaces' annotations, as last reported.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::follow::Name;
use crate::discovery::objects::{HostPods, NamespaceObject, PodObject};
use crate::domain::pods::NodePods;

/// The input of enrolment.
#[derive(Debug, Default)]
pub(super) struct Node {
    node_pods: NodePods,
    /// The UID of each pod.
    uids: HashMap<Name, Arc<str>>,
    /// Objects in the unfinished lists so far.
    seen_pods: HashSet<Name>,
    seen_namespaces: HashSet<Arc<str>>,
    changed: bool,
}

impl Node {
    pub(super) fn set_pod(&mut self, object: &PodObject) {
        let (uid, pod) = object.resident();
        let name = Name { namespace: pod.namespace.clone(), name: pod.name.clone() };
        self.seen_pods.insert(name.clone());
        // A previous pod of the same name, whose deletion was not seen.
        if let Some(before) = self.uids.insert(name, uid.clone())
            && before != uid
        {
            self.changed |= self.node_pods.pods.remove(&before).is_some();
        }
        if self.node_pods.pods.get(&uid).is_none_or(|before| **before != pod) {
            self.node_pods.pods.insert(uid, Arc::new(pod));
            self.changed = true;
        }
    }

    pub(super) fn keep_pod(&mut self, name: Name) {
        self.seen_pods.insert(name);
    }

    pub(super) fn remove_pod(&mut self, name: &Name) {
        if let Some(uid) = self.uids.remove(name) {
            self.changed |= self.node_pods.pods.remove(&uid).is_some();
        }
    }

    pub(super) fn set_namespace(&mut self, object: NamespaceObject) {
        let name: Arc<str> = object.metadata.name.as_str().into();
        self.seen_namespaces.insert(name.clone());
        let wishes = object.metadata.annotations.unwrap_or_default().wishes;
        if wishes.is_empty() {
            self.changed |= self.node_pods.namespaces.remove(&name).is_some();
        } else if self.node_pods.namespaces.get(&name).is_none_or(|before| **before != wishes) {
            self.node_pods.namespaces.insert(name, Arc::new(wishes));
            self.changed = true;
        }
    }

    pub(super) fn keep_namespace(&mut self, name: &Name) {
        self.seen_namespaces.insert(name.name.clone());
    }

    pub(super) fn remove_namespace(&mut self, name: &Name) {
        self.changed |= self.node_pods.namespaces.remove(&name.name).is_some();
    }

    /// Starts a list of pods.
    pub(super) fn begin_pods(&mut self) {
        self.seen_pods.clear();
    }

    /// Starts a list of namespaces.
    pub(super) fn begin_namespaces(&mut self) {
        self.seen_namespaces.clear();
    }

    /// Ends a list of pods: those not in it are gone.
    pub(super) fn sweep_pods(&mut self) {
        let seen = std::mem::take(&mut self.seen_pods);
        let gone: Vec<_> = self.uids.keys().filter(|name| !seen.contains(name)).cloned().collect();
        for name in gone {
            self.remove_pod(&name);
        }
    }

    /// Ends a list of namespaces: those not in it are gone.
    pub(super) fn sweep_namespaces(&mut self) {
        let seen = std::mem::take(&mut self.seen_namespaces);
        let before = self.node_pods.namespaces.len();
        self.node_pods.namespaces.retain(|name, _| seen.contains(name));
        self.changed |= self.node_pods.namespaces.len() != before;
    }

    /// The pods in the node's own network.
    pub(super) fn host_pods(&self) -> HostPods {
        HostPods::of(&self.node_pods)
    }

    /// Whether anything changed since [`take`](Self::take).
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Returns the current state.
    pub(super) fn take(&mut self) -> NodePods {
        self.changed = false;
        self.node_pods.known = true;
        self.node_pods.clone()
    }
}
