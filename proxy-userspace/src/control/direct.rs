//! Connections that were opened while nothing diverted them, and still live: they lead to a Service without weir.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::telemetry::Counter;

/// What is known of them.
#[derive(Debug, Default)]
pub struct Direct {
    /// As they were at the last look.
    pub seen: ArcSwap<SeenDirect>,
    /// Those that were ended because they were idle (`transparent.adopt: close-idle`).
    pub closed: Counter,
    /// Looks into a network namespace, and how long these took, in microseconds.
    pub looks: Counter,
    /// See [`Self::looks`].
    pub took: Counter,
}

/// The direct connections of this node's enrolled pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenDirect {
    /// How many, by pod: NAMESPACE/NAME; or the pod's UID, if nothing tells its name; or the file of the network namespace.
    pub by_pod: BTreeMap<Arc<str>, usize>,
    /// Network namespaces that were looked into.
    pub looked: usize,
    /// Those that were not, or not wholly.
    pub unseen: usize,
    /// Why: of one of these, or of all.
    pub why: Option<Arc<str>>,
}

impl SeenDirect {
    /// How many in all.
    pub fn connections(&self) -> usize {
        self.by_pod.values().sum()
    }
}
