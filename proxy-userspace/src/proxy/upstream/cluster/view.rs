//! A cluster that transformers derive from another; its endpoints follow that one's.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Cluster, ClusterPolicy};
use crate::domain::catalog::Endpoint;
use crate::domain::name::Path;
use crate::domain::route::{Transformer, transform};

/// A cluster, as some namer's transformers leave it. It has its own load, breakers and connections, like linkerd's
/// clients with different names.
#[derive(Debug)]
pub struct View {
    /// Its name, `/%/…` or `/$/weir.host/POD…`.
    pub id: Path,
    /// The transformers, in order.
    pub steps: Box<[Transformer]>,
    /// The cluster with the remaining endpoints.
    pub cluster: Arc<Cluster>,
    /// This node's addresses.
    own: Box<[IpAddr]>,
    /// The number of the snapshot that its settings come from.
    since: u64,
}

impl View {
    pub(super) fn apply(&self, endpoints: &[Endpoint]) {
        self.cluster.apply(&transform(&self.steps, endpoints, &self.own));
    }

    /// Adopts its settings of the snapshot number `since`, unless it has those of a later one.
    fn adopt(&mut self, policy: ClusterPolicy, since: u64) {
        if since > self.since {
            self.since = since;
            if **self.cluster.policy() != policy {
                self.cluster.adopt(&Arc::new(policy));
            }
        }
    }
}

impl Cluster {
    /// The view that `steps` derive from this cluster on a node with the addresses `own`, with name `id`, and `name` in
    /// metrics; with these settings from the snapshot number `since`. Created when first requested.
    pub fn view(
        &self,
        steps: &[Transformer],
        (id, name): (&Path, Box<str>),
        (policy, since): (ClusterPolicy, u64),
        own: &[IpAddr],
    ) -> Arc<Self> {
        let mut views = self.views.lock();
        if let Some(view) = views.iter_mut().find(|view| view.id == *id && *view.steps == *steps) {
            view.adopt(policy, since);
            return view.cluster.clone();
        }
        let cluster = Arc::new(Self::new(name, self.exempt, self.common.workers, Arc::new(policy)));
        let (id, steps, own) = (id.clone(), steps.into(), own.into());
        let view = View { id, steps, cluster: cluster.clone(), own, since };
        view.apply(&self.members.load().source);
        views.push(view);
        cluster
    }

    /// The clusters that transformers derive from this one.
    pub fn views(&self) -> Vec<Arc<Self>> {
        self.views.lock().iter().map(|view| view.cluster.clone()).collect()
    }

    /// Gives each view its settings from `policy` in the snapshot number `since`, and removes those that have none.
    pub fn keep_views(&self, since: u64, policy: impl Fn(&View) -> Option<ClusterPolicy>) {
        self.views.lock().retain_mut(|view| match policy(view) {
            Some(policy) => {
                view.adopt(policy, since);
                true
            }
            None => {
                view.cluster.retire();
                false
            }
        });
    }
}
