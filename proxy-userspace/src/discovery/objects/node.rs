//! `Node`, of `v1`: where the node is.

use serde::Deserialize;

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeObject {
    /// Its metadata.
    pub metadata: NodeMetadata,
}

/// A Node's `metadata`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeMetadata {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Option<NodeLabels>,
}

/// The one label that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct NodeLabels {
    /// `topology.kubernetes.io/zone`.
    #[serde(default, rename = "topology.kubernetes.io/zone")]
    pub zone: Option<String>,
}

impl NodeObject {
    /// The zone it is in, where that is told.
    pub fn zone(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.zone.as_deref().filter(|zone| !zone.is_empty())
    }
}
