//! `weir dtab diff`: which entries a file would change.
//!
//! Entries are compared by their meaning, not by how they are spelled. Their order counts, since a later entry is tried
//! first.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

use super::{Cluster, Done, Failed, file, shown};
use crate::cli::Output;
use crate::config::DtabStore;
use crate::discovery::kubernetes::DtabObject;
use crate::domain::dtab::Dtab;
use crate::telemetry::log;

/// How long the shortest difference is looked for; later, a longer one is taken.
const PATIENCE: Duration = Duration::from_secs(2);

/// An entry that is on one side alone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change<'a> {
    is_added: bool,
    /// Its number there, from 0, as `dentries[0]`.
    number: usize,
    entry: &'a str,
}

pub(super) async fn run(name: &str, path: &Path, cluster: &Cluster, output: Output) -> Result<Done, Failed> {
    let written = file::read(path, Some(name))?;
    let editor = cluster.editor();
    let which = editor.named(name, cluster.key.as_deref()).await?;
    file::check_namespace(path, &written, &which)?;
    let before = editor.get(&which).await?;
    let is_there = before.is_some();
    let old = before.as_ref().map(entries).unwrap_or_default();
    let new = lines(&written.dtab);
    let changes = changes(&old, &new);
    let is_different = !changes.is_empty() || !is_there;
    let code = u8::from(is_different);
    if output == Output::Json {
        let version = before.as_ref().map(DtabObject::version);
        return Ok(Done::json(
            &json!({
                "kind": which.store.kind().1, "namespace": which.namespace, "name": which.name, "version": version,
                "different": is_different, "changes": changes.iter().map(Change::json).collect::<Value>(),
            }),
            code,
        ));
    }
    let version = before
        .as_ref()
        .map_or_else(|| "there is none yet".to_owned(), |it| format!("version {}", it.version()));
    let mut text = String::new();
    if is_different {
        let _ = writeln!(text, "--- {which}, {version}\n+++ {}", shown(path));
    }
    for Change { is_added, number, entry } in changes {
        let _ = writeln!(text, "{} [{number}] {entry} ;", if is_added { '+' } else { '-' });
    }
    Ok(Done { text, code })
}

impl Change<'_> {
    fn json(&self) -> Value {
        let change = if self.is_added { "added" } else { "removed" };
        json!({ "change": change, "number": self.number, "entry": self.entry })
    }
}

/// The entries of the object. If it has mistakes, its lines as they are.
fn entries(object: &DtabObject) -> Vec<String> {
    match object.dtab() {
        Ok(dtab) => lines(&dtab),
        Err(mistakes) => {
            log::say(format_args!("{}: {}", object.which, mistakes.join("; ")));
            let text = object.text().unwrap_or_default();
            let end = if matches!(object.which.store, DtabStore::Dtab) { " ;" } else { "" };
            let entry = |line: &str| line.strip_suffix(end).unwrap_or(line).replace(char::is_control, " ");
            text.lines().map(entry).collect()
        }
    }
}

fn lines(dtab: &Dtab) -> Vec<String> {
    dtab.entries.iter().map(ToString::to_string).collect()
}

/// What is in one of them alone, in order.
fn changes<'a>(old: &'a [String], new: &'a [String]) -> Vec<Change<'a>> {
    let deadline = Instant::now() + PATIENCE;
    let mut changes = Vec::new();
    for step in capture_diff_slices_deadline(Algorithm::Myers, old, new, Some(deadline)) {
        if matches!(step, DiffOp::Equal { .. }) {
            continue;
        }
        let of = |is_added, entries: &'a [String], range: std::ops::Range<usize>| {
            range.map(move |number| Change { is_added, number, entry: &entries[number] })
        };
        changes.extend(of(false, old, step.old_range()));
        changes.extend(of(true, new, step.new_range()));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(old: &str, new: &str) -> String {
        let of = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (old, new) = (of(old), of(new));
        let sign =
            |it: &Change<'_>| format!("{}{}{}", if it.is_added { '+' } else { '-' }, it.number, it.entry);
        changes(&old, &new).iter().map(sign).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_what_differs_is_a_change_and_the_order_counts() {
        for (old, new, expected) in [
            ("", "", ""),
            ("a b c", "a b c", ""),
            ("", "a b", "+0a +1b"),
            ("a b", "", "-0a -1b"),
            ("a b c", "a x c", "-1b +1x"),
            ("a b c d", "a c d", "-1b"),
            ("a c", "a b c d", "+1b +3d"),
            ("a b", "b a", "+0b -1b"),
            ("a a", "a", "-1a"),
        ] {
            assert_eq!(shown(old, new), expected, "{old:?} -> {new:?}");
        }
    }

    #[test]
    fn the_largest_dtabs_with_nothing_in_common_are_compared_in_bounded_time() {
        let of = |sign: char| (0..10_000).map(|number| format!("{sign}{number}")).collect::<Vec<_>>();
        let (old, new) = (of('a'), of('b'));
        assert_eq!(changes(&old, &new).len(), 20_000);
    }
}
