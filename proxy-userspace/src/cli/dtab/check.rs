//! `weir dtab check`: whether a dtab can be put into force, and what of it can never be bound.

use std::path::Path;

use serde_json::json;

use super::{Cluster, Done, Failed, file, shown};
use crate::cli::{EX_CONFIG, EX_USAGE, Output};
use crate::config::{self, Interpreter, Outgoing, Settings, Warning, lint_stored};
use crate::discovery::kubernetes::EditError;
use crate::domain::dtab::Dtab;
use crate::telemetry::log;

pub(super) struct Asked<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) file: Option<&'a Path>,
    /// weir's configuration.
    pub(super) config: Option<&'a Path>,
}

/// A dtab that was read.
struct Read {
    /// The file or the object.
    what: String,
    which: Option<Interpreter>,
    /// Or its mistakes.
    dtab: Result<Dtab, Vec<String>>,
    place: Box<dyn Fn(u32) -> String>,
}

pub(super) async fn run(asked: Asked<'_>, cluster: &Cluster, output: Output) -> Result<Done, Failed> {
    let settings = match asked.config {
        Some(config) => config::load(Some(config))?,
        None => Settings::default(),
    };
    let read = match asked.file {
        Some(file) => of_file(file, asked.name, cluster)?,
        None => of_cluster(asked.name.unwrap_or_default(), cluster).await?,
    };
    let (entries, mistakes, warnings) = match &read.dtab {
        Ok(dtab) => (dtab.entries.len(), &[][..], warnings(&settings, asked.config, &read, dtab)?),
        Err(mistakes) => (0, &**mistakes, Vec::new()),
    };
    let code = if mistakes.is_empty() { 0 } else { EX_CONFIG };
    if output == Output::Json {
        let warnings = file::json(&warnings);
        return Ok(Done::json(
            &json!({ "of": read.what, "entries": entries, "mistakes": mistakes, "warnings": warnings }),
            code,
        ));
    }
    for warning in &warnings {
        log::say(format_args!("{}: {warning}", read.what));
    }
    match code {
        0 => Ok(Done::right(format!("{}: right; {entries} entries\n", read.what))),
        _ => {
            let lines: Vec<_> = mistakes.iter().map(|mistake| format!("{}: {mistake}", read.what)).collect();
            Err(Failed::mistakes(lines.join("\n")))
        }
    }
}

fn of_file(file: &Path, name: Option<&str>, cluster: &Cluster) -> Result<Read, Failed> {
    let written = file::read(file, name)?;
    let which = name.map(|name| {
        let namespace = written.namespace.as_deref().unwrap_or("default");
        Interpreter::named(name, namespace, cluster.key.as_deref()).map_err(EditError::Name)
    });
    let which = which.transpose()?;
    if let Some(which) = &which {
        file::check_namespace(file, &written, which)?;
    }
    let place = Box::new(file::place(&written));
    Ok(Read { what: shown(file), which, dtab: Ok(written.dtab), place })
}

async fn of_cluster(name: &str, cluster: &Cluster) -> Result<Read, Failed> {
    let editor = cluster.editor();
    let which = editor.named(name, cluster.key.as_deref()).await?;
    let Some(object) = editor.get(&which).await? else { return Err(EditError::NotFound(which).into()) };
    let of = which.clone();
    let place = Box::new(move |line| of.place(line));
    Ok(Read { what: which.to_string(), dtab: object.dtab(), which: Some(which), place })
}

/// What of the dtab can never be bound: in each router that reads it, or, without a configuration, by the namers that weir
/// has without one.
fn warnings(
    settings: &Settings,
    config: Option<&Path>,
    read: &Read,
    dtab: &Dtab,
) -> Result<Vec<Warning>, Failed> {
    let Some(config) = config else { return Ok(lint_stored(settings, None, dtab, &read.place)) };
    let reads = |router: &&Outgoing| match (&router.interpreter, &read.which) {
        (Some(own), Some(which)) => own == which,
        (own, None) => own.is_some(),
        (None, Some(_)) => false,
    };
    let routers: Vec<_> = settings.all_routers().filter(reads).collect();
    if routers.is_empty() {
        let known: Vec<_> = settings.all_routers().filter_map(|it| it.interpreter.as_ref()).collect();
        let known: Vec<_> = known.iter().map(ToString::to_string).collect();
        let what = read.which.as_ref().map_or_else(|| "such a dtab".to_owned(), ToString::to_string);
        let known = if known.is_empty() { "none has an interpreter".to_owned() } else { known.join(", ") };
        let why = format!("no router of {} reads {what} (`outgoing.interpreter`: {known})", config.display());
        return Err(Failed { code: EX_USAGE, ..Failed::new(why) });
    }
    let mut warnings: Vec<Warning> = Vec::new();
    for router in routers {
        let of_router = lint_stored(settings, Some(router), dtab, &read.place);
        // Routers may have the same dtab.
        warnings.extend(of_router.into_iter().filter(|it| !warnings.contains(it)).collect::<Vec<_>>());
    }
    Ok(warnings)
}
