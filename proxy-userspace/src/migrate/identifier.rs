//! The identifiers that name a request: one, or several that are tried in order.

use super::carried::Router;
use super::notes::Notes;
use super::part::{Field, Part};
use super::reasons;
use super::router::Generation;
use super::scalar::{map, scalar};
use crate::config::quoted;
use crate::domain::name::Path;

/// linkerd's default since 0.9. weir's own default canonicalizes the host, and dtab entries with the removed parts
/// would no longer match.
const HOST: &str = "{ kind: io.l5d.header.token, header: Host }";
const METHOD_AND_HOST: &str = "io.l5d.methodAndHost";
const HEADER_PATH: &str = "io.l5d.header.path";
pub(super) const INGRESS: &str = "io.l5d.ingress";

/// The router's own settings for its identifier.
pub(super) struct OfRouter<'a, 'b> {
    /// The router, at which a default is noted.
    pub(super) router: &'b Field<'a>,
    /// Whether it is one of HTTP/2, which had no methodAndHost.
    pub(super) is_h2: bool,
    /// `httpUriInDst`, a router key up to linkerd 0.7 for its only identifier, methodAndHost.
    pub(super) uri_in_name: Option<Field<'a>>,
}

/// Reads `identifier`.
pub(super) fn read(
    field: Option<&Field<'_>>,
    own: &OfRouter<'_, '_>,
    generation: Generation,
    carried: &mut Router,
    notes: &mut Notes<'_>,
) {
    let items = field.map(Field::items).unwrap_or_default();
    carried.identifiers = items.iter().filter_map(|item| read_one(item, notes)).collect();
    if let Some(uri) = own.uri_in_name.as_ref().filter(|_| field.is_some() || generation == Generation::One) {
        notes.left(uri, "it is a key of the identifier io.l5d.methodAndHost since linkerd 0.8");
    }
    if !carried.identifiers.is_empty() {
        return;
    }
    let generation = if own.is_h2 { Generation::One } else { generation };
    if let Some(field) = field {
        let why = match generation {
            Generation::Zero => {
                "no identifier of these could be carried over: io.l5d.methodAndHost is in its place"
            }
            Generation::One => {
                "no identifier of these could be carried over: the Host header is in its place"
            }
        };
        notes.changed(field, why);
    }
    if generation == Generation::Zero {
        if field.is_none() {
            let why = "no identifier and a `baseDtab` mean linkerd 0.8, where names were /http/1.1/METHOD/HOST: the \
                       identifier and the prefix are written out";
            notes.changed(own.router, why);
        }
        let mut pairs = vec![("kind", METHOD_AND_HOST.to_owned())];
        if let Some(uri) = own.uri_in_name.as_ref().filter(|_| field.is_none()) {
            uri_in_name(uri, &mut pairs, notes);
        }
        carried.identifiers.push(map(&pairs));
    } else {
        carried.identifiers.push(HOST.to_owned());
    }
}

/// One identifier in weir's format.
fn read_one(field: &Field<'_>, notes: &mut Notes<'_>) -> Option<String> {
    let mut part = Part::open(field, notes)?;
    part.take("kind");
    let kind = match field.kind() {
        "io.l5d.headerToken" => "io.l5d.header.token", // their names before 1.0
        "io.l5d.headerPath" => HEADER_PATH,
        kind => kind,
    };
    let mut pairs = vec![("kind", kind.to_owned())];
    match kind {
        METHOD_AND_HOST => {
            if let Some(uri) = part.take("httpUriInDst") {
                uri_in_name(&uri, &mut pairs, notes);
            }
        }
        "io.l5d.header.token" => {
            pairs.push(("header", header(&mut part, "Host", notes)));
        }
        "io.l5d.header" => pairs.push(("header", header(&mut part, NAME, notes))),
        HEADER_PATH => header_path_pairs(&mut part, &mut pairs, notes),
        INGRESS | "io.l5d.http.ingress" => {
            pairs[0].1 = INGRESS.to_owned();
            ingress_pairs(&mut part, &mut pairs, field, notes);
        }
        "io.l5d.path" => path_pairs(&mut part, &mut pairs, notes),
        "io.l5d.static" => {
            let path = part.take("path");
            let text =
                path.as_ref().and_then(Field::text).map(|text| format!("/{}", text.trim_start_matches('/')));
            let Some(text) = text.filter(|text| text.parse::<Path>().is_ok()) else {
                notes.left(field, "io.l5d.static without a path");
                return None;
            };
            pairs.push(("path", scalar(&text)));
        }
        other => {
            notes.left(field, unknown(other));
            return None;
        }
    }
    part.finish(reasons::IDENTIFIER, notes);
    Some(map(&pairs))
}

/// The segments of the URL's path, or of another header's.
fn header_path_pairs(part: &mut Part<'_>, pairs: &mut Vec<(&str, String)>, notes: &mut Notes<'_>) {
    match part.take("header") {
        Some(field) if field.text() != Some(":path") => {
            pairs.push(("header", header_of(&field, ":path", notes)));
        }
        _ => {}
    }
    if let Some(field) = part.take("segments") {
        match segments_of(&field) {
            Some(count) => pairs.push(("segments", count.to_string())),
            None => notes.left(&field, "no number of segments from 1 to 64, so all make the name"),
        }
    }
}

fn ingress_pairs(
    part: &mut Part<'_>,
    pairs: &mut Vec<(&str, String)>,
    field: &Field<'_>,
    notes: &mut Notes<'_>,
) {
    for key in ["namespace", "ingressClassAnnotation"] {
        if let Some(value) = part.take(key) {
            match value.text().filter(|text| !text.is_empty()) {
                Some(text) => pairs.push((key, scalar(text))),
                None => notes.left(&value, format!("expected a text, not {}", value.node.kind())),
            }
        }
    }
    if let Some(value) = part.take("ignoreDefaultBackends") {
        match value.boolean() {
            Some(ignore) => pairs.push(("ignoreDefaultBackends", ignore.to_string())),
            None => notes.left(&value, "neither true nor false, so false is in its place"),
        }
    }
    let why = "weir reads Ingresses of networking.k8s.io/v1, and needs leave to (deploy/kubernetes/components/ingress); of the \
               paths that fit the longest counts, not the first";
    notes.changed(field, why);
}

fn uri_in_name(field: &Field<'_>, pairs: &mut Vec<(&str, String)>, notes: &mut Notes<'_>) {
    match field.boolean() {
        Some(true) => pairs.push(("httpUriInDst", "true".to_owned())),
        Some(false) => {}
        None => notes.left(field, "neither true nor false, so false is in its place"),
    }
}

/// The default header of io.l5d.header, in lower case like every header here.
const NAME: &str = concat!("l5d", "-name");

fn header(part: &mut Part<'_>, default: &str, notes: &mut Notes<'_>) -> String {
    let Some(field) = part.take("header") else { return scalar(default) };
    header_of(&field, default, notes)
}

fn header_of(field: &Field<'_>, default: &str, notes: &mut Notes<'_>) -> String {
    let is_token = |text: &&str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    if let Some(name) = field.text().filter(is_token) {
        return scalar(name);
    }
    if field.text() == Some(":authority") {
        return scalar("Host"); // as it is called in HTTP/1
    }
    notes.left(field, format!("no header's name, so {default} is in its place"));
    scalar(default)
}

fn segments_of(field: &Field<'_>) -> Option<i128> {
    field.whole().filter(|count| (1..=64).contains(count))
}

fn path_pairs(part: &mut Part<'_>, pairs: &mut Vec<(&str, String)>, notes: &mut Notes<'_>) {
    let mut segments = 1;
    if let Some(field) = part.take("segments") {
        match segments_of(&field) {
            Some(count) => segments = count,
            None => notes.left(&field, "no number of segments from 1 to 64, so 1 is in its place"),
        }
    }
    pairs.push(("segments", segments.to_string()));
    let consume = part.take("consume");
    if let Some(field) = &consume
        && field.boolean().is_none()
    {
        notes.left(field, "neither true nor false, so false is in its place");
    }
    pairs.push(("consume", consume.and_then(|field| field.boolean()).unwrap_or(false).to_string()));
}

fn unknown(kind: &str) -> String {
    match kind {
        "io.l5d.k8s.istio" => format!("{kind}: weir reads no rules of Istio's"),
        "" => "an identifier without a kind".to_owned(),
        other => format!("identifier {} is none of linkerd's own for http and h2", quoted(other)),
    }
}
