//! linkerd's namers.

use super::carried::Carried;
use super::notes::Notes;
use super::part::{Field, Part};
use super::reasons;
use super::scalar::{map, scalar};
use super::transformer;
use crate::config::quoted;
use crate::domain::name::Path;
use crate::domain::route::Rewrite;

/// Reads `namers`. `namespace` is that of the file, if known.
pub(super) fn read(
    namers: &Field<'_>,
    namespace: Option<&str>,
    carried: &mut Carried,
    notes: &mut Notes<'_>,
) {
    let mut cluster = None;
    for namer in namers.items() {
        if let Some(written) = read_one(&namer, namespace, carried, notes) {
            carried.namers.push(written);
            cluster =
                cluster.or_else(|| ["io.l5d.k8s", "io.l5d.k8s.ns"].contains(&namer.kind()).then_some(namer));
        }
    }
    if let Some(namer) = cluster {
        carried.kubernetes = true;
        let why = "it finds the Services of `discovery.kubernetes`: of the cluster weir runs in, or of its kubeconfig's";
        notes.changed(&namer, why);
    }
}

fn read_one(
    field: &Field<'_>,
    namespace: Option<&str>,
    carried: &mut Carried,
    notes: &mut Notes<'_>,
) -> Option<String> {
    let kind = field.kind();
    if !["io.l5d.fs", "io.l5d.k8s", "io.l5d.k8s.ns", "io.l5d.rewrite"].contains(&kind) {
        notes.left(field, unknown(kind));
        return None;
    }
    let mut part = Part::open(field, notes)?;
    part.take("kind");
    let mut pairs = vec![("kind", kind.to_owned()), ("prefix", prefix(&mut part, kind, notes))];
    match kind {
        "io.l5d.fs" => read_folder(&mut part, carried, notes),
        "io.l5d.k8s.ns" => pairs.push(("namespace", own_namespace(field, &mut part, namespace, notes))),
        "io.l5d.rewrite" => pairs.extend(rewrite(field, &mut part, notes)?),
        _ => {}
    }
    let mut written: Vec<String> = Vec::new();
    for it in part.take("transformers").iter().flat_map(Field::items) {
        if written.last().is_some_and(|last| transformer::is_last(last)) {
            notes.left(&it, "the one before it puts an address in the place of everything");
        } else {
            written.extend(transformer::read(&it, kind, notes));
        }
    }
    if !written.is_empty() {
        pairs.push(("transformers", format!("[{}]", written.join(", "))));
    }
    if let Some(selector) = part.take("labelSelector") {
        let label = selector.text().unwrap_or_default();
        notes.broken(
            &selector,
            format!(
                "names ended in a value of the label {}, which chose among a Service's pods; weir reads no labels, so they lead \
                 to all pods of the Service: make a Service for each value, and name it in the dtab",
                quoted(label)
            ),
        );
    }
    part.finish(reasons::NAMER, notes);
    Some(map(&pairs))
}

/// The namer's prefix, after `/#` in the dtab.
fn prefix(part: &mut Part<'_>, kind: &str, notes: &mut Notes<'_>) -> String {
    let default = format!("/{kind}");
    let Some(field) = part.take("prefix") else { return scalar(&default) };
    match field.text().filter(|text| text.parse::<Path>().is_ok_and(|path| !path.is_empty())) {
        Some(prefix) => scalar(prefix),
        None => {
            notes.left(&field, format!("no path, so {default} is in its place"));
            scalar(&default)
        }
    }
}

/// weir watches one folder, which can contain linkerd's files and Kubernetes objects.
fn read_folder(part: &mut Part<'_>, carried: &mut Carried, notes: &mut Notes<'_>) {
    let Some(field) = part.take("rootDir") else { return };
    match field.text().filter(|path| !path.is_empty() && !path.contains('\0')) {
        None => notes.left(&field, "no path; `discovery.files.path` is the folder"),
        Some(_) if carried.files.is_some() => {
            notes.left(&field, "weir watches one folder, `discovery.files.path`: put these files there too");
        }
        Some(path) => {
            carried.files = Some(path.to_owned());
            if !path.starts_with('/') {
                let why = "it is relative to this configuration file, not to linkerd's working directory";
                notes.changed(&field, why);
            }
        }
    }
}

/// linkerd read its pod's namespace from the environment; weir has it in the configuration.
fn own_namespace(
    field: &Field<'_>,
    part: &mut Part<'_>,
    namespace: Option<&str>,
    notes: &mut Notes<'_>,
) -> String {
    let variable = part.take("envVar");
    let place = variable.as_ref().unwrap_or(field);
    let is_label = |name: &&str| {
        (1..=63).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-')
    };
    let (name, source) = match namespace.filter(is_label) {
        Some(namespace) => (namespace, "the one of the ConfigMap is written"),
        None => ("default", "`default` is written: put in linkerd's"),
    };
    notes.changed(place, format!("the namespace came from the environment of linkerd's pod; {source}"));
    scalar(name)
}

/// The pattern and the template, if weir supports them.
fn rewrite(
    field: &Field<'_>,
    part: &mut Part<'_>,
    notes: &mut Notes<'_>,
) -> Option<[(&'static str, String); 2]> {
    let (pattern, name) = (part.take("pattern"), part.take("name"));
    let texts = pattern.as_ref().and_then(Field::text).zip(name.as_ref().and_then(Field::text));
    let Some((pattern, name)) = texts else {
        notes.left(field, "io.l5d.rewrite needs `pattern` and `name`");
        return None;
    };
    if let Err(error) = Rewrite::new(pattern, name) {
        notes.left(field, format!("io.l5d.rewrite: {}", error.to_string().escape_debug()));
        return None;
    }
    Some([("pattern", scalar(pattern)), ("name", scalar(name))])
}

fn unknown(kind: &str) -> String {
    match kind {
        "" => "a namer without a kind".to_owned(),
        "io.l5d.dnssrv" => {
            format!(
                "{kind}: weir looks names up in DNS with `/$/weir.dns` and `/$/inet/HOST/PORT`, by address records"
            )
        }
        "io.l5d.k8s.external" => {
            format!(
                "{kind}: weir connects to endpoints, not to load balancers; `/$/inet/HOST/PORT` names an address"
            )
        }
        other => format!(
            "namer {}: weir finds services in Kubernetes objects, files (`discovery.files`) and DNS; dtab entries with its \
             prefix lead nowhere",
            quoted(other)
        ),
    }
}
