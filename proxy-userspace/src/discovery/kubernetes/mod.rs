//! A Kubernetes API server: Services and EndpointSlices of the cluster, and the pods of this node.
//!
//! ```text
//! follow (one for each resource: list, then watch; pace says what comes next and when) -> News
//!     -> run (store: Services and slices; node: pods and namespaces) -> watch<Arc<Catalog>>, watch<Arc<NodePods>>
//! ```
//!
//! Guarantees: an event is in the catalog about 10 ms later, at a cost that depends on the size of its service, not of
//! the cluster; whatever happens to the server, its last reported state stays in force, and of a new list only the
//! differences are published; an invalid object is named and left out, and does not affect others.
//!
//! If the server's Service does not work, its last known endpoints are tried ([`detour`]).
//! kube-rs makes the connection (TLS, kubeconfig, service account tokens).
//!
//! Deliberately absent:
//!
//! - `sendInitialEvents`, which servers before 1.32 do not have;
//! - leases and all other writes, but for Events and the status of `Dtab` objects ([`dtabs`]), both only where they are
//!   permitted, and what an operator orders (`weir dtab set`). [`review`] creates only review requests, which the server does not store;
//! - kube-runtime's `watcher` and its backoff. As of 5.0.0 it would replace [`pace`], [`call`] and about 300 lines of
//!   [`follow`] and [`resource`], and add 26 packages to `Cargo.lock`. It lists in pages, watches metadata alone and uses
//!   bookmarks as weir does, but lacks these guarantees (the API-server suite has a test for each but the length of
//!   lines):
//!   - *410*: it lists again after an `ERROR` event of code 410. When the watch request itself is answered 410, it asks
//!     for the same version again, and never lists.
//!   - *A restored server*: it treats versions as opaque. A watch of a version that the server has not reached any more
//!     stays silent, and is opened again with that version. weir then checks the version of a short list ([`follow`]).
//!   - *One bad object*: a page is decoded as one value of one type, so that an object it cannot decode fails the whole
//!     list, again and again. In a watch the error does not name the object. Decoding into untyped objects instead would
//!     leave `Page` and its memory, and all of [`resource`]'s decoding, to weir.
//!   - *Pauses*: one backoff for everything, 0.8 s to 30 s, ignores what failed. weir resumes a watch within
//!     2 s, waits up to 30 s before a list, honours `Retry-After`, and spreads the nodes' lists after a 410 over
//!     `discovery.kubernetes.jitter`. A custom backoff does not get the error, so [`pace`] would stay.
//!   - *Bounds*: a page and a line of a watch may be of any length; the number of objects that remain in a list is not
//!     passed on, which `discovery.kubernetes.nodes` needs after the first page.
//!
//!   The cost of an event does not differ: both decode one line of JSON.

mod access;
mod call;
mod client;
mod detour;
mod dtabs;
mod failure;
mod follow;
mod health;
mod ingresses;
mod node;
mod nodes;
mod pace;
mod resource;
mod review;
mod run;
mod shallow;
mod shared;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use access::node_name;
pub use dtabs::{DtabEditor, DtabKeeper, DtabObject, Dtabs, EditError, NewDtab, Stored, Write};
pub use failure::Failure;
pub use health::{Counts, Health, State, Status};
pub use ingresses::{IngressKeeper, IngressTables};
pub use resource::Resource;
pub use review::{Review, Reviews};

use crate::config::Kubernetes;
use crate::domain::catalog::Catalog;
use crate::domain::pods::NodePods;

/// A cluster that is followed, or will be.
pub struct Cluster {
    settings: watch::Sender<Arc<Kubernetes>>,
    outlets: run::Outlets,
    dtabs: Arc<DtabKeeper>,
    ingresses: Arc<IngressKeeper>,
    shutdown: CancellationToken,
}

impl Cluster {
    /// The cluster in `settings`. Sends no request yet; the catalog says that it is awaited.
    pub fn new(settings: Kubernetes, shutdown: CancellationToken) -> Self {
        let outlets = run::Outlets::default();
        let ingresses = Arc::new(IngressKeeper::new(outlets.health.clone()));
        let settings = watch::Sender::new(Arc::new(settings));
        Self { settings, outlets, dtabs: Arc::default(), ingresses, shutdown }
    }

    /// Follows the cluster by these settings from now on. The known state stays until it is replaced.
    pub fn change(&self, settings: Kubernetes) {
        self.settings.send_replace(Arc::new(settings));
    }

    /// Receives the services: none until both Services and EndpointSlices were listed; until then the catalog says why
    /// they are [awaited](Catalog::awaited).
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.outlets.catalog.subscribe()
    }

    /// Receives the pods of this node.
    pub fn node_pods(&self) -> watch::Receiver<Arc<NodePods>> {
        self.outlets.node_pods.subscribe()
    }

    /// A client for token reviews, with its own connections.
    pub fn reviews(&self) -> Reviews {
        Reviews::new(self.settings.subscribe(), self.outlets.detour.clone())
    }

    /// The dtabs that are kept in the cluster.
    pub fn dtabs(&self) -> Arc<DtabKeeper> {
        self.dtabs.clone()
    }

    /// Follows those that are wanted until shutdown.
    ///
    /// # Errors
    ///
    /// As [`Self::follow`].
    pub fn follow_dtabs(&self) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let (settings, detour) = (self.settings.subscribe(), self.outlets.detour.clone());
        self.dtabs.clone().follow(settings, detour, self.shutdown.clone())
    }

    /// The rules of the cluster's Ingresses.
    pub fn ingresses(&self) -> Arc<IngressKeeper> {
        self.ingresses.clone()
    }

    /// Follows the Ingresses that are wanted until shutdown.
    ///
    /// # Errors
    ///
    /// As [`Self::follow`].
    pub fn follow_ingresses(&self) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let (settings, detour) = (self.settings.subscribe(), self.outlets.detour.clone());
        self.ingresses.clone().follow(settings, detour, self.shutdown.clone())
    }

    /// The state of discovery.
    pub fn health(&self) -> Arc<Health> {
        self.outlets.health.clone()
    }

    /// Follows the cluster until shutdown. After an error it can be followed again: the known state is kept.
    ///
    /// # Errors
    ///
    /// A task of it panicked. Failures of the API server are no error here: see [`Health`].
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
                    // The sender lives as long as the cluster.
                    Ok(()) = settings.changed() => {}
                }
            }
        }
    }
}
