//! Converts linkerd 1.x's configuration to weir's: `weir import`.
//!
//! Users come with a file that has routed their calls for years, on Kismatic one of linkerd 0.8.3. Its settings about
//! names are carried over literally, since weir uses the same dtabs; settings about linkerd itself often have no
//! equivalent here. Nothing is dropped silently: every key without an equivalent becomes a [`Note`] with the reason and
//! with weir's replacement.
//!
//! A dtab by itself, in namerd's formats, becomes a configuration with it. Pure: text in, text out. Deliberately absent:
//! namerd's own configuration, linkerd2, and guesses. A dtab that weir cannot read, or a file that is not linkerd's, is an
//! error with its position.

mod carried;
mod dtab;
mod find;
mod hop;
mod identifier;
mod interpreter;
mod listeners;
mod namers;
mod notes;
mod part;
mod place;
mod policy;
mod reasons;
mod router;
mod scalar;
mod several;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod transformer;

use carried::{Carried, Listen, Router};
pub use dtab::{WrittenDtab, read_dtab};
use notes::Notes;
pub use notes::{Fate, Note};
use part::{Field, Part};

use std::path::Path;

use crate::config::{self, ConfigError};

/// A linkerd configuration, converted to weir's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// weir's configuration, with a comment line for each note.
    pub yaml: String,
    /// Settings that were left out or changed their meaning, in the order of the file.
    pub notes: Vec<Note>,
}

/// Import options.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Which linkerd, if the file has several: `CONFIGMAP` or `CONFIGMAP/KEY`.
    pub name: Option<&'a str>,
    /// Whether traffic that linkerd encrypted may pass in plain text. Otherwise it is refused.
    pub plain_text: bool,
}

/// Converts the linkerd configuration in `text`: a YAML or JSON document with `routers`, alone, among others, or in the
/// data of a Kubernetes `ConfigMap`. `file` is its name in problems and comments.
///
/// # Errors
/// There is no such document or more than one, or it has settings that weir cannot follow: each with its position.
pub fn import(file: &str, text: &str, options: Options<'_>) -> Result<Imported, ConfigError> {
    let found = match find::configuration(file, text, options.name) {
        Ok(found) => found,
        // A dtab by itself is one, if there is no linkerd.
        Err(none) => return dtab::import(file, text, options.name).unwrap_or(Err(none)),
    };
    let mut notes = Notes::new(file, text);
    let mut carried = Carried::default();
    read(&found, options, &mut carried, &mut notes);
    warn_of_dead_ends(&carried, &mut notes);
    let notes = notes.finish()?;
    Ok(Imported { yaml: carried.write(file, &notes), notes })
}

impl Imported {
    /// Notes to read before using the configuration: lost protection, and settings that cannot work.
    pub fn warnings(&self) -> impl Iterator<Item = &Note> {
        let of = |fate| self.notes.iter().filter(move |note| note.fate == fate);
        of(Fate::Unprotected).chain(of(Fate::Broken))
    }
}

/// Notes settings that cannot work. Without a listener, nothing is noted.
fn warn_of_dead_ends(carried: &Carried, notes: &mut Notes<'_>) {
    let yaml = carried.write("", &[]);
    let Ok(settings) = config::parse("weir.yaml", &yaml, Path::new("")) else { return };
    // A router without a listener binds nothing, and one without a dtab was noted.
    let is_noted = |router: &Router| {
        router.listen == Listen::Nowhere || router.dtab.as_deref() == Some("") || router.interpreter.is_some()
    };
    let noted = |place: &str| match carried.routers.as_slice() {
        [only] => is_noted(only),
        all => all
            .iter()
            .enumerate()
            .any(|(at, router)| is_noted(router) && place.starts_with(&format!("outgoing[{at}]."))),
    };
    for config::Warning { place, what, cure } in config::lint(&settings) {
        if noted(&place) {
            continue;
        }
        notes.dead_end(place, format!("{what} ({cure})"));
    }
}

fn read(found: &find::Found, options: Options<'_>, carried: &mut Carried, notes: &mut Notes<'_>) {
    let root = Field { node: &found.root, at: found.root.at, path: String::new() };
    let Some(mut root) = Part::open(&root, notes) else { return };
    let routers = root.take("routers");
    let admin = root.take("admin");
    let namers = root.take("namers");
    if let Some(telemetry) = root.take("telemetry") {
        telemetry::read(&telemetry, notes);
    }
    root.finish(reasons::ROOT, notes);
    if let Some(namers) = &namers {
        namers::read(namers, found.namespace.as_deref(), carried, notes);
    }
    let mut generation = router::Generation::One;
    if let Some(routers) = &routers {
        generation = router::read_all(routers, namers.as_ref(), options, carried, notes);
    }
    listeners::read_admin(admin.as_ref(), generation, carried, notes);
    listeners::check(admin.as_ref(), routers.as_ref(), carried, notes);
}
