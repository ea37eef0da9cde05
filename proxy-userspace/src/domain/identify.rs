//! Which name a request asks for: linkerd's identifiers.
//!
//! Each makes a name from a part of a request, or none; the first of a list that makes one is used. weir's default is
//! similar to linkerd's, `io.l5d.header.token` on Host, but makes the host canonical first; if that identifier is
//! configured explicitly, the header's value stays unchanged.

use std::fmt;

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
}

/// Whether the URL's path is part of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlPath {
    /// No.
    Left,
    /// Its segments are appended (`httpUriInDst: true`): `/1.1/GET/host/users/7`.
    Follows,
}

/// Whether URL segments that made a name are removed from the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// They stay in the URL.
    Stay,
    /// They are removed (`consume: true`).
    Go,
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

/// A header that should hold a path and does not: the client's mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHeader(pub String);

/// The name from the first of `identifiers` that makes one.
///
/// # Errors
///
/// [`BadHeader`], if a header does not hold a path.
pub fn identify(
    identifiers: &[Identifier],
    facts: &RequestFacts<'_>,
) -> Result<Option<Identified>, BadHeader> {
    for identifier in identifiers {
        if let Some(identified) = identifier.apply(facts)? {
            return Ok(Some(identified));
        }
    }
    Ok(None)
}

impl Identifier {
    fn apply(&self, facts: &RequestFacts<'_>) -> Result<Option<Identified>, BadHeader> {
        let whole = |name| Identified { name, target: None };
        Ok(match self {
            Self::Host => facts.canonical.map(|(host, scope)| {
                let mut name = Path::default();
                name.push_scoped(host, scope);
                whole(name)
            }),
            Self::Token(name) => {
                let value = (facts.header)(name).filter(|value| !value.is_empty());
                value.map(|value| whole(Path::from_labels([value])))
            }
            Self::Header(name) => match (facts.header)(name).filter(|value| !value.is_empty()) {
                Some(value) => Some(whole(value.parse().map_err(|bad: super::name::BadPath| {
                    BadHeader(format!("the header {name} is no path: {bad}"))
                })?)),
                None => None,
            },
            Self::Path { segments, segments_go } => first_segments(facts.target, *segments, *segments_go),
            Self::Static(path) => Some(whole(path.clone())),
            Self::MethodAndHost(url) => match (facts.is_http_11, facts.host) {
                (true, Some(host)) if !host.is_empty() => {
                    let host = host.to_ascii_lowercase();
                    Some(whole(with(*url, &["1.1", facts.method, &host], facts.target)))
                }
                (true, _) => None,
                (false, _) => Some(whole(with(*url, &["1.0", facts.method], facts.target))),
            },
        })
    }
}

/// The name of `labels`, followed by the segments of `target` if `url` says so.
fn with(url: UrlPath, labels: &[&str], target: &str) -> Path {
    let path = match url {
        UrlPath::Left => "",
        UrlPath::Follows => target.split('?').next().unwrap_or_default(),
    };
    Path::from_labels(labels.iter().copied().chain(path.split('/')))
}

/// The first `count` segments as a name; none if there are fewer. The rest of the target keeps its trailing slash and
/// its query, and is `/` if it would be empty.
fn first_segments(target: &str, count: usize, segments_go: Segments) -> Option<Identified> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut labels = Vec::with_capacity(count);
    let mut rest = path;
    while labels.len() < count {
        let segment = rest.strip_prefix('/')?;
        let end = segment.find('/').unwrap_or(segment.len());
        if end == 0 {
            return None;
        }
        labels.push(&segment[..end]);
        rest = &segment[end..];
    }
    let target = (segments_go == Segments::Go).then(|| {
        let rest = if rest.is_empty() { "/" } else { rest };
        format!("{rest}{query}")
    });
    Some(Identified { name: Path::from_labels(labels), target })
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(identifiers: &[Identifier], target: &str) -> Option<(String, Option<String>)> {
        let header = |name: &str| match name {
            "x-token" => Some("Some.Token"),
            "l5d-name" => Some("/a/b"),
            "empty" => Some(""),
            "bad" => Some("a/b"),
            _ => None,
        };
        let facts = RequestFacts {
            method: "GET",
            is_http_11: true,
            host: Some("Hello:80"),
            canonical: Some(("hello", Scope::Anywhere)),
            target,
            header: &header,
        };
        identify(identifiers, &facts).expect("readable").map(|it| (it.name.to_string(), it.target))
    }

    fn path(segments: usize, segments_go: Segments) -> Identifier {
        Identifier::Path { segments, segments_go }
    }

    #[test]
    fn each_identifier_makes_linkerds_name() {
        for (identifier, expected) in [
            (Identifier::Host, Some("/hello")),
            (Identifier::Token("x-token".into()), Some("/Some.Token")),
            (Identifier::Token("empty".into()), None),
            (Identifier::Token("absent".into()), None),
            (Identifier::Header("l5d-name".into()), Some("/a/b")),
            (Identifier::Header("absent".into()), None),
            (path(1, Segments::Stay), Some("/x")),
            (path(2, Segments::Stay), Some("/x/y")),
            (path(3, Segments::Stay), None),
            (Identifier::Static("/always/this".parse().expect("a path")), Some("/always/this")),
            (Identifier::MethodAndHost(UrlPath::Left), Some("/1.1/GET/hello:80")),
            (Identifier::MethodAndHost(UrlPath::Follows), Some("/1.1/GET/hello:80/x/y")),
        ] {
            let made = name(std::slice::from_ref(&identifier), "/x/y?q=/z").map(|(name, _)| name);
            assert_eq!(made.as_deref(), expected, "{identifier:?}");
        }
    }

    #[test]
    fn consumed_segments_leave_the_trailing_slash_and_the_query() {
        for (target, rest) in
            [("/x/y/z?q", "/y/z?q"), ("/x/y/", "/y/"), ("/x/", "/"), ("/x", "/"), ("/x?q", "/?q")]
        {
            let made = name(&[path(1, Segments::Go)], target).expect("one segment is there");
            assert_eq!(made, ("/x".to_owned(), Some(rest.to_owned())), "{target}");
        }
    }

    #[test]
    fn the_first_that_says_something_counts() {
        let list = [
            Identifier::Token("absent".into()),
            path(9, Segments::Stay),
            Identifier::MethodAndHost(UrlPath::Left),
            Identifier::Host,
        ];
        assert_eq!(name(&list, "/").map(|(name, _)| name).as_deref(), Some("/1.1/GET/hello:80"));
        assert_eq!(name(&[], "/"), None);
    }

    #[test]
    fn a_request_without_a_host_has_a_method_and_host_only_before_http_1_1() {
        for (is_http_11, host, expected) in [
            (true, None, None),
            (true, Some(""), None),
            (false, None, Some("/1.0/GET/x")),
            (false, Some("hello"), Some("/1.0/GET/x")),
        ] {
            let facts = RequestFacts {
                method: "GET",
                is_http_11,
                host,
                canonical: None,
                target: "/x?q",
                header: &|_| None,
            };
            let made = identify(&[Identifier::MethodAndHost(UrlPath::Follows)], &facts).expect("readable");
            assert_eq!(made.map(|it| it.name.to_string()).as_deref(), expected, "{host:?}");
        }
    }

    #[test]
    fn a_header_that_is_no_path_is_the_clients_mistake() {
        let header = |_: &str| Some("a/b");
        let facts = RequestFacts {
            method: "GET",
            is_http_11: true,
            host: None,
            canonical: None,
            target: "/",
            header: &header,
        };
        assert!(identify(&[Identifier::Header("bad".into())], &facts).is_err());
    }
}
