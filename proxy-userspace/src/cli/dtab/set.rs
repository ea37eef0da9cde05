//! `weir dtab set`: creates a dtab, or replaces its entries.

use std::path::Path;

use serde_json::json;

use super::{Cluster, Done, Failed, file, shown};
use crate::cli::Output;
use crate::config::{DtabStore, Interpreter, Settings, lint_stored};
use crate::discovery::kubernetes::{DtabObject, EditError, NewDtab, Write};
use crate::migrate::WrittenDtab;
use crate::telemetry::log;

pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) file: &'a Path,
    /// The version that the change is based on.
    pub(super) version: Option<&'a str>,
    pub(super) dry_run: bool,
}

pub(super) async fn run(asked: Asked<'_>, cluster: &Cluster, output: Output) -> Result<Done, Failed> {
    let written = file::read(asked.file, Some(asked.name))?;
    let editor = cluster.editor();
    let which = editor.named(asked.name, cluster.key.as_deref()).await?;
    file::check_namespace(asked.file, &written, &which)?;
    let warnings = lint_stored(&Settings::default(), None, &written.dtab, file::place(&written));
    if output == Output::Text {
        warnings.iter().for_each(|warning| log::say(format_args!("{}: {warning}", shown(asked.file))));
    }
    let how = if asked.dry_run { Write::DryRun } else { Write::Store };
    let version = asked.version.or(written.version.as_deref());
    let new = NewDtab { dtab: &written.dtab, text: &written.text };
    let before = editor.get(&which).await?;
    let (result, object) = match before {
        None if version.is_some() => {
            return Err(EditError::Conflict { which, said: "it was deleted".to_owned() }.into());
        }
        None => ("created", editor.create(&which, new, how).await?),
        Some(before) if is_same(&before, &written, &which, version) => ("unchanged", before),
        Some(before) => ("replaced", editor.replace(&before, version, new, how).await?),
    };
    let (count, version) = (written.dtab.entries.len(), object.version());
    if output == Output::Json {
        return Ok(Done::json(
            &json!({
                "kind": which.store.kind().1, "namespace": which.namespace, "name": which.name, "result": result,
                "version": version, "entries": count, "dryRun": asked.dry_run, "warnings": file::json(&warnings),
            }),
            0,
        ));
    }
    let dry = if asked.dry_run { " (a dry run: nothing is stored)" } else { "" };
    Ok(Done::right(format!("{which} {result}, {count} entries, version {version}{dry}\n")))
}

/// Whether nothing has to be written.
fn is_same(before: &DtabObject, written: &WrittenDtab, which: &Interpreter, version: Option<&str>) -> bool {
    if version.is_some_and(|version| version != before.version()) {
        return false;
    }
    match &which.store {
        DtabStore::ConfigMap(_) => before.text().as_deref() == Some(&*written.text),
        DtabStore::Dtab => before.dtab().is_ok_and(|dtab| dtab.to_string() == written.dtab.to_string()),
    }
}
