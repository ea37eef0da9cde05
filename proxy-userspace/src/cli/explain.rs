//! `weir explain`: how a name is resolved, step by step, and why.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;

use super::{EX_CONFIG, EX_USAGE, status};
use crate::config::Settings;
use crate::proxy::routing::explain::{Question, explain};
use crate::proxy::routing::snapshot::Snapshot;
use crate::telemetry::log;
use crate::{app, config};

/// Explains `asked`: by the configuration in `file`, otherwise as the running weir at `admin` sees it.
pub(super) fn run(asked: Question<'_>, file: Option<&Path>, admin: &str) -> ExitCode {
    let Some(file) = file else {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("name", asked.name)
            .append_pair("dtab", asked.dtab)
            .append_pair("namespace", asked.namespace.unwrap_or_default())
            .append_pair("router", asked.router.unwrap_or_default())
            .append_pair("format", "text")
            .finish();
        return status::print(status::fetch(admin, &format!("/api/explain?{query}")));
    };
    let settings = match config::load(Some(file)) {
        Ok(settings) => settings,
        Err(error) => {
            log::say(error);
            return ExitCode::from(EX_CONFIG);
        }
    };
    let catalog = match app::catalog_of(&settings) {
        Ok(catalog) => catalog,
        Err(error) => return status::print(Err(error)),
    };
    let snapshot = Snapshot::build(&app::config_of(&settings), Arc::clone(&catalog), None);
    match explain(&snapshot, asked, Instant::now()) {
        Ok(explained) => status::print(Ok(format!("{explained}{}", unread(&settings, asked.router)))),
        Err(why) => {
            let _ = status::print(Err(anyhow!(why)));
            ExitCode::from(EX_USAGE)
        }
    }
}

/// That a part of the router's dtab is not in the file.
fn unread(settings: &Settings, router: Option<&str>) -> String {
    let mut routers = settings.all_routers();
    let router = match router {
        Some(label) => routers.find(|it| *it.label == *label),
        None => routers.next(),
    };
    match router.and_then(|it| it.interpreter.as_ref()) {
        Some(interpreter) => {
            format!("\nthe entries of {interpreter} were not asked for; a running weir has them\n")
        }
        None => String::new(),
    }
}
