//! linkerd's transformers of the endpoints that a namer found.

use super::notes::Notes;
use super::part::{Field, Part};
use super::scalar::{map, scalar};
use crate::config::quoted;
use crate::domain::name::Path;
use crate::domain::route::{Transform, When};

/// A namer's transformer in weir's format; what weir lacks or would refuse is noted. `namer` is its kind.
pub(super) fn read(field: &Field<'_>, namer: &str, notes: &mut Notes<'_>) -> Option<String> {
    let kind = field.kind();
    if namer == "io.l5d.rewrite" {
        notes.left(
            field,
            "io.l5d.rewrite makes names and finds no endpoints, so there is nothing to transform",
        );
        return None;
    }
    let mut part = Part::open(field, notes)?;
    part.take("kind");
    let value = match kind {
        "io.l5d.port" => {
            let port = part.take("port").and_then(|port| port.whole());
            let Some(port) = port.filter(|port| (1..=65_535).contains(port)) else {
                notes.left(field, "without a port from 1 to 65535");
                return None;
            };
            Some(("port", port.to_string()))
        }
        "io.l5d.localhost" => None,
        "io.l5d.specificHost" => {
            let host = part.take("host");
            let host =
                host.as_ref().and_then(Field::text).filter(|host| host.parse::<std::net::IpAddr>().is_ok());
            let Some(host) = host else {
                notes.left(field, "weir looks no name up here: `host` has to be an address");
                return None;
            };
            Some(("host", scalar(host)))
        }
        "io.l5d.replace" | "io.l5d.const" => {
            let path = part.take("path");
            let path = path.as_ref().and_then(Field::text).filter(|path| is_address(path));
            let Some(path) = path else {
                notes.left(field, "the path has to be an address, as /$/inet/HOST/PORT");
                return None;
            };
            Some(("path", scalar(path)))
        }
        other => {
            notes.left(field, reason(other));
            return None;
        }
    };
    let prefix = part.take("prefix");
    let prefix = prefix.as_ref().and_then(Field::text).filter(|path| path.parse::<Path>().is_ok());
    part.finish(&[], notes);
    let mut pairs = vec![("kind", kind.to_owned())];
    pairs.extend(value);
    pairs.extend(prefix.map(|prefix| ("prefix", scalar(prefix))));
    Some(map(&pairs))
}

/// Whether nothing may follow this transformer in weir.
pub(super) fn is_last(written: &str) -> bool {
    ["io.l5d.replace", "io.l5d.const"].iter().any(|kind| written.contains(&format!("kind: {kind},")))
}

fn is_address(path: &str) -> bool {
    let path = path.parse::<Path>();
    path.is_ok_and(|path| Transform::default().instead(When::Always, &path, &Path::default()).is_ok())
}

/// What replaces a transformer in weir.
pub(super) fn reason(kind: &str) -> String {
    let why = match kind {
        "io.l5d.k8s.daemonset" => {
            "it sent calls to the linkerd on the endpoint's node; weir runs on each node and connects to the endpoints \
             themselves, from the caller's node, in one hop"
        }
        "io.l5d.k8s.localnode" => {
            "it kept to the pods of linkerd's own node; weir connects to the endpoints themselves on whatever node, so there \
             is no second hop that would need it"
        }
        "io.l5d.port" | "io.l5d.localhost" | "io.l5d.specificHost" => {
            "it changed whatever the router found; weir has it for single namers (`namers`, `transformers`)"
        }
        "io.l5d.replace" | "io.l5d.const" => {
            "it put another name in place of every answer; say so in the dtab, or for a namer (`namers`, `transformers`)"
        }
        _ => {
            return format!(
                "transformer {} has no equal; weir connects to the endpoints themselves",
                quoted(kind)
            );
        }
    };
    format!("{kind}: {why}")
}
