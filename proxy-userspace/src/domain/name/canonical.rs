//! One spelling for every way to write a host.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::literal::legacy_ipv4;

/// The settings that canonical names depend on (`names` in the configuration).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The namespace that may be left out of a name (`default`).
    pub namespace: Box<str>,
    /// The name of the service port that a name without a port means (`http`).
    pub port: Box<str>,
    /// The cluster's DNS domain, lower case, without dots at either end (`cluster.local`).
    pub cluster_domain: Box<str>,
}

/// A canonical host with its port: lower case, no trailing dot, no cluster suffix, no default namespace,
/// and no `:80`, which is what plain HTTP means without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// The host; an IPv6 literal is without its brackets.
    pub host: Cow<'a, str>,
    /// The port, unless it was absent or 80.
    pub port: Option<u16>,
}

/// Why a host cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHost {
    /// Nothing before the port.
    Empty,
    /// The port is not a number from 1 to 65535.
    Port,
    /// A byte that no host name holds (RFC 3986 §3.2.2, RFC 1123 §2.1; `_` is allowed as DNS labels use it).
    Character,
    /// Over 253 bytes (RFC 1035 §2.3.4), or a label that is empty or over 63.
    Length,
    /// An opening bracket that is not an IPv6 literal's (RFC 3986 §3.2.2).
    Literal,
}

impl Rules {
    /// The canonical form of `authority`, a `host[:port]` as it stands in a URI or a Host header.
    ///
    /// Borrows wherever the spelling already was canonical, which nearly every request's is.
    ///
    /// # Errors
    ///
    /// [`BadHost`] when it is not a host.
    pub fn canonical<'a>(&self, authority: &'a str) -> Result<Host<'a>, BadHost> {
        let (host, port) = split(authority)?;
        let port = port.filter(|&port| port != 80);
        if host.as_bytes().first() == Some(&b'[') {
            let literal = host[1..].strip_suffix(']').ok_or(BadHost::Literal)?;
            let address: Ipv6Addr = literal.parse().map_err(|_| BadHost::Literal)?;
            return Ok(Host { host: Cow::Owned(address.to_string()), port });
        }
        let mut host = lower(host.strip_suffix('.').unwrap_or(host));
        check(&host)?;
        let kept = self.shorten(&host).len();
        match &mut host {
            Cow::Borrowed(whole) => *whole = &whole[..kept],
            Cow::Owned(whole) => whole.truncate(kept),
        }
        Ok(Host { host, port })
    }

    /// Cuts `.svc.<cluster domain>` or `.svc`, then `.<default namespace>`.
    fn shorten<'a>(&self, host: &'a str) -> &'a str {
        let in_cluster = strip_label_suffix(host, &self.cluster_domain).unwrap_or(host);
        // `hello.default.cluster.local` without `.svc` is no service name: only the whole suffix is cut.
        let service = match strip_label_suffix(in_cluster, "svc") {
            Some(service) => service,
            None => host,
        };
        strip_label_suffix(service, &self.namespace).unwrap_or(service)
    }

    /// Whether `host`, canonical, lies below the cluster's own domain: DNS outside knows nothing of it.
    pub fn in_cluster_domain(&self, host: &str) -> bool {
        host == &*self.cluster_domain || strip_label_suffix(host, &self.cluster_domain).is_some()
    }
}

impl Host<'_> {
    /// The address, when the host is an IP literal.
    pub fn literal(&self) -> Option<IpAddr> {
        // Names start with a digit or hold a colon rarely; anything else is not worth parsing.
        let first = *self.host.as_bytes().first()?;
        if first.is_ascii_digit() || self.host.contains(':') { self.host.parse().ok() } else { None }
    }

    /// The address, when the host is an IPv4 literal as only `inet_aton` spells it (`2130706433`, `0177.0.0.1`).
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

/// `host[:port]`; brackets stay on the host.
fn split(authority: &str) -> Result<(&str, Option<u16>), BadHost> {
    let after_brackets = match authority.strip_prefix('[') {
        Some(literal) => literal.find(']').ok_or(BadHost::Literal)? + 2,
        None => 0,
    };
    let (host, port) = match authority[after_brackets..].find(':') {
        Some(at) => {
            let (host, port) = authority.split_at(after_brackets + at);
            (host, number(&port[1..])?)
        }
        None => (authority, None),
    };
    if host.is_empty() { Err(BadHost::Empty) } else { Ok((host, port)) }
}

/// A port; `host:` with nothing after the colon is a host without one (RFC 3986 §3.2.3).
fn number(port: &str) -> Result<Option<u16>, BadHost> {
    if port.is_empty() {
        return Ok(None);
    }
    // `parse` would take a leading plus sign.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadHost::Port);
    }
    port.parse().ok().filter(|&port| port != 0).map(Some).ok_or(BadHost::Port)
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

fn check(host: &str) -> Result<(), BadHost> {
    if host.len() > 253 {
        return Err(BadHost::Length);
    }
    let mut label = 0;
    for byte in host.bytes() {
        match byte {
            b'.' if label == 0 => return Err(BadHost::Length),
            b'.' => label = 0,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' if label < 63 => label += 1,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => return Err(BadHost::Length),
            _ => return Err(BadHost::Character),
        }
    }
    if label == 0 { Err(BadHost::Length) } else { Ok(()) }
}

/// `host` without `.suffix`, when it ends so and something is left.
fn strip_label_suffix<'a>(host: &'a str, suffix: &str) -> Option<&'a str> {
    host.strip_suffix(suffix)?.strip_suffix('.').filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> Rules {
        Rules { namespace: "default".into(), port: "http".into(), cluster_domain: "cluster.local".into() }
    }

    fn name(authority: &str) -> Result<String, BadHost> {
        rules().canonical(authority).map(|host| host.to_string())
    }

    #[test]
    fn every_spelling_of_a_service_is_one_name() {
        for spelling in [
            "hello",
            "HELLO",
            "hello.",
            "hello:80",
            "hello:",
            "Hello.Default",
            "hello.default.svc",
            "hello.default.svc.cluster.local",
            "hello.default.svc.cluster.local.:80",
        ] {
            assert_eq!(name(spelling).as_deref(), Ok("/svc/hello"), "{spelling}");
        }
    }

    #[test]
    fn what_differs_stays_different() {
        for (spelling, canonical) in [
            ("hello.shop", "/svc/hello.shop"),
            ("hello.shop.svc.cluster.local:8080", "/svc/hello.shop:8080"),
            ("hello:8080", "/svc/hello:8080"),
            ("hello:080", "/svc/hello"),
            ("example.com", "/svc/example.com"),
            ("default", "/svc/default"),
            ("svc", "/svc/svc"),
            ("hello.default.cluster.local", "/svc/hello.default.cluster.local"),
            ("[FD00::1]:8080", "/svc/[fd00::1]:8080"),
            ("10.96.0.10", "/svc/10.96.0.10"),
        ] {
            assert_eq!(name(spelling).as_deref(), Ok(canonical), "{spelling}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_its_reason() {
        let long = "a".repeat(64);
        let longer = "a.".repeat(127) + "a";
        for (authority, reason) in [
            ("", BadHost::Empty),
            (":80", BadHost::Empty),
            (".", BadHost::Length),
            ("a..b", BadHost::Length),
            (".a", BadHost::Length),
            (long.as_str(), BadHost::Length),
            (longer.as_str(), BadHost::Length),
            ("hello:0", BadHost::Port),
            ("hello:+80", BadHost::Port),
            ("hello:65536", BadHost::Port),
            ("hello:80:80", BadHost::Port),
            ("fd00::1", BadHost::Port),
            ("he llo", BadHost::Character),
            ("user@hello", BadHost::Character),
            ("hello/", BadHost::Character),
            ("[fd00::1", BadHost::Literal),
            ("[hello]", BadHost::Literal),
            ("[fe80::1%eth0]", BadHost::Literal),
        ] {
            assert_eq!(name(authority), Err(reason), "{authority}");
        }
    }

    proptest! {
        #[test]
        fn canonical_names_are_canonical(authority in "[a-zA-Z0-9.:\\[\\]_-]{0,40}") {
            let rules = rules();
            if let Ok(host) = rules.canonical(&authority) {
                let again = host.to_string();
                let once_more = rules.canonical(&again["/svc/".len()..]).map(|host| host.to_string());
                // Shortening may uncover another suffix (`a.default.default`); it is cut once, as in DNS search.
                let shorter = once_more.is_ok_and(|name| again.starts_with(&name) || name == again);
                prop_assert!(shorter || host.literal().is_some(), "{again}");
            }
        }

        #[test]
        fn no_input_panics(authority in "\\PC{0,300}") {
            let _ = rules().canonical(&authority);
        }
    }
}
