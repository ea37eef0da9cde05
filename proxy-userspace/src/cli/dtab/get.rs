//! `weir dtab get`: a dtab as text, or the list of all.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Cluster, Done, Failed};
use crate::cli::{EX_USAGE, Output};
use crate::config::DtabStore;
use crate::discovery::kubernetes::{DtabEditor, DtabObject, EditError};

pub(super) async fn run(name: Option<&str>, cluster: &Cluster, output: Output) -> Result<Done, Failed> {
    let editor = cluster.editor();
    match name.map(|name| name.strip_suffix('/').ok_or(name)) {
        Some(Err(name)) => one(&editor, name, cluster, output).await,
        _ if cluster.key.is_some() => {
            Err(Failed { code: EX_USAGE, ..Failed::new("--key goes with the name of a ConfigMap") })
        }
        Some(Ok(namespace)) => list(&editor, Some(namespace), output).await,
        None => list(&editor, None, output).await,
    }
}

async fn one(editor: &DtabEditor, name: &str, cluster: &Cluster, output: Output) -> Result<Done, Failed> {
    let which = editor.named(name, cluster.key.as_deref()).await?;
    let Some(object) = editor.get(&which).await? else { return Err(EditError::NotFound(which).into()) };
    if output == Output::Json {
        return Ok(Done::json(&as_json(&object), 0));
    }
    let Some(text) = object.text() else {
        let mistakes = object.dtab().err().unwrap_or_default();
        return Err(Failed::new(format!("{which}: {}", mistakes.join("; "))));
    };
    let said = match (object.status().0, object.wrong()) {
        (Some(state), Some(problem)) => format!(", {state}: {problem}"),
        (Some(state), None) => format!(", {state}"),
        (None, _) => String::new(),
    };
    let said = said.replace(char::is_control, " ");
    // Terminal escape sequences in the object must not reach an operator's terminal.
    let text = text.replace(|it: char| it.is_control() && !"\n\r\t".contains(it), " ");
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Ok(Done::right(format!("# {which}, version {}{said}\n{text}{end}", object.version())))
}

async fn list(editor: &DtabEditor, namespace: Option<&str>, output: Output) -> Result<Done, Failed> {
    let objects = editor.list(namespace).await?;
    if output == Output::Json {
        return Ok(Done::json(&objects.iter().map(as_json).collect(), 0));
    }
    let mut text = String::new();
    for object in &objects {
        let name = format!("{}/{}", object.which.namespace, object.which.name);
        let entries = match object.dtab() {
            Ok(dtab) => dtab.entries.len().to_string(),
            Err(_) => "?".to_owned(),
        };
        let state = object.status().0;
        let problem =
            object.wrong().map(|it| format!(": {}", it.replace(char::is_control, " "))).unwrap_or_default();
        let _ = writeln!(
            text,
            "{name:<40} {entries:>6} entries  {}{problem}",
            state.unwrap_or("not read by a weir")
        );
    }
    if text.is_empty() {
        let place = namespace.map(|it| format!(" in the namespace {it}")).unwrap_or_default();
        let _ = writeln!(text, "there is no Dtab{place}");
    }
    Ok(Done::right(text))
}

fn as_json(object: &DtabObject) -> Value {
    let (state, problem) = object.status();
    let mut value = json!({
        "kind": object.which.store.kind().1,
        "namespace": object.which.namespace,
        "name": object.which.name,
        "version": object.version(),
    });
    if let DtabStore::ConfigMap(key) = &object.which.store {
        value["key"] = json!(key);
        value["text"] = json!(object.text());
    } else {
        value["state"] = json!(state);
        value["problem"] = json!(problem);
        value["message"] = json!(object.wrong());
    }
    match object.dtab() {
        Ok(dtab) => {
            let entry = |it: &crate::domain::dtab::Dentry| json!({ "prefix": it.prefix.to_string(), "dst": it.tree.to_string() });
            value["entries"] = dtab.entries.iter().map(entry).collect();
        }
        Err(mistakes) => value["mistakes"] = json!(mistakes),
    }
    value
}
