//! What is asked of an API server: five resources, each with what it is for.

use std::fmt;

use http::header::{ACCEPT, ACCEPT_ENCODING};
use http::{HeaderValue, Request};
use kube::client::Body;
use serde_json::Value;

use crate::discovery::objects::{NamespaceObject, NodeObject, PodObject, ServiceObject, SliceObject};

/// Objects of a page of a list. API servers keep whole pages in memory, and so does weir.
const PAGE: &str = "500";

/// Metadata alone: a Node is some 20 KB, its metadata 2.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

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
}

/// An object of any of them.
#[derive(Debug)]
pub(super) enum Object {
    Service(ServiceObject),
    Slice(SliceObject),
    Namespace(NamespaceObject),
    Node(NodeObject),
    Pod(PodObject),
}

impl Resource {
    /// All of them, in the order of [`index`](Self::index).
    pub const ALL: [Self; 5] = [Self::Services, Self::Slices, Self::Namespaces, Self::Node, Self::Pods];

    /// Its place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Slices => "endpointslices",
            Self::Namespaces => "namespaces",
            Self::Node => "nodes",
            Self::Pods => "pods",
        }
    }

    /// What there is not while it is not known.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Services | Self::Slices => "the cluster's services",
            Self::Namespaces => "annotations of namespaces",
            Self::Node => "this node's zone",
            Self::Pods => "the enrolment of pods",
        }
    }

    /// Whether weir is not ready until it is known.
    pub fn is_needed(self) -> bool {
        matches!(self, Self::Services | Self::Slices)
    }

    fn path(self) -> &'static str {
        match self {
            Self::Services => "/api/v1/services",
            Self::Slices => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Namespaces => "/api/v1/namespaces",
            Self::Node => "/api/v1/nodes",
            Self::Pods => "/api/v1/pods",
        }
    }

    /// The field selector that leaves only what concerns the node.
    fn selector(self, node: &str) -> Option<String> {
        match self {
            Self::Services | Self::Slices | Self::Namespaces => None,
            Self::Node => Some(format!("metadata.name={node}")),
            Self::Pods => Some(format!("spec.nodeName={node}")),
        }
    }

    fn accept(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Namespaces | Self::Node => METADATA,
            Self::Services | Self::Slices | Self::Pods => "application/json",
        })
    }

    /// A page of the list: the first, or the one that `from` continues with.
    pub(super) fn list(self, node: &str, from: Option<&str>) -> Request<Body> {
        self.request(node, &[("limit", Some(PAGE)), ("continue", from)])
    }

    /// The changes since `version`, for so many seconds.
    pub(super) fn watch(self, node: &str, version: &str, seconds: u64) -> Request<Body> {
        let seconds = seconds.to_string();
        self.request(
            node,
            &[
                ("watch", Some("true")),
                ("allowWatchBookmarks", Some("true")),
                ("timeoutSeconds", Some(&seconds)),
                ("resourceVersion", Some(version)),
            ],
        )
    }

    fn request(self, node: &str, parameters: &[(&str, Option<&str>)]) -> Request<Body> {
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
        request.headers_mut().insert(ACCEPT, self.accept());
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        request
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
        }
    }
}

impl Object {
    /// What is wrong with it that does not keep it from being used.
    pub(super) fn mistakes(&self) -> Vec<String> {
        match self {
            Self::Service(service) => service.port_wishes().1,
            // Those of pods and namespaces are enrolment's to find.
            Self::Slice(_) | Self::Namespace(_) | Self::Node(_) | Self::Pod(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
