//! What transformers make of a cluster: a cluster of its own, whose endpoints follow.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Cluster, Plan};
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
}

impl View {
    pub(super) fn apply(&self, endpoints: &[Endpoint]) {
        self.cluster.apply(&transform(&self.steps, endpoints, &self.own));
    }
}

impl Cluster {
    /// What `steps` make of this cluster on a node with the addresses `own`, called `id`, and `name` in metrics. It is made when it is first
    /// asked for, and again when the plan for it is another.
    pub fn view(
        &self,
        steps: &[Transformer],
        (id, name): (&Path, Box<str>),
        plan: Plan,
        own: &[IpAddr],
    ) -> Arc<Self> {
        let mut views = self.views.lock();
        let known = views.iter().position(|view| view.id == *id && *view.steps == *steps);
        if let Some(view) = known.map(|at| &views[at]).filter(|view| view.cluster.plan == plan) {
            return view.cluster.clone();
        }
        let cluster = Arc::new(Self::new(name, plan));
        let view = View { id: id.clone(), steps: steps.into(), cluster: cluster.clone(), own: own.into() };
        view.apply(&self.members.load().source);
        if let Some(at) = known {
            views.swap_remove(at).cluster.retire();
        }
        views.push(view);
        cluster
    }

    /// The clusters that transformers make of this one.
    pub fn views(&self) -> Vec<Arc<Self>> {
        self.views.lock().iter().map(|view| view.cluster.clone()).collect()
    }

    /// Forgets the views that `keep` does not want.
    pub fn keep_views(&self, keep: impl Fn(&View) -> bool) {
        self.views.lock().retain(|view| {
            let stays = keep(view);
            if !stays {
                view.cluster.retire();
            }
            stays
        });
    }
}
