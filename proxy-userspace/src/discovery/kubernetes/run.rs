//! The task that combines the followers' updates into one catalog.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::access::{Access, misnamed};
use super::detour::Detour;
use super::follow::{Follower, News};
use super::health::Health;
use super::node::Node;
use super::nodes::Nodes;
use super::resource::{Focus, Object, Resource};
use super::store::Store;
use crate::config::Kubernetes;
use crate::discovery::objects::{HostPods, NodeObject};
use crate::domain::catalog::{Awaited, Catalog};
use crate::domain::pods::NodePods;

/// From a first change to the catalog that has it: later changes in this time are included.
const GATHER: Duration = Duration::from_millis(10);
/// Maximum updates taken in before the catalog is checked again.
const BATCH: usize = 256;
/// Queue size for updates from the followers; they wait when it is full.
const QUEUE: usize = 256;

/// The outputs.
#[derive(Clone)]
pub(super) struct Outlets {
    pub(super) catalog: watch::Sender<Arc<Catalog>>,
    pub(super) node_pods: watch::Sender<Arc<NodePods>>,
    pub(super) health: Arc<Health>,
    pub(super) detour: Arc<Detour>,
}

impl Default for Outlets {
    fn default() -> Self {
        let health = Arc::<Health>::default();
        let catalog = Catalog { awaited: awaited(&health), ..Catalog::default() };
        let catalog = watch::Sender::new(Arc::new(catalog));
        let detour = Arc::new(Detour::new(health.clone()));
        Self { catalog, node_pods: watch::Sender::default(), health, detour }
    }
}

impl Outlets {
    /// While the services are awaited, updates the reason.
    fn await_services(&self) {
        let awaited = awaited(&self.health);
        self.catalog.send_if_modified(|catalog| {
            let differs = catalog.awaited.is_some() && awaited.is_some() && catalog.awaited != awaited;
            if differs {
                Arc::make_mut(catalog).awaited = awaited;
            }
            differs
        });
    }
}

/// Why the first list of services is awaited; `None` once it arrived.
fn awaited(health: &Health) -> Option<Awaited> {
    let (why, brief) = health.waits_for().zip(health.waits_for_in_brief())?;
    Some(Awaited { why: why.into(), brief: brief.into(), is_failing: health.is_failing() })
}

/// The state that combines all updates.
pub(super) struct Fold {
    store: Store,
    node: Node,
    nodes: Nodes,
    outlets: Outlets,
    /// Which lists were started but not completed (including failed ones), and which were ever complete.
    listing: [bool; Resource::ALL.len()],
    known: [bool; Resource::ALL.len()],
    /// Resources that weir may not list, or once could not.
    denied: [bool; Resource::ALL.len()],
    /// This node's name, and whether a node of this name was seen since its list began.
    name: Arc<str>,
    named: bool,
    /// Whether this fold has published a catalog yet; before that, an earlier one's is in force.
    told: bool,
    /// Whether it has published pods yet.
    told_pods: bool,
}

/// Follows everything until `shutdown`.
///
/// # Errors
///
/// A follower ended, which never happens by itself.
pub(super) async fn run(
    settings: Arc<Kubernetes>,
    node: Arc<str>,
    outlets: Outlets,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (news, mut told) = mpsc::channel(QUEUE);
    let access = Arc::new(Access::new((*settings).clone(), outlets.detour.clone()));
    let mut followers = JoinSet::new();
    // An empty name would select all pods that are not scheduled yet.
    let followed = |resource: &Resource| match resource {
        Resource::Nodes => settings.nodes > 0,
        // Where routers want them (`ingresses`).
        Resource::Ingresses => false,
        resource => !node.is_empty() || !resource.is_of_node(),
    };
    if node.is_empty() {
        outlets.health.names_node(Some(misnamed(&node)));
    }
    for resource in Resource::ALL.into_iter().filter(followed) {
        let follower = Follower {
            resource,
            settings: settings.clone(),
            focus: Focus { node: node.clone(), ..Focus::default() },
            access: access.clone(),
            health: outlets.health.clone(),
            news: news.clone(),
        };
        followers.spawn(follower.run());
    }
    drop(news);
    let (mut health, told_of) = (outlets.health.changes(), outlets.clone());
    let mut fold = Fold::new(&node, settings.nodes, outlets);
    let mut due = None;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(ended) = followers.join_next() => match ended {
                Ok(()) => bail!("a follower ended"),
                Err(panicked) => bail!("a follower ended: {panicked}"),
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                due = None;
                fold.publish();
            }
            Ok(()) = health.changed() => told_of.await_services(),
            taken = told.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    bail!("nobody tells of anything any more");
                }
                batch.drain(..).for_each(|news| fold.take(news));
                if fold.is_due() && due.is_none() {
                    due = Some(Instant::now() + GATHER);
                }
            }
        }
    }
}

impl Fold {
    /// For the node `node`, and at most `nodes` nodes followed.
    pub(super) fn new(node: &str, nodes: usize, outlets: Outlets) -> Self {
        let mut store = Store::on(node);
        // Those that an earlier fold knew count until they are listed again.
        let last = outlets.node_pods.borrow().clone();
        if last.known {
            store.set_host_pods(HostPods::of(&last));
        }
        Self {
            store,
            node: Node::default(),
            nodes: Nodes::new(nodes),
            outlets,
            listing: Default::default(),
            known: Default::default(),
            denied: Default::default(),
            name: node.into(),
            named: false,
            told: false,
            told_pods: false,
        }
    }

    pub(super) fn take(&mut self, news: News) {
        match news {
            News::Begin(resource) => {
                self.listing[resource.index()] = true;
                self.begin(resource);
            }
            News::Complete(resource) => {
                self.listing[resource.index()] = false;
                self.known[resource.index()] = true;
                self.sweep(resource);
                self.vouch();
            }
            News::Denied(resource) => {
                self.denied[resource.index()] = true;
                if resource == Resource::Pods && !self.store.knows_host_pods() {
                    self.store.set_host_pods(HostPods::of(&NodePods::default()));
                }
            }
            News::Set(object) => match *object {
                Object::Service(service) => self.store.set_service(service),
                Object::Slice(slice) => self.store.set_slice(slice),
                Object::Namespace(namespace) => self.node.set_namespace(namespace),
                Object::Node(node) => {
                    self.store.set_zone(node.zone());
                    self.named = true;
                    self.outlets.health.names_node(None);
                }
                Object::Pod(pod) => {
                    self.node.set_pod(&pod);
                    self.set_host_pods();
                }
                Object::OneOfNodes(node) => self.set_node(&node),
                Object::Ingress(_) => {}
            },
            News::Senseless(resource, name) => match resource {
                Resource::Services => self.store.keep_service(&name),
                Resource::Slices => self.store.keep_slice(&name),
                Resource::Namespaces => self.node.keep_namespace(&name),
                Resource::Node => self.named = true,
                Resource::Pods => self.node.keep_pod(name),
                Resource::Nodes => self.nodes.keep(&name.name),
                Resource::Ingresses => {}
            },
            News::Gone(resource, name) => match resource {
                Resource::Services => self.store.remove_service(&name),
                Resource::Slices => self.store.remove_slice(&name),
                Resource::Namespaces => self.node.remove_namespace(&name),
                // If the node object is deleted while weir runs on it, its zone is still valid.
                Resource::Node => {}
                Resource::Pods => {
                    self.node.remove_pod(&name);
                    self.set_host_pods();
                }
                Resource::Nodes => self.nodes.remove(&name.name),
                Resource::Ingresses => {}
            },
        }
    }

    /// During the first list of pods, some are not known yet.
    fn set_host_pods(&mut self) {
        if self.known[Resource::Pods.index()] {
            self.store.set_host_pods(self.node.host_pods());
        }
    }

    /// Nodes added while the others are watched may be too many as well.
    fn set_node(&mut self, node: &NodeObject) {
        let name = &node.metadata.name;
        if self.nodes.set(node) {
            self.outlets.health.heed(Resource::Nodes, name);
        } else {
            let why = "left out: there are more nodes than discovery.kubernetes.nodes";
            self.outlets.health.report(Resource::Nodes, name.clone(), why.to_owned());
        }
    }

    fn begin(&mut self, resource: Resource) {
        match resource {
            Resource::Services => self.store.begin_services(),
            Resource::Slices => self.store.begin_slices(),
            Resource::Namespaces => self.node.begin_namespaces(),
            Resource::Node => self.named = false,
            Resource::Pods => self.node.begin_pods(),
            Resource::Nodes => self.nodes.begin(),
            Resource::Ingresses => {}
        }
    }

    fn sweep(&mut self, resource: Resource) {
        match resource {
            Resource::Services => self.store.sweep_services(),
            Resource::Slices => self.store.sweep_slices(),
            Resource::Namespaces => self.node.sweep_namespaces(),
            // If the node object is deleted while weir runs on it, its zone is still valid, but no pods are reported
            // any more.
            Resource::Node if !self.named => self.outlets.health.names_node(Some(misnamed(&self.name))),
            Resource::Node => {}
            Resource::Pods => {
                self.node.sweep_pods();
                self.set_host_pods();
            }
            Resource::Nodes => self.nodes.sweep(),
            Resource::Ingresses => {}
        }
    }

    /// Whether the resource is known and no list of it is in progress.
    fn is_whole(&self, resource: Resource) -> bool {
        self.known[resource.index()] && !self.listing[resource.index()]
    }

    /// During a list of slices, an endpoint that moved from one to another can be in neither. A list of services delays
    /// nothing: until its end it only adds.
    fn catalog_is_due(&self) -> bool {
        (self.store.is_marked() || self.nodes.has_changed() || !self.told)
            && self.known[Resource::Services.index()]
            && self.is_whole(Resource::Slices)
    }

    /// Until the namespaces are known, a namespace could contradict the annotations of a pod. Without permission to
    /// list them, the pods alone decide.
    fn residents_are_due(&self) -> bool {
        let namespaces = Resource::Namespaces.index();
        (self.node.has_changed() || !self.told_pods)
            && self.is_whole(Resource::Pods)
            && (self.known[namespaces] || self.denied[namespaces])
    }

    pub(super) fn is_due(&self) -> bool {
        self.catalog_is_due() || self.residents_are_due()
    }

    pub(super) fn publish(&mut self) {
        if self.catalog_is_due() {
            self.publish_catalog();
        }
        if self.residents_are_due() {
            self.told_pods = true;
            self.outlets.node_pods.send_replace(Arc::new(self.node.take()));
        }
        self.vouch();
    }

    /// Marks a resource as known once it is published, not earlier: readiness requires the published data.
    fn vouch(&self) {
        for resource in Resource::ALL {
            let is_told = match resource {
                Resource::Services | Resource::Slices => self.told,
                Resource::Pods => !self.node.has_changed(),
                Resource::Namespaces | Resource::Node => true,
                Resource::Nodes => !self.nodes.has_changed(),
                Resource::Ingresses => false,
            };
            if self.known[resource.index()] && is_told {
                self.outlets.health.known(resource);
            }
        }
    }

    fn publish_catalog(&mut self) {
        let before = self.outlets.catalog.borrow().clone();
        let next = if self.told {
            self.store.catalog(&before)
        } else {
            self.told = true;
            self.store.mark_all();
            let mut pruned = Catalog { awaited: None, ..(*before).clone() };
            self.store.prune(&mut pruned);
            let next = self.store.catalog(&pruned);
            tracing::info!(services = self.store.services(), "the cluster's services are known");
            if !self.store.knows_host_pods() && !self.name.is_empty() {
                tracing::info!("until this node's pods are known, slices that name one are believed");
            }
            next.or((pruned != *before).then_some(pruned))
        };
        let nodes = self.nodes.has_changed().then(|| self.nodes.take());
        let next = match nodes.filter(|nodes| *nodes != *before.nodes) {
            Some(nodes) => Some(Catalog { nodes: Arc::new(nodes), ..next.unwrap_or((*before).clone()) }),
            None => next,
        };
        if let Some(next) = next {
            self.outlets.detour.follow(&next);
            self.outlets.catalog.send_replace(Arc::new(next));
        }
    }
}
