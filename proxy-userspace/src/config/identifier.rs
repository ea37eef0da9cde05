//! `identifier` and `namers`, in linkerd's kinds and keys.

use std::sync::Arc;

use serde::Deserialize;

use super::transform::{self, WrittenTransformer};
use super::tree::{Node, Value};
use super::{Mistake, quoted, values};
use crate::domain::identify::ingress::{CLASS, IngressSource};
use crate::domain::identify::{HeaderPath, Identifier, IngressIdentifier, Segments, UrlPath};
use crate::domain::name::Path;
use crate::domain::route::{Configured, Kind, Resolver, Rewrite, Transform};

#[derive(Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
enum Written {
    #[serde(rename = "weir.host")]
    Host {},
    #[serde(rename = "io.l5d.header.token")]
    Token { header: Option<String> },
    #[serde(rename = "io.l5d.header")]
    Header { header: Option<String> },
    #[serde(rename = "io.l5d.header.path")]
    HeaderPath { header: Option<String>, segments: Option<usize> },
    #[serde(rename = "io.l5d.path")]
    Path { segments: Option<usize>, consume: Option<bool> },
    #[serde(rename = "io.l5d.static")]
    Static { path: String },
    #[serde(rename = "io.l5d.methodAndHost")]
    MethodAndHost {
        #[serde(rename = "httpUriInDst")]
        http_uri_in_dst: Option<bool>,
    },
    #[serde(rename = "io.l5d.ingress", rename_all = "camelCase")]
    Ingress {
        namespace: Option<String>,
        ingress_class_annotation: Option<String>,
        ignore_default_backends: Option<bool>,
    },
}

#[derive(Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
enum WrittenNamer {
    #[serde(rename = "io.l5d.fs")]
    Fs { prefix: Option<String>, transformers: Option<Vec<WrittenTransformer>> },
    #[serde(rename = "io.l5d.k8s")]
    K8s { prefix: Option<String>, transformers: Option<Vec<WrittenTransformer>> },
    #[serde(rename = "io.l5d.k8s.ns")]
    K8sNamespace { prefix: Option<String>, namespace: String, transformers: Option<Vec<WrittenTransformer>> },
    #[serde(rename = "io.l5d.rewrite")]
    Rewrite { prefix: String, pattern: String, name: String },
}

/// One identifier, or a list that is tried in order.
pub(super) fn identifiers(node: &Node) -> Result<Vec<Identifier>, Mistake> {
    match &node.value {
        Value::List(items) if items.is_empty() => Err(Mistake::new("an empty list identifies nothing")),
        Value::List(items) => items.iter().map(identifier).collect(),
        _ => Ok(vec![identifier(node)?]),
    }
}

fn identifier(node: &Node) -> Result<Identifier, Mistake> {
    let written = Written::deserialize(node).map_err(|error| {
        Mistake::new(format!("no identifier: {error}"))
            .hint("write `{ kind: io.l5d.header.token, header: X-Service }`")
    })?;
    Ok(match written {
        Written::Host {} => Identifier::Host,
        Written::Token { header } => Identifier::Token(field(header.as_deref().unwrap_or("host"))?),
        Written::HeaderPath { header, segments } => Identifier::HeaderPath(HeaderPath {
            header: match header.as_deref() {
                None | Some(":path") => None,
                Some(header) => Some(field(header)?),
            },
            segments: segments.map(in_range).transpose()?,
        }),
        Written::Header { header } => Identifier::Header(field(header.as_deref().unwrap_or("l5d-name"))?),
        Written::Path { segments, consume } => {
            let segments = in_range(segments.unwrap_or(1))?;
            let segments_go = if consume == Some(true) { Segments::Go } else { Segments::Stay };
            Identifier::Path { segments, segments_go }
        }
        Written::Static { path } => {
            let path = if path.starts_with('/') { path } else { format!("/{path}") };
            Identifier::Static(name(&path)?)
        }
        Written::MethodAndHost { http_uri_in_dst: Some(true) } => Identifier::MethodAndHost(UrlPath::Follows),
        Written::MethodAndHost { .. } => Identifier::MethodAndHost(UrlPath::Left),
        Written::Ingress { namespace, ingress_class_annotation, ignore_default_backends } => {
            let source = IngressSource {
                namespace: namespace.as_deref().map(object_name).transpose()?,
                class: object_name(ingress_class_annotation.as_deref().unwrap_or(CLASS))?,
                ignore_default_backends: ignore_default_backends.unwrap_or(false),
            };
            Identifier::Ingress(IngressIdentifier { source, table: None })
        }
    })
}

fn in_range(segments: usize) -> Result<usize, Mistake> {
    match (1..=64).contains(&segments) {
        true => Ok(segments),
        false => Err(Mistake::new(format!("{segments} is not from 1 to 64 segments"))),
    }
}

/// A namespace, or a class of Ingresses, which is the name of an object too.
fn object_name(text: &str) -> Result<Arc<str>, Mistake> {
    match values::is_domain(text) {
        true => Ok(text.into()),
        false => Err(Mistake::new(format!("{} is no name of an object", quoted(text)))
            .hint("lower-case letters, digits, `-` and `.`")),
    }
}

/// A header's name, in lower case. `:authority` of HTTP/2 is the Host.
fn field(header: &str) -> Result<Box<str>, Mistake> {
    if header.eq_ignore_ascii_case(":authority") {
        return Ok("host".into());
    }
    let lower = header.to_ascii_lowercase();
    http::HeaderName::from_bytes(lower.as_bytes())
        .map(|_| lower.into())
        .map_err(|_| Mistake::new(format!("{} is no header's name", quoted(header))))
}

/// A path.
pub(super) fn name(text: &str) -> Result<Path, Mistake> {
    text.parse().map_err(|bad: crate::domain::name::BadPath| {
        Mistake::new(format!("{} is no path: {bad}", quoted(text)))
    })
}

/// One namer.
pub(super) fn namer(node: &Node) -> Result<Configured, Mistake> {
    let written = WrittenNamer::deserialize(node).map_err(|error| {
        Mistake::new(format!("no namer: {error}"))
            .hint("write `{ kind: io.l5d.rewrite, prefix: /x, pattern: …, name: … }`")
    })?;
    let find = |prefix: Option<String>, default: &str, kind, transformers: Option<Vec<_>>| {
        Ok(Configured {
            prefix: name(prefix.as_deref().unwrap_or(default))?,
            resolver: Resolver::Find(kind),
            transform: transform::read(transformers.unwrap_or_default())?,
        })
    };
    match written {
        WrittenNamer::Fs { prefix, transformers } => find(prefix, "/io.l5d.fs", Kind::Fs, transformers),
        WrittenNamer::K8s { prefix, transformers } => find(prefix, "/io.l5d.k8s", Kind::K8s, transformers),
        WrittenNamer::K8sNamespace { prefix, namespace, transformers } => {
            let kind = Kind::K8sNamespace(namespace.as_str().into());
            find(prefix, "/io.l5d.k8s.ns", kind, transformers)
        }
        WrittenNamer::Rewrite { prefix, pattern, name: template } => {
            let rewrite = Rewrite::new(&pattern, &template)
                .map_err(|bad| Mistake::new(format!("no rewrite: {bad}")))?;
            let resolver = Resolver::Rewrite(rewrite);
            Ok(Configured { prefix: name(&prefix)?, resolver, transform: Transform::default() })
        }
    }
}
