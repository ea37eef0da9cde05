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
//! kube-rs makes the connection (TLS, kubeconfig, service account tokens).
//!
//! Deliberately absent:
//!
//! - `sendInitialEvents`, which servers before 1.32 do not have;
//! - leases, events and everything else that would write. What [`review`] creates are questions, which the server does not
//!   store;
//! - kube-runtime's `watcher` and its backoff. As of 5.0.0 it would take the place of [`pace`], [`call`] and some 300 lines
//!   of [`follow`] and [`resource`], and add 26 packages to `Cargo.lock`. It lists in pages, watches metadata alone and
//!   takes bookmarks as weir does, but does not keep these promises (the API-server suite has
//!   a test for each but the length of lines):
//!   - *410*: it lists again after an `ERROR` event of code 410. When the watch request itself is answered 410, it asks
//!     for the same version again, and never lists.
//!   - *A restored server*: versions are opaque to it. A watch of a version that the server has not reached any more
//!     stays silent, and is opened again with that version. weir looks at the version of a short list then ([`follow`]).
//!   - *One bad object*: a page is decoded as one value of one type, so that an object it cannot decode fails the whole
//!     list, again and again. In a watch the error has no name of the object. To decode into untyped objects instead
//!     would leave `Page` and its memory, and all of [`resource`]'s decoding, to weir.
//!   - *Pauses*: one backoff for everything, 0.8 s to 30 s, knows nothing of what failed. weir resumes a watch within
//!     2 s, waits up to 30 s before a list, heeds `Retry-After`, and spreads the nodes' lists after a 410 over
//!     `discovery.kubernetes.jitter`. A backoff of weir's own is not told the error, so [`pace`] would stay.
//!   - *Bounds*: a page and a line of a watch may be of any length; the number of objects that remain in a list is not
//!     passed on, which `discovery.kubernetes.nodes` needs after the first page.
//!
//!   The cost of an event is no reason for either: both decode one line of JSON.

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
use crate::domain::pods::NodePods;

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
    pub fn node_pods(&self) -> watch::Receiver<Arc<NodePods>> {
        self.outlets.node_pods.subscribe()
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
