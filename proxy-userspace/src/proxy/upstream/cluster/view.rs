//! What transformers make of a cluster: a cluster of its own, whose endpoints follow.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Cluster, ClusterPolicy};
use crate::domain::catalog::Endpoint;
use crate::domain::name::Path;
use crate::domain::route::{Transformer, transform};

/// A cluster, as some namer's transformers leave it. Its load, breakers and connections are its own, as those of linkerd's
/// clients are, whose names differ.
#[derive(Debug)]
pub struct View {
    /// What it is called, `/%/…` or `/$/weir.host/POD…`.
    pub id: Path,
    /// What happens to endpoints.
    pub steps: Box<[Transformer]>,
    /// Those that are left.
    pub cluster: Arc<Cluster>,
    /// This node's addresses.
    own: Box<[IpAddr]>,
    /// The number of the snapshot that its settings are of.
    since: u64,
}

impl View {
    pub(super) fn apply(&self, endpoints: &[Endpoint]) {
        self.cluster.apply(&transform(&self.steps, endpoints, &self.own));
    }

    /// Takes over the settings that it has in the snapshot number `since`, unless a later one's are known.
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
    /// What `steps` make of this cluster on a node with the addresses `own`, called `id`, and `name` in metrics; with these
    /// settings in the snapshot number `since`. It is made when it is first asked for.
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
        let cluster = Arc::new(Self::new(name, self.exempt, self.workers, Arc::new(policy)));
        let (id, steps, own) = (id.clone(), steps.into(), own.into());
        let view = View { id, steps, cluster: cluster.clone(), own, since };
        view.apply(&self.members.load().source);
        views.push(view);
        cluster
    }

    /// The clusters that transformers make of this one.
    pub fn views(&self) -> Vec<Arc<Self>> {
        self.views.lock().iter().map(|view| view.cluster.clone()).collect()
    }

    /// Gives each view the settings that `policy` says for it in the snapshot number `since`, and forgets those that have none.
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
