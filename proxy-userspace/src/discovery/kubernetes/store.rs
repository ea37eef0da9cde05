//! The objects as last reported, and the catalog built from them.
//!
//! A change marks its service, and only marked services are assembled again; the catalog is a persistent map, so the
//! next one shares everything else with the previous one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::follow::Name;
use super::shared::Shared;
use crate::discovery::objects::{Backing, HostPods, Place, ServiceObject, SliceObject, assemble};
use crate::domain::catalog::{Catalog, Namer, ServiceKey};

/// Services and EndpointSlices.
#[derive(Debug, Default)]
pub(super) struct Store {
    entries: HashMap<Name, Entry>,
    /// The service of each slice.
    owners: HashMap<Name, Name>,
    /// Services to be assembled again.
    marked: HashSet<Name>,
    node: Option<Arc<str>>,
    zone: Option<Arc<str>>,
    host_pods: HostPods,
    shared: Shared,
    rounds: Rounds,
}

/// The objects of a service.
#[derive(Debug, Default)]
struct Entry {
    service: Option<Seen<ServiceObject>>,
    slices: Vec<Seen<SliceObject>>,
}

/// An object, and the list that last contained it.
#[derive(Debug)]
struct Seen<T> {
    round: u32,
    object: T,
}

/// The number of lists of each resource.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    services: u32,
    slices: u32,
}

impl Store {
    /// For the node with this name.
    pub(super) fn on(node: &str) -> Self {
        Self { node: (!node.is_empty()).then(|| node.into()), ..Self::default() }
    }

    /// The number of services.
    pub(super) fn services(&self) -> usize {
        self.entries.values().filter(|it| it.service.is_some()).count()
    }

    /// Sets the node's zone; hints are evaluated again when it changes.
    pub(super) fn set_zone(&mut self, zone: Option<&str>) {
        if self.zone.as_deref() != zone {
            self.zone = zone.map(Arc::from);
            self.mark_all();
        }
    }

    /// Sets the pods in the node's own network, which endpoints with the node's addresses must be.
    pub(super) fn set_host_pods(&mut self, pods: HostPods) {
        if pods == self.host_pods {
            return;
        }
        let is_concerned = |(name, entry): &(&Name, &Entry)| {
            pods.differ_in(&name.namespace, &self.host_pods)
                && entry.slices.iter().any(|it| names_a_pod(&it.object))
        };
        let concerned = self.entries.iter().filter(is_concerned).map(|(name, _)| name.clone());
        self.marked.extend(concerned);
        self.host_pods = pods;
    }

    /// Whether the pods in the node's own network are known.
    pub(super) fn knows_host_pods(&self) -> bool {
        self.host_pods.are_known()
    }

    /// Marks every service, for example when the catalog was built by another store.
    pub(super) fn mark_all(&mut self) {
        self.marked.extend(self.entries.keys().cloned());
    }

    pub(super) fn set_service(&mut self, object: ServiceObject) {
        let name = self.name(&object.metadata.namespace, &object.metadata.name);
        let round = self.rounds.services;
        let entry = self.entries.entry(name.clone()).or_default();
        let same = entry.service.as_ref().is_some_and(|before| before.object == object);
        entry.service = Some(Seen { round, object });
        if !same {
            self.marked.insert(name);
        }
    }

    /// The values shared among the objects.
    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn set_slice(&mut self, mut object: SliceObject) {
        let name = self.name(&object.metadata.namespace, &object.metadata.name);
        let owner =
            object.service_name().map(|owner| Name { namespace: name.namespace.clone(), name: owner.into() });
        if self.owners.get(&name) != owner.as_ref() {
            self.remove_slice(&name);
        }
        let Some(owner) = owner else { return };
        self.forget_targets(&mut object);
        self.shared.slice(&mut object);
        let round = self.rounds.slices;
        let entry = self.entries.entry(owner.clone()).or_default();
        match entry.slices.iter_mut().find(|it| it.object.metadata.name == object.metadata.name) {
            Some(before) if before.object == object => {
                before.round = round;
                return;
            }
            Some(before) => *before = Seen { round, object },
            None => {
                entry.slices.reserve_exact(1);
                entry.slices.push(Seen { round, object });
                self.owners.insert(name, owner.clone());
            }
        }
        self.marked.insert(owner);
    }

    pub(super) fn remove_service(&mut self, name: &Name) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.service = None;
            self.marked.insert(name.clone());
        }
    }

    pub(super) fn remove_slice(&mut self, name: &Name) {
        let Some(owner) = self.owners.remove(name) else { return };
        if let Some(entry) = self.entries.get_mut(&owner) {
            entry.slices.retain(|it| it.object.metadata.name != *name.name);
            self.marked.insert(owner);
        }
    }

    /// Records that the service is in the current list, whatever its content.
    pub(super) fn keep_service(&mut self, name: &Name) {
        let round = self.rounds.services;
        if let Some(Entry { service: Some(seen), .. }) = self.entries.get_mut(name) {
            seen.round = round;
        }
    }

    /// Records that the slice is in the current list, whatever its content.
    pub(super) fn keep_slice(&mut self, name: &Name) {
        let round = self.rounds.slices;
        let Some(entry) = self.owners.get(name).and_then(|owner| self.entries.get_mut(owner)) else { return };
        for seen in entry.slices.iter_mut().filter(|it| it.object.metadata.name == *name.name) {
            seen.round = round;
        }
    }

    /// Starts a list of services.
    pub(super) fn begin_services(&mut self) {
        self.rounds.services = self.rounds.services.wrapping_add(1);
    }

    /// Starts a list of slices.
    pub(super) fn begin_slices(&mut self) {
        self.rounds.slices = self.rounds.slices.wrapping_add(1);
    }

    /// Ends a list of services: those not in it are gone.
    pub(super) fn sweep_services(&mut self) {
        let round = self.rounds.services;
        for (name, entry) in &mut self.entries {
            if entry.service.as_ref().is_some_and(|it| it.round != round) {
                entry.service = None;
                self.marked.insert(name.clone());
            }
        }
    }

    /// Ends a list of slices: those not in it are gone.
    pub(super) fn sweep_slices(&mut self) {
        let round = self.rounds.slices;
        for (name, entry) in &mut self.entries {
            let before = entry.slices.len();
            entry.slices.retain(|it| it.round == round);
            if entry.slices.len() != before {
                self.marked.insert(name.clone());
            }
        }
        let entries = &self.entries;
        self.owners.retain(|name, owner| {
            entries
                .get(owner)
                .is_some_and(|it| it.slices.iter().any(|it| it.object.metadata.name == *name.name))
        });
        self.shared.shrink();
    }

    /// Whether any service must be assembled again.
    pub(super) fn is_marked(&self) -> bool {
        !self.marked.is_empty()
    }

    /// The catalog that follows `before`: unmarked services are unchanged. `None` if nothing differs.
    pub(super) fn catalog(&mut self, before: &Catalog) -> Option<Catalog> {
        let mut next = before.clone();
        let mut differs = false;
        for name in std::mem::take(&mut self.marked) {
            let key =
                ServiceKey { namer: Namer::K8s, namespace: name.namespace.clone(), name: name.name.clone() };
            let entry = self.entries.get(&name);
            if entry.is_some_and(Entry::is_empty) {
                self.entries.remove(&name);
                differs |= next.services.remove(&key).is_some();
                continue;
            }
            let place = Place {
                node: self.node.as_deref(),
                zone: self.zone.as_deref(),
                host_pods: Some(&self.host_pods),
            };
            match entry.and_then(|entry| entry.assemble(place)) {
                Some(service) if next.services.get(&key).is_some_and(|before| **before == service) => {}
                Some(mut service) => {
                    service.key = key.clone();
                    next.services.insert(key, Arc::new(service));
                    differs = true;
                }
                None => differs |= next.services.remove(&key).is_some(),
            }
        }
        differs.then_some(next)
    }

    /// Removes services from `catalog` that are not in this store: another store left them.
    pub(super) fn prune(&self, catalog: &mut Catalog) {
        let known = |key: &ServiceKey| {
            let name = Name { namespace: key.namespace.clone(), name: key.name.clone() };
            self.entries.get(&name).is_some_and(|it| it.service.is_some())
        };
        let gone: Vec<_> = catalog.services.keys().filter(|key| !known(key)).cloned().collect();
        for key in gone {
            catalog.services.remove(&key);
        }
    }

    /// Of most endpoints nobody asks which pod they are.
    fn forget_targets(&self, slice: &mut SliceObject) {
        let (namespace, node) = (&slice.metadata.namespace, self.node.as_deref());
        for endpoint in slice.endpoints.iter_mut().flatten() {
            let is_here = node.is_some() && endpoint.node_name.as_deref() == node;
            endpoint.target.take_if(|target| !is_here || !target.is_pod_of(namespace));
        }
    }

    /// The name, with the shared copy of its namespace.
    fn name(&mut self, namespace: &str, name: &str) -> Name {
        Name { namespace: self.shared.word(namespace), name: name.into() }
    }
}

/// Whether some endpoint of `slice` may be a pod in the node's network.
fn names_a_pod(slice: &SliceObject) -> bool {
    slice.endpoints.iter().flatten().any(|endpoint| endpoint.target.is_some())
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }

    fn assemble(&self, place: Place<'_>) -> Option<crate::domain::catalog::Service> {
        let service = self.service.as_ref()?;
        let slices: Vec<_> = self.slices.iter().map(|it| &it.object).collect();
        Some(assemble(&service.object, Backing::Slices(&slices), place))
    }
}
