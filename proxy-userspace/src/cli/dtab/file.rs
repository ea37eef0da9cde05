//! The file with a dtab.

use std::path::Path;

use super::{Failed, shown};
use crate::cli::import::read_text;
use crate::config::{ConfigError, Interpreter, Problem, Warning};
use crate::migrate::{WrittenDtab, read_dtab};

/// Maximum size of a file: as much as an API server takes at once.
const LARGEST: u64 = 3 << 20;

/// Reads the dtab in `file`; of several objects the one that is called as the object `name`.
pub(super) fn read(file: &Path, name: Option<&str>) -> Result<WrittenDtab, Failed> {
    let (shown, text) = read_text(file, LARGEST)?;
    let name = name.map(|name| name.rsplit('/').next().unwrap_or(name));
    Ok(read_dtab(&shown, &text, name)?)
}

/// Refuses an object that says it is in another namespace.
pub(super) fn check_namespace(file: &Path, written: &WrittenDtab, which: &Interpreter) -> Result<(), Failed> {
    match &written.namespace {
        Some(namespace) if *namespace != which.namespace => {
            let why = format!("its Dtab is in the namespace {namespace}, and {which} is not");
            let hint = Some(format!("write {namespace}/{}", which.name));
            let problem = Problem { hint, ..Problem::of_file(shown(file), why) };
            Err(ConfigError { problems: vec![problem] }.into())
        }
        _ => Ok(()),
    }
}

/// The place of an entry in the file, by its line in the text.
pub(super) fn place(written: &WrittenDtab) -> impl Fn(u32) -> String + use<> {
    let is_list = written.is_list;
    move |line| match is_list {
        true => format!("dentries[{}]", line.saturating_sub(1)),
        false => format!("line {line}"),
    }
}

/// The warnings as JSON.
pub(super) fn json(warnings: &[Warning]) -> serde_json::Value {
    let each = warnings.iter();
    each.map(|it| serde_json::json!({ "place": it.place, "what": it.what, "cure": it.cure })).collect()
}
