//! A Kubernetes API server: Services and EndpointSlices of the cluster, and the pods of this node.
//!
//! ```text
//! follow (one for each resource: list, then watch; pace says what comes next and when) -> News
//!     -> run (store: Services and slices; node: pods and namespaces) -> watch<Arc<Catalog>>, watch<Arc<Residents>>
//! ```
//!
//! Promises: an event is in the catalog some 10 ms later, and costs what its service is large, not what the cluster is;
//! whatever happens to the server, what it last said stays in force, and of a new list only what differs goes on; an object
//! that makes no sense is named and left out, and takes no other along.
//!
//! Where the server's Service leads nowhere, its endpoints as they were last known are tried ([`detour`]).
//! kube-rs makes the connection (TLS, kubeconfig, service account tokens). Lists and watches are weir's own: kube-rs's
//! watcher gives up an entire list for one object it cannot read, and its pauses grow too long ([`pace`]).
//!
//! Deliberately absent: `sendInitialEvents`, which servers before 1.32 do not have; leases, events and everything else
//! that would write. What [`review`] creates are questions, which the server does not store.

mod access;
mod call;
mod client;
mod detour;
mod failure;
mod follow;
mod health;
mod node;
mod nodes;
mod pace;
mod resource;
mod review;
mod run;
mod shared;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use access::node_name;
pub use failure::Failure;
pub use health::{Counts, Health, State, Status};
pub use resource::Resource;
pub use review::{Review, Reviews};

use crate::config::Kubernetes;
use crate::domain::catalog::Catalog;
use crate::domain::pods::Residents;

/// A cluster that is watched, or will be.
pub struct Cluster {
    settings: watch::Sender<Arc<Kubernetes>>,
    outlets: run::Outlets,
    shutdown: CancellationToken,
}

impl Cluster {
    /// The cluster that `settings` lead to. Nothing is asked of it yet, and its catalog says that it is awaited.
    pub fn new(settings: Kubernetes, shutdown: CancellationToken) -> Self {
        let outlets = run::Outlets::default();
        Self { settings: watch::Sender::new(Arc::new(settings)), outlets, shutdown }
    }

    /// Is followed by these settings from now on. What is known stays until what they lead to is.
    pub fn change(&self, settings: Kubernetes) {
        self.settings.send_replace(Arc::new(settings));
    }

    /// The services, as they change: none until both Services and EndpointSlices were listed, but why they are
    /// [awaited](Catalog::awaited).
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.outlets.catalog.subscribe()
    }

    /// The pods of this node, as they change.
    pub fn residents(&self) -> watch::Receiver<Arc<Residents>> {
        self.outlets.residents.subscribe()
    }

    /// Whoever asks it about tokens, over connections of their own.
    pub fn reviews(&self) -> Reviews {
        Reviews::new(self.settings.subscribe(), self.outlets.detour.clone())
    }

    /// How it is doing.
    pub fn health(&self) -> Arc<Health> {
        self.outlets.health.clone()
    }

    /// Follows the cluster until shutdown. After an error it can be followed again: what is known stays meanwhile.
    ///
    /// # Errors
    ///
    /// A part of it panicked. An API server that does not do what it should is no error here: see [`Health`].
    pub fn follow(&self) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let (mut settings, outlets, shutdown) =
            (self.settings.subscribe(), self.outlets.clone(), self.shutdown.clone());
        async move {
            loop {
                let now = settings.borrow_and_update().clone();
                let node: Arc<str> = node_name(&now).into();
                tracing::info!(node = &*node, "following the cluster's API server");
                tokio::select! {
                    ended = run::run(now, node, outlets.clone(), shutdown.clone()) => return ended,
                    // Its sender lives as long as the cluster.
                    Ok(()) = settings.changed() => {}
                }
            }
        }
    }
}
