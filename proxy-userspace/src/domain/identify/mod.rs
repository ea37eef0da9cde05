//! Which name a request asks for: linkerd's identifiers, a closed set with one file each.
//!
//! Each makes a name from a part of a request, or none; the first of a list that makes one is used. weir's default is
//! similar to linkerd's, `io.l5d.header.token` on Host, but makes the host canonical first; if that identifier is
//! configured explicitly, the header's value stays unchanged.
//!
//! A request of HTTP/2 has become one of HTTP/1.1 by then: its `:authority` is the Host, its `:path` the target.

mod header;
mod header_path;
mod host;
pub mod ingress;
mod method_and_host;
mod path;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

pub use self::header_path::HeaderPath;
pub use self::ingress::IngressIdentifier;
pub use self::method_and_host::UrlPath;
pub use self::path::Segments;
use super::name::{Path, Scope};

/// How a name is made from a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// `weir.host`: the canonical host. The default.
    Host,
    /// `io.l5d.header.token`: this header's value as one label, its case kept.
    Token(Box<str>),
    /// `io.l5d.header`: this header's value, read as a path.
    Header(Box<str>),
    /// `io.l5d.header.path`: the first segments of the URL or of a header's value.
    HeaderPath(HeaderPath),
    /// `io.l5d.path`: the first segments of the URL.
    Path {
        /// How many segments.
        segments: usize,
        /// Whether they are forwarded to the endpoint.
        segments_go: Segments,
    },
    /// `io.l5d.static`: this path, always.
    Static(Path),
    /// `io.l5d.methodAndHost`, the default of linkerd 0.8: `/1.1/GET/host`; for HTTP/1.0, `/1.0/GET`.
    MethodAndHost(UrlPath),
    /// `io.l5d.ingress`: the backend of the rule of the cluster's Ingresses that fits host and path.
    Ingress(IngressIdentifier),
}

/// The parts of a request from which names are made.
pub struct RequestFacts<'a> {
    /// The method.
    pub method: &'a str,
    /// Whether it is HTTP/1.1 or newer.
    pub is_http_11: bool,
    /// The Host field's value.
    pub host: Option<&'a str>,
    /// The canonical host as in the default name, `hello:8080`, and its scope.
    pub canonical: Option<(&'a str, Scope)>,
    /// The target in origin-form.
    pub target: &'a str,
    /// A header's value by its name, if present and valid text.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// A name, and the changed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The name, without its prefix.
    pub name: Path,
    /// The target to forward, if it changed.
    pub target: Option<String>,
}

/// Why no identifier was asked to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unidentifiable {
    /// A header should hold a path and does not: the client's mistake.
    BadHeader(String),
    /// The cluster's Ingresses are not known yet.
    IngressesUnknown,
}

/// The name from the first of `identifiers` that makes one.
///
/// # Errors
///
/// A header does not hold a path, or the Ingresses are not known yet.
pub fn identify(
    identifiers: &[Identifier],
    facts: &RequestFacts<'_>,
) -> Result<Option<Identified>, Unidentifiable> {
    for identifier in identifiers {
        if let Some(identified) = identifier.apply(facts)? {
            return Ok(Some(identified));
        }
    }
    Ok(None)
}

/// The rule by which the name of [`identify`] was made, where that is one of several.
pub fn rule_of(identifiers: &[Identifier], facts: &RequestFacts<'_>) -> Option<String> {
    let made = identifiers.iter().find(|it| matches!(it.apply(facts), Ok(Some(_)) | Err(_)))?;
    match made {
        Identifier::Ingress(ingress) => ingress.rule_of(facts),
        _ => None,
    }
}

impl Identifier {
    fn apply(&self, facts: &RequestFacts<'_>) -> Result<Option<Identified>, Unidentifiable> {
        Ok(match self {
            Self::Host => host::identify(facts).map(Identified::by),
            Self::Token(name) => token::identify(name, facts).map(Identified::by),
            Self::Header(name) => header::identify(name, facts)?.map(Identified::by),
            Self::HeaderPath(it) => it.identify(facts)?.map(Identified::by),
            Self::Path { segments, segments_go } => path::identify(facts.target, *segments, *segments_go),
            Self::Static(path) => Some(Identified::by(path.clone())),
            Self::MethodAndHost(url) => method_and_host::identify(*url, facts).map(Identified::by),
            Self::Ingress(it) => it.identify(facts)?.map(Identified::by),
        })
    }

    /// Whether the name is made from this header, which is in lower case.
    pub fn reads(&self, header: &str) -> bool {
        match self {
            Self::Token(name) | Self::Header(name) => name.eq_ignore_ascii_case(header),
            Self::HeaderPath(it) => {
                it.header.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(header))
            }
            Self::Host | Self::Path { .. } | Self::Static(_) | Self::MethodAndHost(_) | Self::Ingress(_) => {
                false
            }
        }
    }
}

impl Identified {
    fn by(name: Path) -> Self {
        Self { name, target: None }
    }
}

/// The path of a target, without its query.
fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

impl fmt::Display for Unidentifiable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHeader(why) => f.write_str(why),
            Self::IngressesUnknown => f.write_str("the cluster's Ingresses are not known yet"),
        }
    }
}
