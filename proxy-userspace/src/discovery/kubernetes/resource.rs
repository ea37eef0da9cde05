//! The resources requested from an API server: seven, each with its use.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};
use http::{HeaderValue, Request};
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;

use super::failure::text;
use crate::discovery::objects::{
    IngressObject, NamespaceObject, NodeObject, PodObject, ServiceObject, SliceEndpoint, SliceObject,
    ingress_class,
};

/// Objects per page of a list. API servers keep whole pages in memory, and so does weir.
const PAGE: &str = "500";
/// The same for whole Nodes, each about 20 KB; the first page only shows how many there are.
const NODES: &str = "50";
const FIRST_NODES: &str = "1";

/// The User-Agent, for audit logs and for finding the source of load on a server.
const AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));

/// Whole objects.
const WHOLE: &str = "application/json";
/// A list of metadata only: a Node is about 20 KB, its metadata 2.
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// The same for the single object of an event. A server takes the first type it knows without checking that it fits: if
/// a list is requested here, it ends the watch at its first event.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// A resource that is listed and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Services.
    Services,
    /// EndpointSlices.
    Slices,
    /// Namespaces; only the annotations are used.
    Namespaces,
    /// This node; only the zone is used.
    Node,
    /// The pods of this node.
    Pods,
    /// Every node; only the addresses are used: at each of them a Service's `nodePort` leads to that Service.
    Nodes,
    /// Ingresses, where a router's identifier is `io.l5d.ingress`.
    Ingresses,
}

/// Which objects of a resource are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Focus {
    /// This node's name.
    pub(super) node: Arc<str>,
    /// The only namespace whose Ingresses are wanted.
    pub(super) namespace: Option<Arc<str>>,
    /// The classes of Ingresses that are wanted, besides those without one.
    pub(super) classes: BTreeSet<Arc<str>>,
}

/// An object of any resource.
#[derive(Debug)]
pub(super) enum Object {
    Service(ServiceObject),
    Slice(SliceObject),
    Namespace(NamespaceObject),
    Node(NodeObject),
    Pod(PodObject),
    /// One of [`Resource::Nodes`].
    OneOfNodes(NodeObject),
    Ingress(IngressObject),
}

/// A decoded object, and its invalid parts.
#[derive(Debug)]
pub(super) struct Sensible {
    pub(super) object: Object,
    /// Mistakes that do not prevent its use.
    pub(super) mistakes: Vec<String>,
    /// Number of parts left out.
    pub(super) left_out: usize,
}

impl Resource {
    /// All resources, in the order of [`index`](Self::index).
    pub const ALL: [Self; 7] = [
        Self::Services,
        Self::Slices,
        Self::Namespaces,
        Self::Node,
        Self::Pods,
        Self::Nodes,
        Self::Ingresses,
    ];

    /// Its index in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in the API, or one that distinguishes it from another of the same name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Slices => "endpointslices",
            Self::Namespaces => "namespaces",
            Self::Node => "nodes",
            Self::Pods => "pods",
            Self::Nodes => "all-nodes",
            Self::Ingresses => "ingresses",
        }
    }

    /// The feature that is missing while it is unknown.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Services | Self::Slices => "the cluster's services",
            Self::Namespaces => "annotations of namespaces",
            Self::Node => "this node's zone",
            Self::Pods => "the use of endpoints at this node's addresses and the enrolment of pods",
            Self::Nodes => "node ports at other nodes' addresses",
            Self::Ingresses => "routing by Ingress rules",
        }
    }

    /// Whether weir needs it to be ready.
    pub fn is_needed(self) -> bool {
        matches!(self, Self::Services | Self::Slices)
    }

    /// Whether only objects of this node are requested, by its name.
    pub(super) fn is_of_node(self) -> bool {
        matches!(self, Self::Node | Self::Pods)
    }

    fn path(self, focus: &Focus) -> Cow<'static, str> {
        let path = match self {
            Self::Services => "/api/v1/services",
            Self::Slices => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Namespaces => "/api/v1/namespaces",
            Self::Node | Self::Nodes => "/api/v1/nodes",
            Self::Pods => "/api/v1/pods",
            Self::Ingresses => match &focus.namespace {
                Some(namespace) => {
                    return format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses").into();
                }
                None => "/apis/networking.k8s.io/v1/ingresses",
            },
        };
        path.into()
    }

    /// Whether this object is wanted. One that is not counts as if it did not exist.
    pub(super) fn is_wanted(self, focus: &Focus, object: &Value) -> bool {
        self != Self::Ingresses || ingress_class(object).is_none_or(|class| focus.classes.contains(class))
    }

    /// The field selector for this node's objects.
    fn selector(self, focus: &Focus) -> Option<String> {
        let node = &focus.node;
        match self {
            Self::Services | Self::Slices | Self::Namespaces | Self::Nodes | Self::Ingresses => None,
            Self::Node => Some(format!("metadata.name={node}")),
            Self::Pods => Some(format!("spec.nodeName={node}")),
        }
    }

    /// Whether only the metadata of its objects is used.
    fn is_metadata(self) -> bool {
        matches!(self, Self::Namespaces | Self::Node)
    }

    /// The request for a page of the list: the first, or the one at the continue token `from`.
    pub(super) fn list(self, focus: &Focus, from: Option<&str>) -> Request<Body> {
        let accept = if self.is_metadata() { METADATA_LIST } else { WHOLE };
        let limit = match (self, from) {
            (Self::Nodes, None) => FIRST_NODES,
            (Self::Nodes, Some(_)) => NODES,
            _ => PAGE,
        };
        self.request(focus, accept, &[("limit", Some(limit)), ("continue", from)])
    }

    /// The shortest list, to learn the newest version.
    pub(super) fn probe(self, focus: &Focus) -> Request<Body> {
        let accept = if self.is_metadata() { METADATA_LIST } else { WHOLE };
        self.request(focus, accept, &[("limit", Some("1"))])
    }

    /// The request for changes since `version`, for so many seconds.
    pub(super) fn watch(self, focus: &Focus, version: &str, seconds: u64) -> Request<Body> {
        let seconds = seconds.to_string();
        let accept = if self.is_metadata() { METADATA } else { WHOLE };
        self.request(
            focus,
            accept,
            &[
                ("watch", Some("true")),
                ("allowWatchBookmarks", Some("true")),
                ("timeoutSeconds", Some(&seconds)),
                ("resourceVersion", Some(version)),
            ],
        )
    }

    fn request(
        self,
        focus: &Focus,
        accept: &'static str,
        parameters: &[(&str, Option<&str>)],
    ) -> Request<Body> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in parameters {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        if let Some(selector) = self.selector(focus) {
            query.append_pair("fieldSelector", &selector);
        }
        let mut request = Request::new(Body::empty());
        *request.uri_mut() =
            format!("{}?{}", self.path(focus), query.finish()).parse().expect("an encoded query makes a URI");
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        request
    }

    /// Decodes `value` as far as it is valid: invalid endpoints of a slice are left out. The others must still be
    /// updated: ignoring the whole slice would keep endpoints that are gone.
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

    /// Decodes `value`.
    ///
    /// # Errors
    ///
    /// A field is missing, or a value is one that no API server would accept.
    pub(super) fn decode(self, value: Value) -> Result<Object, serde_json::Error> {
        match self {
            Self::Services => serde_json::from_value(value).map(Object::Service),
            Self::Slices => serde_json::from_value(value).map(Object::Slice),
            Self::Namespaces => serde_json::from_value(value).map(Object::Namespace),
            Self::Node => serde_json::from_value(value).map(Object::Node),
            Self::Pods => serde_json::from_value(value).map(Object::Pod),
            Self::Nodes => serde_json::from_value(value).map(Object::OneOfNodes),
            Self::Ingresses => IngressObject::read(&value).map(Object::Ingress),
        }
    }
}

/// Removes the invalid endpoints from a slice; returns what is wrong with each.
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
    /// Mistakes that do not prevent its use.
    pub(super) fn mistakes(&self) -> Vec<String> {
        match self {
            Self::Service(service) => service.port_wishes().1,
            Self::Ingress(ingress) => ingress.mistakes.clone(),
            // Enrolment reports those of pods and namespaces.
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
