//! Interpreters of names: the router's own dtab, or namerd and other dtab stores.

use super::carried::Router;
use super::notes::Notes;
use super::part::{Field, Part};
use super::scalar::{map, scalar};
use super::{reasons, transformer};
use crate::config::quoted;
use crate::config::tree::Node;

/// Whether the dtab is not in this file. Names that this file does not bind stay unbound: weir's default base dtab,
/// which binds every name it can, would make weir an open proxy.
pub(super) fn keeps_dtabs_elsewhere(interpreter: &Field<'_>) -> bool {
    !["", "default"].contains(&interpreter.kind())
}

/// `default` uses the router's own dtab, as weir does. For the others, notes how to export their dtabs.
pub(super) fn read(field: &Field<'_>, carried: &mut Router, notes: &mut Notes<'_>) {
    let Some(mut interpreter) = Part::open(field, notes) else { return };
    interpreter.take("kind");
    for transformer in interpreter.take("transformers").iter().flat_map(Field::items) {
        notes.left(&transformer, transformer::reason(transformer.kind()));
    }
    if !keeps_dtabs_elsewhere(field) {
        return interpreter.finish(&[], notes);
    }
    if let Some(written) = of_cluster(field) {
        ["namespace", "name", "filename"].iter().for_each(|key| drop(interpreter.take(key)));
        carried.interpreter = Some(written);
        let why = "weir reads it from the API server of `discovery.kubernetes`, and needs leave to (deploy/kubernetes)";
        notes.changed(field, why);
        return interpreter.finish(reasons::NAMER, notes);
    }
    let has_own = carried.dtab.as_ref().is_some_and(|dtab| !dtab.is_empty());
    let now = if has_own {
        "only the router's own entries are in `baseDtab`"
    } else {
        "`baseDtab` is empty, so no name is bound"
    };
    notes.broken(
        field,
        format!("{} kept the dtab, which is not in this file: {now}; {}", quoted(field.kind()), fetch(field)),
    );
}

/// The interpreter as weir has it, if it reads an object of the cluster.
fn of_cluster(field: &Field<'_>) -> Option<String> {
    let text = |key: &str| field.node.get(key).and_then(Node::text).filter(|text| !text.is_empty());
    if field.kind() != "io.l5d.k8s.configMap" {
        return None;
    }
    let namespace = text("namespace").unwrap_or("default");
    let pairs = [
        ("kind", "io.l5d.k8s.configMap".to_owned()),
        ("namespace", scalar(namespace)),
        ("name", scalar(text("name")?)),
        ("filename", scalar(text("filename")?)),
    ];
    Some(map(&pairs))
}

/// How to get the dtab.
fn fetch(field: &Field<'_>) -> String {
    let text = |key: &str| field.node.get(key).and_then(Node::text);
    let namespace: String =
        text("namespace").unwrap_or("default").chars().take(60).flat_map(char::escape_debug).collect();
    match field.kind() {
        "io.l5d.k8s.configMap" => {
            let name = text("name").unwrap_or("NAME").escape_debug().to_string();
            format!(
                "get it with `kubectl -n {namespace} get configmap {name} -o yaml`, and put it into `baseDtab`"
            )
        }
        "io.l5d.fs" => {
            format!(
                "it is in the file {}: put it into `baseDtab`",
                quoted(text("dtabFile").unwrap_or("dtabFile"))
            )
        }
        _ => format!(
            "get it with `namerctl dtab get {namespace}`, or `curl http://NAMERD:4180/api/1/dtabs/{namespace}`, as \
             `prefix => dst;` lines, and put it into `baseDtab`, or keep it as a Dtab object (`interpreter`)"
        ),
    }
}
