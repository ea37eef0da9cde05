//! Builds one catalog from all files.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use imbl::OrdMap;

use super::FileProblem;
use super::documents::{Kind, Object, ObjectId, Placed};
use super::folder::{Content, Folder};
use super::fs::{Host, Line};
use super::lookup::Known;
use crate::config::tree::Position;
use crate::config::{Mistake, Problem};
use crate::discovery::objects::{
    Backing, EndpointsObject, NamespaceObject, Place, PodObject, ServiceObject, SliceObject, assemble, sorted,
};
use crate::domain::catalog::{AppProtocol, Catalog, Endpoint, Namer, Service, ServiceKey, ServicePort};
use crate::domain::pods::NodePods;

/// Maximum number of problems reported; the first are enough to see what is wrong.
pub(super) const PROBLEMS: usize = 1000;

/// The result for all files.
pub(super) struct Built {
    /// Their services.
    pub(super) catalog: Catalog,
    /// The pods of this node and the namespaces' annotations.
    pub(super) node_pods: NodePods,
    /// The problems of single files and of all files together.
    pub(super) problems: Vec<FileProblem>,
    /// The host names in them.
    pub(super) names: BTreeSet<Arc<str>>,
}

/// Services, by key.
type Services = OrdMap<ServiceKey, Arc<Service>>;

/// A namespace and a name.
type ObjectKey<'a> = (&'a str, &'a str);

/// An object, the file it is in, and its identity.
struct Found<'a> {
    file: &'a str,
    id: &'a ObjectId,
    at: Position,
}

/// The objects of all files by service.
#[derive(Default)]
struct Objects<'a> {
    services: BTreeMap<ObjectKey<'a>, (Found<'a>, &'a ServiceObject)>,
    slices: BTreeMap<ObjectKey<'a>, Vec<&'a SliceObject>>,
    endpoints: BTreeMap<ObjectKey<'a>, &'a EndpointsObject>,
    /// The backing objects of services that do not exist.
    backings: BTreeMap<ObjectKey<'a>, Found<'a>>,
    seen: BTreeMap<&'a ObjectId, &'a str>,
}

struct Builder<'a> {
    folder: &'a Folder,
    node: Option<&'a str>,
    known: &'a Known,
    nodes: BTreeSet<IpAddr>,
    built: Built,
}

/// The catalog of `folder`, with the `known` addresses of host names. A service that did not change since `before` is
/// the same `Arc`.
///
/// Pods are those of the node with this name, or all if there is no name.
pub(super) fn build(folder: &Folder, node: Option<&str>, known: &Known, before: &Catalog) -> Built {
    let built = Built {
        catalog: Catalog::default(),
        node_pods: NodePods { known: true, ..NodePods::default() },
        problems: folder.problems().to_vec(),
        names: BTreeSet::new(),
    };
    let mut builder = Builder { folder, node, known, nodes: BTreeSet::new(), built };
    let mut objects = Objects::default();
    for (name, file) in folder.files() {
        builder.built.problems.extend(file.problems.iter().cloned());
        match &file.content {
            None => {}
            Some(Content::Lines(lines)) => builder.lines(name, lines),
            Some(Content::Objects(found)) => builder.sort_out(name, found, &mut objects),
        }
    }
    builder.services(&objects);
    let Builder { mut built, nodes, .. } = builder;
    built.catalog.nodes = if nodes == *before.nodes { before.nodes.clone() } else { Arc::new(nodes) };
    built.catalog.services = shared(&before.services, built.catalog.services);
    built.problems.truncate(PROBLEMS);
    built
}

/// The map of `new`, built from `before`: equal entries share their `Arc`, so comparing them later is cheap.
fn shared(before: &Services, new: Services) -> Services {
    let mut services = before.clone();
    for gone in before.keys().filter(|key| !new.contains_key(*key)) {
        services.remove(gone);
    }
    for (key, service) in new {
        if before.get(&key).is_none_or(|same| **same != *service) {
            services.insert(key, service);
        }
    }
    services
}

impl<'a> Builder<'a> {
    /// A service in linkerd's format.
    fn lines(&mut self, name: &str, lines: &[Line]) {
        let mut endpoints = Vec::with_capacity(lines.len());
        for line in lines {
            let mut add = |ip| {
                let address = SocketAddr::new(ip, line.port);
                endpoints.push(Endpoint { weight: line.weight, ..Endpoint::at(address) });
            };
            match &line.host {
                Host::Ip(ip) => add(*ip),
                Host::Name(host) => {
                    self.known.addresses(host).iter().copied().for_each(add);
                    self.mention(host, name, line.at, "");
                }
            }
        }
        let endpoints = sorted(endpoints);
        let (protocol, node_port) = (AppProtocol::Sniff, None);
        let port = ServicePort { name: None, number: 0, protocol, endpoints, node_port };
        let key = ServiceKey { namer: Namer::Fs, namespace: Arc::from(""), name: Arc::from(name) };
        self.add(Service {
            key,
            addresses: Vec::new(),
            ports: vec![port],
            written: true,
            external_name: None,
            affinity: None,
        });
    }

    fn add(&mut self, service: Service) {
        self.built.catalog.services.insert(service.key.clone(), Arc::new(service));
    }

    /// Records that a file uses `host`, and any problem with it.
    fn mention(&mut self, host: &Arc<str>, file: &str, at: Position, path: &str) {
        self.built.names.insert(Arc::clone(host));
        if let Some(error) = self.known.error(host) {
            let mut mistake = Mistake::new(format!("{host} cannot be looked up: {error}"));
            if !self.known.addresses(host).is_empty() {
                mistake = mistake.hint("the addresses it last had are used");
            }
            self.problem(file, at, path, mistake);
        }
    }

    fn problem(&mut self, file: &str, at: Position, path: &str, mistake: Mistake) {
        self.built.problems.push(Problem::at(&self.folder.label(file), at, path, mistake));
    }

    /// Groups a file's objects by service. An object that an earlier file defines is left out.
    fn sort_out(&mut self, file: &'a str, found: &'a BTreeMap<ObjectId, Placed>, objects: &mut Objects<'a>) {
        for (id, placed) in found {
            if let Some(first) = objects.seen.get(id) {
                let mistake =
                    Mistake::new(format!("also in {first}")).hint("the file whose name comes first counts");
                self.problem(file, placed.at, &id.to_string(), mistake);
                continue;
            }
            objects.seen.insert(id, file);
            match &placed.object {
                Object::Pod(pod) => self.pod(pod),
                Object::Namespace(namespace) => self.namespace(namespace),
                Object::Node(node) => self.nodes.extend(node.addresses()),
                Object::Service(_) | Object::Slice(_) | Object::Endpoints(_) => {}
            }
            objects.put(Found { file, id, at: placed.at }, &placed.object);
        }
    }

    fn pod(&mut self, object: &PodObject) {
        if self.node.is_some() && self.node != object.spec.node_name.as_deref() {
            return;
        }
        let (uid, pod) = object.resident();
        self.built.node_pods.pods.insert(uid, Arc::new(pod));
    }

    fn namespace(&mut self, object: &NamespaceObject) {
        let annotations = object.metadata.annotations.clone().unwrap_or_default();
        if !annotations.wishes.is_empty() {
            let name = object.metadata.name.as_str().into();
            self.built.node_pods.namespaces.insert(name, Arc::new(annotations.wishes));
        }
    }

    fn services(&mut self, objects: &Objects<'a>) {
        for (key, (found, service)) in &objects.services {
            for mistake in service.port_wishes().1 {
                self.problem(found.file, found.at, &found.id.to_string(), Mistake::new(mistake));
            }
            let slices = objects.slices.get(key).map_or(&[][..], Vec::as_slice);
            let backing = match (slices, objects.endpoints.get(key)) {
                // A cluster mirrors Endpoints into slices: a folder with both has the same data twice.
                ([], Some(endpoints)) => Backing::Endpoints(endpoints),
                (slices, _) => Backing::Slices(slices),
            };
            self.add(Service { written: true, ..assemble(service, backing, Place::default()) });
        }
        for (key, found) in objects.backings.iter().filter(|(key, _)| !objects.services.contains_key(*key)) {
            let mistake = Mistake::new(format!("no file has Service {}/{}", key.0, key.1));
            self.problem(
                found.file,
                found.at,
                &found.id.to_string(),
                mistake.hint("without it, nothing leads here"),
            );
        }
    }
}

impl<'a> Objects<'a> {
    fn put(&mut self, found: Found<'a>, object: &'a Object) {
        debug_assert!(matches!(
            (found.id.kind, object),
            (Kind::Service, Object::Service(_))
                | (Kind::EndpointSlice, Object::Slice(_))
                | (Kind::Endpoints, Object::Endpoints(_))
                | (Kind::Pod, Object::Pod(_))
                | (Kind::Namespace, Object::Namespace(_))
                | (Kind::Node, Object::Node(_))
        ));
        let namespace: &'a str = &found.id.namespace;
        match object {
            Object::Service(service) => {
                self.services.insert((namespace, &found.id.name), (found, service));
            }
            Object::Slice(slice) => {
                let key = (namespace, slice.service_name().unwrap_or_default());
                self.slices.entry(key).or_default().push(slice);
                self.backings.entry(key).or_insert(found);
            }
            Object::Endpoints(endpoints) => {
                let key = (namespace, &*found.id.name);
                self.endpoints.insert(key, endpoints);
                self.backings.entry(key).or_insert(found);
            }
            Object::Pod(_) | Object::Namespace(_) | Object::Node(_) => {}
        }
    }
}
