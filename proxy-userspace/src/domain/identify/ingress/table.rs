//! The rules that are in force for one source.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::IngressRules;

/// The rules of one source, which change while requests go on. No part of what a router is: an edit of an Ingress changes
/// only these, and neither snapshot nor bound names.
#[derive(Debug, Default)]
pub struct IngressTable(ArcSwapOption<IngressRules>);

impl IngressTable {
    /// The rules in force; `None` as long as the cluster has not listed them.
    pub fn rules(&self) -> Option<Arc<IngressRules>> {
        self.0.load_full()
    }

    /// Puts `rules` into force.
    pub fn put(&self, rules: Arc<IngressRules>) {
        self.0.store(Some(rules));
    }
}
