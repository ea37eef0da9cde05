//! The task that folds what the followers tell into one catalog.

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
use super::resource::{Object, Resource};
use super::store::Store;
use crate::config::Kubernetes;
use crate::discovery::objects::NodeObject;
use crate::domain::catalog::{Awaited, Catalog};
use crate::domain::pods::NodePods;

/// From a first change to the catalog that has it: what comes in between comes along.
const GATHER: Duration = Duration::from_millis(10);
/// News that are taken in before the catalog is looked at again.
const BATCH: usize = 256;
/// News on the way from the followers; they wait when it is full.
const QUEUE: usize = 256;

/// Where the results go.
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
    /// While the services are awaited, says why anew.
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

/// What the first list of services is waited for; nothing once it is here.
fn awaited(health: &Health) -> Option<Awaited> {
    let (why, brief) = health.waits_for().zip(health.waits_for_in_brief())?;
    Some(Awaited { why: why.into(), brief: brief.into(), is_failing: health.is_failing() })
}

/// The fold.
pub(super) struct Fold {
    store: Store,
    node: Node,
    nodes: Nodes,
    outlets: Outlets,
    /// Which lists were begun and are not complete, be it that they broke off, and which were ever complete.
    listing: [bool; Resource::ALL.len()],
    known: [bool; Resource::ALL.len()],
    /// Which may not be listed, or once might not.
    denied: [bool; Resource::ALL.len()],
    /// This node's name, and whether there was a node of this name since its list began.
    name: Arc<str>,
    named: bool,
    /// Whether this fold has told a catalog yet; before, there is another's.
    told: bool,
    /// Whether it has told of pods yet.
    told_pods: bool,
}

/// Follows everything until `shutdown`.
///
/// # Errors
///
/// A follower ended, which none does by itself.
pub(super) async fn run(
    settings: Arc<Kubernetes>,
    node: Arc<str>,
    outlets: Outlets,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (news, mut told) = mpsc::channel(QUEUE);
    let access = Arc::new(Access::new((*settings).clone(), outlets.detour.clone()));
    let mut followers = JoinSet::new();
    // An empty name would be that of all pods that are on no node yet.
    let followed = |resource: &Resource| match resource {
        Resource::Nodes => settings.nodes > 0,
        resource => !node.is_empty() || !resource.is_of_node(),
    };
    if node.is_empty() {
        outlets.health.names_node(Some(misnamed(&node)));
    }
    for resource in Resource::ALL.into_iter().filter(followed) {
        let follower = Follower {
            resource,
            settings: settings.clone(),
            node: node.clone(),
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
    /// For a node of this name, in a cluster of which so many `nodes` are followed at most.
    pub(super) fn new(node: &str, nodes: usize, outlets: Outlets) -> Self {
        Self {
            store: Store::on(node),
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
            News::Denied(resource) => self.denied[resource.index()] = true,
            News::Set(object) => match *object {
                Object::Service(service) => self.store.set_service(service),
                Object::Slice(slice) => self.store.set_slice(slice),
                Object::Namespace(namespace) => self.node.set_namespace(namespace),
                Object::Node(node) => {
                    self.store.set_zone(node.zone());
                    self.named = true;
                    self.outlets.health.names_node(None);
                }
                Object::Pod(pod) => self.node.set_pod(&pod),
                Object::OneOfNodes(node) => self.set_node(&node),
            },
            News::Senseless(resource, name) => match resource {
                Resource::Services => self.store.keep_service(&name),
                Resource::Slices => self.store.keep_slice(&name),
                Resource::Namespaces => self.node.keep_namespace(&name),
                Resource::Node => self.named = true,
                Resource::Pods => self.node.keep_pod(name),
                Resource::Nodes => self.nodes.keep(&name.name),
            },
            News::Gone(resource, name) => match resource {
                Resource::Services => self.store.remove_service(&name),
                Resource::Slices => self.store.remove_slice(&name),
                Resource::Namespaces => self.node.remove_namespace(&name),
                // A node that is deleted while weir runs on it is where it was.
                Resource::Node => {}
                Resource::Pods => self.node.remove_pod(&name),
                Resource::Nodes => self.nodes.remove(&name.name),
            },
        }
    }

    /// Those that come while the others are watched may be too many as well.
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
        }
    }

    fn sweep(&mut self, resource: Resource) {
        match resource {
            Resource::Services => self.store.sweep_services(),
            Resource::Slices => self.store.sweep_slices(),
            Resource::Namespaces => self.node.sweep_namespaces(),
            // One that is deleted while weir runs on it is where it was, but no pods are told of any more.
            Resource::Node if !self.named => self.outlets.health.names_node(Some(misnamed(&self.name))),
            Resource::Node => {}
            Resource::Pods => self.node.sweep_pods(),
            Resource::Nodes => self.nodes.sweep(),
        }
    }

    /// Whether the resource is known and not in the middle of a list.
    fn is_whole(&self, resource: Resource) -> bool {
        self.known[resource.index()] && !self.listing[resource.index()]
    }

    /// In the middle of a list of slices, an endpoint that moved from one to another can be in neither. A list of services
    /// holds up nothing: until its end it only adds.
    fn catalog_is_due(&self) -> bool {
        (self.store.is_marked() || self.nodes.has_changed() || !self.told)
            && self.known[Resource::Services.index()]
            && self.is_whole(Resource::Slices)
    }

    /// Until the namespaces are known, one could say otherwise of a pod than the pod does. Who may not know them decides
    /// without.
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

    /// Says what is known as soon as it is told of, and not before: who is ready has to have it.
    fn vouch(&self) {
        for resource in Resource::ALL {
            let is_told = match resource {
                Resource::Services | Resource::Slices => self.told,
                Resource::Pods => !self.node.has_changed(),
                Resource::Namespaces | Resource::Node => true,
                Resource::Nodes => !self.nodes.has_changed(),
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
