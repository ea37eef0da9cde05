//! From an object to the dtab in it.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use crate::config::{DtabStore, Interpreter, quoted};
use crate::discovery::kubernetes::failure::text;
use crate::domain::dtab::{Bounds, Dentry, Dtab, DtabError, Origin};

/// The most keys of a ConfigMap that a mistake names.
const KEYS: usize = 5;

/// Tells texts apart, within one process.
pub(super) type TextHash = u64;

/// The hash of the text in `object` that is read.
pub(super) fn text_hash(which: &Interpreter, object: &Value) -> TextHash {
    let text = match &which.store {
        DtabStore::Dtab => object.get("dentries"),
        DtabStore::ConfigMap(key) => object.get("data").and_then(|data| data.get(key)),
    };
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The dtab in `object`.
///
/// # Errors
///
/// What is wrong with it, where, and what to do, in one line.
pub(super) fn read(which: &Interpreter, object: &Value) -> Result<Dtab, String> {
    read_all(which, object).map_err(|mistakes| {
        let more = match mistakes.len() {
            0 | 1 => String::new(),
            count => format!("; and {} more", count - 1),
        };
        mistakes.into_iter().next().unwrap_or_else(|| "it cannot be read".to_owned()) + &more
    })
}

/// The same with every mistake.
///
/// # Errors
///
/// What is wrong with it, and where, a line for each.
pub(super) fn read_all(which: &Interpreter, object: &Value) -> Result<Dtab, Vec<String>> {
    match &which.store {
        DtabStore::Dtab => of_entries(object),
        DtabStore::ConfigMap(key) => of_key(key, object),
    }
}

/// The text under the key of a ConfigMap.
pub(super) fn text_of<'a>(key: &str, object: &'a Value) -> Option<&'a str> {
    object.get("data").and_then(|data| data.get(key)).and_then(Value::as_str)
}

/// The entries `prefix => dst` of a `Dtab`, whatever is in them.
///
/// # Errors
///
/// Something is no entry.
pub(super) fn entries(object: &Value) -> Result<Vec<String>, String> {
    const CURE: &str = "each entry has a `prefix` and a `dst`, as in { prefix: /svc, dst: /#/io.l5d.fs }";
    let entries = match object.get("dentries") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(format!("dentries: no list ({CURE})")),
    };
    let text = |(number, entry): (usize, &Value)| {
        let part = |key: &str| {
            let text = entry.get(key).and_then(Value::as_str);
            text.ok_or_else(|| format!("dentries[{number}]: no text under `{key}` ({CURE})"))
        };
        Ok(format!("{} => {}", part("prefix")?, part("dst")?))
    };
    entries.iter().enumerate().map(text).collect()
}

fn of_entries(object: &Value) -> Result<Dtab, Vec<String>> {
    const CURE: &str = "let `*` or a shorter prefix stand for several";
    let texts = entries(object).map_err(|why| vec![why])?;
    let bounds = Bounds::CONFIGURATION;
    let bytes: usize = texts.iter().map(String::len).sum();
    for (count, most, what) in [(texts.len(), bounds.entries, "entries"), (bytes, bounds.bytes, "bytes")] {
        if count > most {
            return Err(vec![format!("dentries: {count} {what}, {most} are the most ({CURE})")]);
        }
    }
    let (mut dtab, mut mistakes) = (Dtab::default(), Vec::new());
    for (number, text) in texts.iter().enumerate() {
        match Dentry::parse(text, Origin::Stored, &bounds) {
            Ok(mut entry) => {
                // An entry's number is what lines are in a text.
                entry.at.line = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
                dtab.entries.push(entry);
            }
            Err(error) => mistakes.extend(said(&error, |_, _| format!("dentries[{number}]"))),
        }
        if mistakes.len() >= bounds.problems {
            break;
        }
    }
    if mistakes.is_empty() { Ok(dtab) } else { Err(mistakes) }
}

fn of_key(key: &str, object: &Value) -> Result<Dtab, Vec<String>> {
    let Some(data) = text_of(key, object) else {
        let keys = object.get("data").and_then(Value::as_object);
        let mut keys: Vec<_> = keys.into_iter().flatten().map(|(key, _)| quoted(key)).collect();
        keys.sort_unstable();
        keys.truncate(KEYS);
        let cure = match keys.is_empty() {
            true => "put the dtab there, or correct `filename`".to_owned(),
            false => format!("put the dtab there, or correct `filename`: there is {}", keys.join(", ")),
        };
        return Err(vec![text(&format!("there is no text under data.{key} ({cure})"))]);
    };
    Dtab::parse(data, Origin::Stored, &Bounds::CONFIGURATION).map_err(|error| {
        said(&error, |line, column| format!("data.{key}, line {line}, column {column}")).collect()
    })
}

/// Each mistake, in one line with its place and cure.
fn said(error: &DtabError, place: impl Fn(u32, u32) -> String) -> impl Iterator<Item = String> {
    error.problems.iter().map(move |it| {
        let cure = it.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        text(&format!("{}: {}{cure}", place(it.at.line, it.at.column), it.what))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn which(store: DtabStore) -> Interpreter {
        Interpreter { store, namespace: "l5d".into(), name: "web".into() }
    }

    fn dtab(object: Value) -> Result<usize, String> {
        read(&which(DtabStore::Dtab), &object).map(|dtab| dtab.entries.len())
    }

    #[test]
    fn a_dtab_object_is_read_as_namerd_wrote_it() {
        let entries = json!([
            { "prefix": "/srv", "dst": "/#/io.l5d.k8s/default/http" },
            { "prefix": "/svc/*", "dst": "0.1 * /srv/a & 0.9 * /srv/b" },
        ]);
        let read = read(&which(DtabStore::Dtab), &json!({ "dentries": entries })).unwrap();
        assert_eq!(
            read.to_string(),
            "/srv => /#/io.l5d.k8s/default/http; /svc/* => 0.1 * /srv/a & 0.9 * /srv/b"
        );
        assert!(read.entries.iter().all(|entry| entry.origin == Origin::Stored));
        assert_eq!((dtab(json!({})), dtab(json!({ "dentries": null }))), (Ok(0), Ok(0)));
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let entry = |prefix: &str, dst: &str| json!({ "prefix": prefix, "dst": dst });
        let good = || entry("/a", "/b");
        for (dentries, expected) in [
            (json!([good(), entry("/a", "b")]), "dentries[1]: "),
            (json!([entry("a", "/b")]), "dentries[0]: "),
            (json!([good(), entry("/a\n/b", "/c")]), "dentries[1]: "),
            (
                json!([good(), entry("/a => /b ; /c", "/d")]),
                "dentries[1]: it reads as 2 entries (write each as one of its own,",
            ),
            (
                json!([good(), { "prefix": "/a" }]),
                "dentries[1]: no text under `dst` (each entry has a `prefix` and",
            ),
            (json!([{ "prefix": 7, "dst": "/a" }]), "dentries[0]: no text under `prefix` (each entry has"),
            (json!("/a => /b"), "dentries: no list (each entry has a `prefix` and a `dst`, as in"),
            (json!([7]), "dentries[0]: no text under `prefix`"),
            (json!([good(), entry("/a", "/b ;"), good()]), "dentries[1]: expected an entry"),
            (json!([good(), entry("# /a", "/b"), good()]), "dentries[1]: expected an entry"),
            (json!([entry("/a", "# /b"), good()]), "dentries[0]: expected a path"),
            (json!([entry("/a", "/b |"), good()]), "dentries[0]: expected a path"),
            (
                json!([good(), entry("/a", "/b/ | /c")]),
                "dentries[1]: expected a label (letters, digits, _ : . # $ % - or \\xHH), found ` ` (a path does not end",
            ),
        ] {
            let why = dtab(json!({ "dentries": dentries.clone() })).unwrap_err();
            assert!(why.starts_with(expected) && !why.contains('\n'), "{dentries}: {why}");
        }
        // A comment ends with its line, or with its entry.
        let commented = json!([entry("/a", "/b # y"), entry("/c", "/d # z\n| /e"), good()]);
        let found = read(&which(DtabStore::Dtab), &json!({ "dentries": commented })).unwrap();
        let shown: Vec<_> = found.entries.iter().map(|it| (it.at.line, it.tree.to_string())).collect();
        assert_eq!(shown[..2], [(1, "/b".to_owned()), (2, "/d | /e".to_owned())]);
        let map = which(DtabStore::ConfigMap("dtab".into()));
        assert!(read(&map, &json!({ "data": { "dtab": "/a => /b ;\n# c\n/d => /e" } })).is_ok());
        for (data, expected) in [
            (json!({ "dtab": "/a => /b ;\n/c => d" }), "data.dtab, line 2, column 7: "),
            (
                json!({ "other": "", "b": "" }),
                "there is no text under data.dtab (put the dtab there, or correct `filename`: there is `b`, `other`)",
            ),
            (json!(null), "there is no text under data.dtab (put the dtab there, or correct `filename`)"),
        ] {
            let why = read(&map, &json!({ "data": data })).unwrap_err();
            assert!(why.starts_with(expected), "{why}");
        }
    }

    #[test]
    fn an_object_has_bounds() {
        let many = |count: usize| vec![json!({ "prefix": "/a", "dst": "/b" }); count];
        assert_eq!(dtab(json!({ "dentries": many(10_000) })), Ok(10_000));
        let why = dtab(json!({ "dentries": many(10_001) })).unwrap_err();
        assert!(why.starts_with("dentries: 10001 entries, 10000 are the most (let `*`"), "{why}");
        let long = json!([{ "prefix": "/a", "dst": format!("/{}", "b".repeat(1 << 20)) }]);
        assert!(dtab(json!({ "dentries": long })).is_err());
    }
}
