//! One canonical form for all spellings of a host.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::literal::legacy_ipv4;

/// The settings that canonical names depend on (`names` in the configuration).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The namespace that a name may omit (`default`).
    pub namespace: Box<str>,
    /// The name of the service port that is used for a name without a port (`http`).
    pub port: Box<str>,
    /// The cluster's DNS domain, lower case, without dots at either end (`cluster.local`).
    pub cluster_domain: Box<str>,
}

/// A canonical host with its port: lower case, no trailing dot, no cluster suffix, no default namespace, and no `:80`,
/// the default port of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// The host; an IPv6 literal is without its brackets.
    pub host: Cow<'a, str>,
    /// The port, unless it was absent or 80.
    pub port: Option<u16>,
    /// Where it may be looked up, depending on how it was written.
    pub scope: Scope,
}

/// Where a host may be looked up, depending on how it was written. It is kept with the canonical host and with the
/// label made from it (`Labels::scope`), since `api.dev.svc.cluster.local` and `api.dev` have the same canonical host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// A short name or any other host: a Service, or a name that DNS outside the cluster may know.
    #[default]
    Anywhere,
    /// As [`Self::Anywhere`], looked up by a namer that knows only Services: DNS is asked only below the cluster's
    /// domain.
    Inside,
    /// Written below the cluster's domain or with `.svc`: DNS is asked only below the cluster's domain.
    Cluster,
}

/// Why a host is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHost {
    /// No host before the port.
    Empty,
    /// The port is not a number from 1 to 65535.
    Port,
    /// A byte that is not allowed in a host name (RFC 3986 §3.2.2, RFC 1123 §2.1; `_` is allowed, as in DNS labels).
    Character,
    /// Longer than 253 bytes (RFC 1035 §2.3.4), or a label that is empty or longer than 63.
    Length,
    /// An opening bracket that does not start an IPv6 literal (RFC 3986 §3.2.2).
    Literal,
}

impl Rules {
    /// The canonical form of `authority`, a `host[:port]` from a URI or a Host header.
    ///
    /// Borrows if the spelling is already canonical, as in nearly every request.
    ///
    /// # Errors
    ///
    /// [`BadHost`] if it is not a host.
    pub fn canonical<'a>(&self, authority: &'a str) -> Result<Host<'a>, BadHost> {
        let mut read = read(authority)?;
        if read.literal().is_some() {
            return Ok(read);
        }
        let (kept, scope) = self.shorten(&read.host);
        let kept = kept.len();
        match &mut read.host {
            Cow::Borrowed(whole) => *whole = &whole[..kept],
            Cow::Owned(whole) => whole.truncate(kept),
        }
        Ok(Host { scope, ..read })
    }

    /// The host in a label of a name. A label of [`Scope::Cluster`] is already canonical and is not shortened again:
    /// there, `api.svc` is the Service `api` in a namespace called `svc`.
    ///
    /// # Errors
    ///
    /// As [`Self::canonical`].
    pub fn host_of<'a>(&self, label: &'a str, scope: Scope) -> Result<Host<'a>, BadHost> {
        match scope {
            Scope::Anywhere | Scope::Inside => self.canonical(label),
            Scope::Cluster => read(label).map(|host| Host { scope, ..host }),
        }
    }

    /// Whether `authority` names a service without a namespace: the default namespace, or the client's, applies.
    pub fn is_short(&self, authority: &str) -> bool {
        read(authority).is_ok_and(|host| !host.is_address() && !self.unsuffixed(&host.host).0.contains('.'))
    }

    /// The canonical, [short](Self::is_short) `host` in this namespace.
    pub fn of_namespace<'a>(&self, host: Host<'a>, namespace: &str) -> Host<'a> {
        if *namespace == *self.namespace {
            return host;
        }
        Host { host: format!("{}.{namespace}", host.host).into(), scope: Scope::Cluster, ..host }
    }

    /// Removes `.svc.<cluster domain>` or `.svc`, then `.<default namespace>` of a Service; not from
    /// `pod.service.<default namespace>`, since `pod.service` would name another Service. Also returns the scope.
    fn shorten<'a>(&self, host: &'a str) -> (&'a str, Scope) {
        let (service, scope) = self.unsuffixed(host);
        let short = strip_label_suffix(service, &self.namespace).filter(|short| !short.contains('.'));
        (short.unwrap_or(service), scope)
    }

    /// Removes `.svc.<cluster domain>` or `.svc`. Also returns the scope.
    fn unsuffixed<'a>(&self, host: &'a str) -> (&'a str, Scope) {
        let in_cluster = strip_label_suffix(host, &self.cluster_domain);
        // `hello.default.cluster.local` without `.svc` is not a service name: only the whole suffix is removed.
        let service = strip_label_suffix(in_cluster.unwrap_or(host), "svc");
        let scope = match service {
            None if in_cluster.is_none() && host != &*self.cluster_domain => Scope::Anywhere,
            _ => Scope::Cluster,
        };
        (service.unwrap_or(host), scope)
    }

    /// Whether the canonical `host` is below the cluster's own domain, which DNS outside the cluster does not know.
    pub fn in_cluster_domain(&self, host: &str) -> bool {
        host == &*self.cluster_domain || strip_label_suffix(host, &self.cluster_domain).is_some()
    }
}

impl Host<'_> {
    /// The address, if the host is an IP literal.
    pub fn literal(&self) -> Option<IpAddr> {
        // Few names start with a digit or contain a colon; only those are parsed.
        let first = *self.host.as_bytes().first()?;
        let has_colon = || self.host.as_bytes().contains(&b':');
        if first.is_ascii_digit() || has_colon() { self.host.parse().ok() } else { None }
    }

    /// The address, if the host is an IPv4 literal in a form that only `inet_aton` accepts (`2130706433`,
    /// `0177.0.0.1`).
    pub fn legacy_literal(&self) -> Option<IpAddr> {
        if !self.host.as_bytes().first()?.is_ascii_digit() {
            return None;
        }
        legacy_ipv4(&self.host).map(IpAddr::V4)
    }
}

impl Host<'_> {
    /// The host as one label of a name: `hello`, `hello.shop:8080`, `[fd00::1]:8080`.
    pub fn label(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{open}{}{close}{port}", self.host)
    }
}

/// The name's path: `/svc/hello`, `/svc/hello.shop:8080`.
impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/svc/{}", self.label())
    }
}

impl fmt::Display for BadHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::Port => "the port is not a number from 1 to 65535",
            Self::Character => "the host holds a character that no host name has",
            Self::Length => "the host or one of its labels is empty or too long",
            Self::Literal => "the host starts with a bracket but is no IPv6 address",
        })
    }
}

impl std::error::Error for BadHost {}

/// Checks that `authority` is a valid `host[:port]`. Does not allocate.
///
/// # Errors
///
/// As [`Rules::canonical`].
pub fn check_host(authority: &str) -> Result<(), BadHost> {
    parse(authority).map(|_| ())
}

/// A host as written.
enum Written<'a> {
    /// A name or an IPv4 literal, without its trailing dot, and whether it has no upper-case letter.
    Name(&'a str, bool),
    /// An IPv6 literal.
    Literal(Ipv6Addr),
}

/// The host in `authority`, lower case, without its trailing dot, not shortened.
fn read(authority: &str) -> Result<Host<'_>, BadHost> {
    let (host, port) = parse(authority)?;
    let host = match host {
        Written::Name(host, true) => Cow::Borrowed(host),
        Written::Name(host, false) => Cow::Owned(host.to_ascii_lowercase()),
        Written::Literal(address) => Cow::Owned(address.to_string()),
    };
    Ok(Host { host, port: port.filter(|&port| port != 80), scope: Scope::Anywhere })
}

fn parse(authority: &str) -> Result<(Written<'_>, Option<u16>), BadHost> {
    let (host, port) = split(authority)?;
    if host.as_bytes().first() == Some(&b'[') {
        let literal = host[1..].strip_suffix(']').ok_or(BadHost::Literal)?;
        let address = literal.parse().map_err(|_| BadHost::Literal)?;
        return Ok((Written::Literal(address), port));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_lower = check(host)?;
    Ok((Written::Name(host, is_lower), port))
}

/// `host[:port]`; brackets stay on the host.
fn split(authority: &str) -> Result<(&str, Option<u16>), BadHost> {
    let after_brackets = match authority.strip_prefix('[') {
        Some(literal) => literal.find(']').ok_or(BadHost::Literal)? + 2,
        None => 0,
    };
    // `find` is for longer texts.
    let colon = authority.as_bytes()[after_brackets..].iter().position(|byte| *byte == b':');
    let (host, port) = match colon {
        Some(at) => {
            let (host, port) = authority.split_at(after_brackets + at);
            (host, number(&port[1..])?)
        }
        None => (authority, None),
    };
    if host.is_empty() { Err(BadHost::Empty) } else { Ok((host, port)) }
}

/// A port; `host:` with an empty port is a host without one (RFC 3986 §3.2.3).
fn number(port: &str) -> Result<Option<u16>, BadHost> {
    if port.is_empty() {
        return Ok(None);
    }
    // `parse` would accept a leading plus sign.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadHost::Port);
    }
    port.parse().ok().filter(|&port| port != 0).map(Some).ok_or(BadHost::Port)
}

/// What a byte is in a host name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Bad,
    Lower,
    Upper,
    Dot,
}

/// By byte: a look-up costs less than comparisons with six ranges.
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Bad; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => Class::Lower,
            b'A'..=b'Z' => Class::Upper,
            b'.' => Class::Dot,
            _ => Class::Bad,
        };
        byte += 1;
    }
    classes
};

/// Checks a host name. Returns whether it has no upper-case letter.
fn check(host: &str) -> Result<bool, BadHost> {
    if host.len() > 253 {
        return Err(BadHost::Length);
    }
    let (mut label, mut is_lower) = (0, true);
    for byte in host.bytes() {
        let class = CLASSES[usize::from(byte)];
        match class {
            Class::Bad => return Err(BadHost::Character),
            Class::Dot if label == 0 => return Err(BadHost::Length),
            Class::Dot => label = 0,
            Class::Lower | Class::Upper if label == 63 => return Err(BadHost::Length),
            Class::Lower | Class::Upper => label += 1,
        }
        is_lower &= class != Class::Upper;
    }
    if label == 0 { Err(BadHost::Length) } else { Ok(is_lower) }
}

/// `host` without `.suffix`, if it ends with that and a non-empty host remains.
fn strip_label_suffix<'a>(host: &'a str, suffix: &str) -> Option<&'a str> {
    host.strip_suffix(suffix)?.strip_suffix('.').filter(|rest| !rest.is_empty())
}

#[cfg(test)]
#[path = "canonical_tests.rs"]
mod tests;
