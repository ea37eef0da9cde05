//! What is asked of an API server: six resources, each with what it is for.

use std::fmt;

use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};
use http::{HeaderValue, Request};
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;

use super::failure::text;
use crate::discovery::objects::{
    NamespaceObject, NodeObject, PodObject, ServiceObject, SliceEndpoint, SliceObject,
};

/// Objects of a page of a list. API servers keep whole pages in memory, and so does weir.
const PAGE: &str = "500";
/// The same of whole Nodes, of which each is some 20 KB; the first page is only to learn how many there are.
const NODES: &str = "50";
const FIRST_NODES: &str = "1";

/// Who asks, as audit logs and those who look for what burdens a server see it.
const AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));

/// The objects as they are.
const WHOLE: &str = "application/json";
/// A list of metadata alone: a Node is some 20 KB, its metadata 2.
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// The same of the one object of an event. A server takes the first it knows and does not look whether it fits: asked for a
/// list here, it ends the watch at its first event.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// A resource that is listed and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Services.
    Services,
    /// EndpointSlices.
    Slices,
    /// Namespaces, of which only the annotations count.
    Namespaces,
    /// This node, of which only the zone counts.
    Node,
    /// The pods of this node.
    Pods,
    /// Every node, of which only the addresses count: at each of them a Service's `nodePort` is that Service.
    Nodes,
}

/// An object of any of them.
#[derive(Debug)]
pub(super) enum Object {
    Service(ServiceObject),
    Slice(SliceObject),
    Namespace(NamespaceObject),
    Node(NodeObject),
    Pod(PodObject),
    /// One of [`Resource::Nodes`].
    OneOfNodes(NodeObject),
}

/// An object, and what of it made no sense.
#[derive(Debug)]
pub(super) struct Sensible {
    pub(super) object: Object,
    /// What is wrong with it that does not keep it from being used.
    pub(super) mistakes: Vec<String>,
    /// How many parts of it were left out.
    pub(super) left_out: usize,
}

impl Resource {
    /// All of them, in the order of [`index`](Self::index).
    pub const ALL: [Self; 6] =
        [Self::Services, Self::Slices, Self::Namespaces, Self::Node, Self::Pods, Self::Nodes];

    /// Its place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in the API, or what tells it from another of the same name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Slices => "endpointslices",
            Self::Namespaces => "namespaces",
            Self::Node => "nodes",
            Self::Pods => "pods",
            Self::Nodes => "all-nodes",
        }
    }

    /// What there is not while it is not known.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Services | Self::Slices => "the cluster's services",
            Self::Namespaces => "annotations of namespaces",
            Self::Node => "this node's zone",
            Self::Pods => "the enrolment of pods",
            Self::Nodes => "node ports at other nodes' addresses",
        }
    }

    /// Whether weir is not ready until it is known.
    pub fn is_needed(self) -> bool {
        matches!(self, Self::Services | Self::Slices)
    }

    /// Whether only what concerns this node is asked for, by its name.
    pub(super) fn is_of_node(self) -> bool {
        matches!(self, Self::Node | Self::Pods)
    }

    fn path(self) -> &'static str {
        match self {
            Self::Services => "/api/v1/services",
            Self::Slices => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Namespaces => "/api/v1/namespaces",
            Self::Node | Self::Nodes => "/api/v1/nodes",
            Self::Pods => "/api/v1/pods",
        }
    }

    /// The field selector that leaves only what concerns the node.
    fn selector(self, node: &str) -> Option<String> {
        match self {
            Self::Services | Self::Slices | Self::Namespaces | Self::Nodes => None,
            Self::Node => Some(format!("metadata.name={node}")),
            Self::Pods => Some(format!("spec.nodeName={node}")),
        }
    }

    /// Whether of its objects only the metadata counts.
    fn is_metadata(self) -> bool {
        matches!(self, Self::Namespaces | Self::Node)
    }

    /// A page of the list: the first, or the one that `from` continues with.
    pub(super) fn list(self, node: &str, from: Option<&str>) -> Request<Body> {
        let accept = if self.is_metadata() { METADATA_LIST } else { WHOLE };
        let limit = match (self, from) {
            (Self::Nodes, None) => FIRST_NODES,
            (Self::Nodes, Some(_)) => NODES,
            _ => PAGE,
        };
        self.request(node, accept, &[("limit", Some(limit)), ("continue", from)])
    }

    /// The shortest list, for its version, which is the newest there is.
    pub(super) fn probe(self, node: &str) -> Request<Body> {
        let accept = if self.is_metadata() { METADATA_LIST } else { WHOLE };
        self.request(node, accept, &[("limit", Some("1"))])
    }

    /// The changes since `version`, for so many seconds.
    pub(super) fn watch(self, node: &str, version: &str, seconds: u64) -> Request<Body> {
        let seconds = seconds.to_string();
        let accept = if self.is_metadata() { METADATA } else { WHOLE };
        self.request(
            node,
            accept,
            &[
                ("watch", Some("true")),
                ("allowWatchBookmarks", Some("true")),
                ("timeoutSeconds", Some(&seconds)),
                ("resourceVersion", Some(version)),
            ],
        )
    }

    fn request(self, node: &str, accept: &'static str, parameters: &[(&str, Option<&str>)]) -> Request<Body> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in parameters {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        if let Some(selector) = self.selector(node) {
            query.append_pair("fieldSelector", &selector);
        }
        let mut request = Request::new(Body::empty());
        *request.uri_mut() =
            format!("{}?{}", self.path(), query.finish()).parse().expect("an encoded query makes a URI");
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        request
    }

    /// The object that `value` is, as far as it makes sense: of a slice, endpoints that make none are left out. The others
    /// come and go all the same, and a slice that stayed as it was for one of them would keep those that are gone.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub(super) fn read(self, mut value: Value) -> Result<Sensible, serde_json::Error> {
        let mut left_out = Vec::new();
        if self == Self::Slices && SliceObject::deserialize(&value).is_err() {
            left_out = leave_out_endpoints(&mut value);
        }
        let object = self.decode(value)?;
        let mut mistakes = object.mistakes();
        if let Some(first) = left_out.first() {
            mistakes.push(format!("ignored {} of its endpoints: {first}", left_out.len()));
        }
        Ok(Sensible { object, mistakes, left_out: left_out.len() })
    }

    /// The object that `value` is.
    ///
    /// # Errors
    ///
    /// It lacks something, or has values that no API server would accept.
    pub(super) fn decode(self, value: Value) -> Result<Object, serde_json::Error> {
        match self {
            Self::Services => serde_json::from_value(value).map(Object::Service),
            Self::Slices => serde_json::from_value(value).map(Object::Slice),
            Self::Namespaces => serde_json::from_value(value).map(Object::Namespace),
            Self::Node => serde_json::from_value(value).map(Object::Node),
            Self::Pods => serde_json::from_value(value).map(Object::Pod),
            Self::Nodes => serde_json::from_value(value).map(Object::OneOfNodes),
        }
    }
}

/// Takes the endpoints out of a slice that make no sense; what is wrong with each.
fn leave_out_endpoints(slice: &mut Value) -> Vec<String> {
    let mut left_out = Vec::new();
    if let Some(endpoints) = slice.get_mut("endpoints").and_then(Value::as_array_mut) {
        endpoints.retain(|endpoint| match SliceEndpoint::deserialize(endpoint) {
            Ok(_) => true,
            Err(error) => {
                left_out.push(text(&error.to_string()));
                false
            }
        });
    }
    left_out
}

impl Object {
    /// What is wrong with it that does not keep it from being used.
    pub(super) fn mistakes(&self) -> Vec<String> {
        match self {
            Self::Service(service) => service.port_wishes().1,
            // Those of pods and namespaces are enrolment's to find.
            Self::Slice(_) | Self::Namespace(_) | Self::Node(_) | Self::Pod(_) | Self::OneOfNodes(_) => {
                Vec::new()
            }
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
