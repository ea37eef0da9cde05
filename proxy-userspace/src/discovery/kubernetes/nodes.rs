//! The addresses of the cluster's nodes, as last reported, up to the configured limit.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::discovery::objects::NodeObject;

/// What is known of the nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    addresses: HashMap<Arc<str>, SmallVec<[IpAddr; 2]>>,
    /// Maximum number of nodes.
    most: usize,
    /// Nodes in the unfinished list so far.
    seen: HashSet<Arc<str>>,
    changed: bool,
}

impl Nodes {
    /// None so far, and never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Adds a node, unless there are too many; returns whether it did.
    pub(super) fn set(&mut self, object: &NodeObject) -> bool {
        let name: Arc<str> = object.metadata.name.as_str().into();
        let addresses = object.addresses().collect();
        if self.addresses.len() >= self.most && !self.addresses.contains_key(&name) {
            return false;
        }
        self.seen.insert(name.clone());
        if self.addresses.get(&name) != Some(&addresses) {
            self.addresses.insert(name, addresses);
            self.changed = true;
        }
        true
    }

    /// Records that the node exists, whatever its content.
    pub(super) fn keep(&mut self, name: &Arc<str>) {
        self.seen.insert(name.clone());
    }

    pub(super) fn remove(&mut self, name: &Arc<str>) {
        self.changed |= self.addresses.remove(name).is_some();
    }

    /// Starts a list.
    pub(super) fn begin(&mut self) {
        self.seen.clear();
    }

    /// Ends a list: nodes not in it are gone, and so may be those published by an earlier fold.
    pub(super) fn sweep(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.addresses.retain(|name, _| seen.contains(name));
        self.changed = true;
    }

    /// Whether anything may have changed since [`take`](Self::take).
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// All known addresses.
    pub(super) fn take(&mut self) -> BTreeSet<IpAddr> {
        self.changed = false;
        self.addresses.values().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, addresses: &[(&str, &str)]) -> NodeObject {
        let addresses = addresses.iter().map(|(kind, at)| json!({ "type": kind, "address": at }));
        let status = json!({ "addresses": addresses.collect::<Vec<_>>() });
        serde_json::from_value(json!({ "metadata": { "name": name }, "status": status })).unwrap()
    }

    fn at(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn only_what_is_a_nodes_own_in_the_cluster_is_its_address() {
        let mut nodes = Nodes::new(10);
        let all = [
            ("InternalIP", "10.0.0.1"),
            ("InternalIP", "fd00::1"),
            ("InternalIP", "::ffff:10.0.0.2"),
            ("InternalIP", "node-1"),
            ("InternalIP", ""),
            ("ExternalIP", "203.0.113.1"),
            ("Hostname", "10.0.0.9"),
            ("InternalDNS", "node-1.internal"),
        ];
        assert!(nodes.set(&node("n1", &all)));
        assert!(nodes.set(&serde_json::from_value(json!({ "metadata": { "name": "n2" } })).unwrap()));
        assert_eq!(nodes.take(), at(&["10.0.0.1", "fd00::1", "10.0.0.2"]));
    }

    #[test]
    fn what_a_list_does_not_have_is_gone_and_a_change_of_nothing_is_none() {
        let mut nodes = Nodes::new(2);
        let [one, two, three] = [("n1", "10.0.0.1"), ("n2", "10.0.0.2"), ("n3", "10.0.0.3")]
            .map(|(name, at)| node(name, &[("InternalIP", at)]));
        assert!(nodes.set(&one) && nodes.set(&two) && !nodes.set(&three), "two at most");
        assert_eq!(nodes.take(), at(&["10.0.0.1", "10.0.0.2"]));
        assert!(nodes.set(&one) && !nodes.has_changed());
        nodes.begin();
        nodes.keep(&"n2".into());
        nodes.sweep();
        assert!(nodes.has_changed() && nodes.set(&three));
        assert_eq!(nodes.take(), at(&["10.0.0.2", "10.0.0.3"]));
        nodes.remove(&"n9".into());
        assert!(!nodes.has_changed());
    }
}
