//! The built-in namers below `/$/`.
//!
//! Most only rearrange a name (linkerd's `io.buoyant.*`); `inet` and `rinet` name a host and port themselves. Labels
//! made from a label keep its scope: the parts of a host of the cluster can be put together again.

use super::{Kind, Outside};
use crate::domain::name::{Labels, Path, Scope};

/// The result of a built-in namer.
#[derive(Debug, PartialEq)]
pub(super) enum Builtin {
    /// Another name, which is looked up next.
    Path(Path),
    /// A host and port; the labels from `taken` on are the residual.
    Outside { outside: Outside, taken: usize },
    /// Look up the labels after the first two in the namer of this kind.
    Find(Kind),
    /// `/$/fail…`.
    Fail,
    /// `/$/nil…`.
    Empty,
    /// No such name, and why.
    Neg(&'static str),
}

/// The scope of a label, from its text alone.
pub(super) type ScopeOf<'a> = &'a dyn Fn(&[u8]) -> Scope;

/// Evaluates `name`, which starts with `/$`.
pub(super) fn look_up(name: Labels<'_>, scope_of: ScopeOf<'_>) -> Builtin {
    let rest = name.skip(2);
    let scope = |at: usize| rest.scope(at).max(rest.get(at).map_or(Scope::Anywhere, scope_of));
    let rewritten = match name.text(1) {
        Some("fail") => return Builtin::Fail,
        Some("nil") => return Builtin::Empty,
        Some("inet") => return inet(rest),
        Some("io.buoyant.rinet") => return rinet(rest),
        Some("weir.host") => return Builtin::Find(Kind::Host),
        Some("weir.dns") => return Builtin::Find(Kind::Dns),
        Some("io.buoyant.hostportPfx") => hostport(rest, scope(1), |host, port| [host, port]),
        Some("io.buoyant.porthostPfx") => hostport(rest, scope(1), |host, port| [port, host]),
        Some("io.buoyant.http.domainToPath") => domain_to_path(rest, 0, scope(0)),
        Some("io.buoyant.http.domainToPathPfx") => domain_to_path(rest, 1, scope(1)),
        Some("io.buoyant.http.subdomainOf") => subdomain_of(rest, 0, scope(1)),
        Some("io.buoyant.http.subdomainOfPfx") => subdomain_of(rest, 1, scope(2)),
        Some("io.buoyant.http.anyMethod") => without(rest, 0, is_method, "it is no method (A-Z)"),
        Some("io.buoyant.http.anyMethodPfx") => without(rest, 1, is_method, "it is no method (A-Z)"),
        Some("io.buoyant.http.anyHost") => without(rest, 0, is_host, NO_HOST),
        Some("io.buoyant.http.anyHostPfx") => without(rest, 1, is_host, NO_HOST),
        _ => Err(UNKNOWN),
    };
    rewritten.map_or_else(Builtin::Neg, Builtin::Path)
}

/// Whether there is a built-in namer `/$/<name>`.
pub fn is_builtin(name: &str) -> bool {
    look_up(Path::from_labels(["$", name]).labels(), &|_| Scope::Anywhere) != Builtin::Neg(UNKNOWN)
}

const UNKNOWN: &str = "there is no built-in namer of that name";

type Rewritten = Result<Path, &'static str>;

const NO_HOST: &str = "there is no host name";
const TOO_SHORT: &str = "the name is too short for this namer";

/// linkerd's approximate test for a host: a DNS name, IPv4 or IPv6, optionally with a port.
fn is_host(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'_' | b'-'))
}

fn is_method(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// `/host/port`, or `/port` at localhost.
fn inet(rest: Labels<'_>) -> Builtin {
    if let Some(port) = rest.text(1).and_then(integer) {
        return outside(rest.text(0), rest.scope(0), port, 2);
    }
    match rest.text(0).and_then(integer) {
        Some(port) => outside(Some("localhost"), Scope::Anywhere, port, 1),
        None => Builtin::Neg("the name is not /$/inet/<host>/<port> or /$/inet/<port>"),
    }
}

/// `/port/host`.
fn rinet(rest: Labels<'_>) -> Builtin {
    match (rest.text(0).and_then(integer), rest.text(1)) {
        (Some(port), host @ Some(_)) => outside(host, rest.scope(1), port, 2),
        _ => Builtin::Neg("the name is not /$/io.buoyant.rinet/<port>/<host>"),
    }
}

fn outside(host: Option<&str>, scope: Scope, port: u64, taken: usize) -> Builtin {
    let host = host.map(|host| host.strip_suffix('.').unwrap_or(host)).filter(|host| is_host(host));
    match (host, u16::try_from(port)) {
        (Some(host), Ok(port @ 1..)) => {
            let outside = Outside { host: host.to_ascii_lowercase().into(), port, scope, written: false };
            Builtin::Outside { outside, taken: 2 + taken }
        }
        (None, _) => Builtin::Neg(NO_HOST),
        (Some(_), _) => Builtin::Neg("a port is a number from 1 to 65535"),
    }
}

/// A decimal number, possibly larger than a port.
fn integer(label: &str) -> Option<u64> {
    let digits = !label.is_empty() && label.len() <= 18 && label.bytes().all(|byte| byte.is_ascii_digit());
    if digits { label.parse().ok() } else { None }
}

/// `/pfx/host:port/rest`, with host and port ordered by `order`. The port may be a name.
fn hostport<'a>(
    rest: Labels<'a>,
    scope: Scope,
    order: impl Fn(&'a str, &'a str) -> [&'a str; 2],
) -> Rewritten {
    let (Some(prefix), Some(label)) = (rest.text(0), rest.text(1)) else { return Err(TOO_SHORT) };
    let (host, port) = label.split_once(':').ok_or("there is no host:port")?;
    if port.contains(':') {
        return Err("there is more than one colon in host:port");
    }
    if host.is_empty() || !is_port(port) {
        return Err("host:port needs a host, and a port of at most 63 letters a-z, digits and dashes");
    }
    let mut path = Path::from_labels([prefix]);
    order(host, port).iter().for_each(|label| path.push_scoped(label, scope));
    path.extend(rest.skip(2));
    Ok(path)
}

/// A number, or a port's name: a lower-case DNS label (RFC 1123 §2.1), as in Kubernetes.
fn is_port(port: &str) -> bool {
    let first = port.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    first
        && port.len() <= 63
        && port.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// `/a.b.c/rest` becomes `/c/b/a/rest`, after the first `kept` labels, which stay. A port stays in place.
fn domain_to_path(rest: Labels<'_>, kept: usize, scope: Scope) -> Rewritten {
    let host = rest.text(kept).ok_or(TOO_SHORT)?;
    if !is_host(host) {
        return Err(NO_HOST);
    }
    let host = host.trim_end_matches('.');
    if host.is_empty() || host.split('.').any(str::is_empty) {
        return Err("the host has an empty label");
    }
    let mut path = rest.take(kept).to_path();
    host.rsplit('.').for_each(|label| path.push_scoped(label, scope));
    path.extend(rest.skip(kept + 1));
    Ok(path)
}

/// `/domain/x.domain[:port]/rest` becomes `/x/rest`; the `kept` labels between the two stay.
fn subdomain_of(rest: Labels<'_>, kept: usize, scope: Scope) -> Rewritten {
    let (Some(domain), Some(host)) = (rest.text(0), rest.text(1 + kept)) else { return Err(TOO_SHORT) };
    if !is_host(domain) || !is_host(host) {
        return Err(NO_HOST);
    }
    let host = match host.find(':') {
        Some(colon @ 1..) => &host[..colon],
        _ => host,
    };
    let below = host.strip_suffix(domain).and_then(|below| below.strip_suffix('.'));
    let below = below.filter(|below| !below.is_empty()).ok_or("the host is not below that domain")?;
    let mut path = rest.skip(1).take(kept).to_path();
    path.push_scoped(below, scope);
    path.extend(rest.skip(2 + kept));
    Ok(path)
}

/// The name without the label after the first `kept`, if that label passes `is`.
fn without(rest: Labels<'_>, kept: usize, is: fn(&str) -> bool, else_why: &'static str) -> Rewritten {
    let label = rest.text(kept).ok_or(TOO_SHORT)?;
    if !is(label) {
        return Err(else_why);
    }
    Ok(rest.take(kept).to_path().join(rest.skip(kept + 1)))
}
