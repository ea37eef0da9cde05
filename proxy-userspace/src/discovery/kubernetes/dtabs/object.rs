//! From an object to the dtab in it.

use serde::Deserialize;
use serde_json::Value;

use crate::config::{DtabStore, Interpreter};
use crate::discovery::kubernetes::failure::text;
use crate::domain::dtab::{Bounds, Dtab, Origin, Problem};

/// The entries of a `Dtab`.
#[derive(Deserialize)]
struct Entries {
    #[serde(default)]
    dentries: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    prefix: String,
    dst: String,
}

/// The dtab in `object`.
///
/// # Errors
///
/// What is wrong with it, and where, in one line.
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

/// The lines `prefix => dst` of a `Dtab`, whatever is in them.
pub(super) fn lines(object: &Value) -> Result<Vec<String>, String> {
    let entries = Entries::deserialize(object).map_err(|error| text(&error.to_string()))?;
    // One line for each entry: a mistake's line is the entry's number.
    let line = |text: &str| text.replace(['\n', '\r'], " ");
    let entries = entries.dentries.unwrap_or_default();
    Ok(entries.iter().map(|Entry { prefix, dst }| format!("{} => {}", line(prefix), line(dst))).collect())
}

fn of_entries(object: &Value) -> Result<Dtab, Vec<String>> {
    let lines = lines(object).map_err(|why| vec![why])?;
    let most = Bounds::CONFIGURATION.entries;
    if lines.len() > most {
        return Err(vec![format!("dentries: {} entries, {most} are the most", lines.len())]);
    }
    let mut whole = String::new();
    lines.iter().for_each(|line| whole.extend([line.as_str(), " ;\n"]));
    let dtab = parse(&whole, |line, _| format!("dentries[{}]", line.saturating_sub(1)))?;
    match dtab.entries.len() == lines.len() {
        true => Ok(dtab),
        // A `;` or a `#` in one.
        false => Err(vec![format!("{} dentries read as {} entries", lines.len(), dtab.entries.len())]),
    }
}

fn of_key(key: &str, object: &Value) -> Result<Dtab, Vec<String>> {
    let Some(data) = text_of(key, object) else {
        return Err(vec![format!("there is no text under data.{key}")]);
    };
    parse(data, |line, column| format!("data.{key}, line {line}, column {column}"))
}

fn parse(whole: &str, place: impl Fn(u32, u32) -> String) -> Result<Dtab, Vec<String>> {
    Dtab::parse(whole, Origin::Stored, &Bounds::CONFIGURATION).map_err(|error| {
        let line = |it: &Problem| text(&format!("{}: {}", place(it.at.line, it.at.column), it.what));
        error.problems.iter().map(line).collect()
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
            (json!([entry("/a => /b ; /c", "/d")]), "1 dentries read as 2 entries"),
            (json!([{ "prefix": "/a" }]), "missing field `dst`"),
            (json!("/a => /b"), "invalid type"),
            (json!([7]), "invalid type"),
        ] {
            let why = dtab(json!({ "dentries": dentries.clone() })).unwrap_err();
            assert!(why.starts_with(expected) && !why.contains('\n'), "{dentries}: {why}");
        }
        let map = which(DtabStore::ConfigMap("dtab".into()));
        assert!(read(&map, &json!({ "data": { "dtab": "/a => /b ;\n# c\n/d => /e" } })).is_ok());
        for (data, expected) in [
            (json!({ "dtab": "/a => /b ;\n/c => d" }), "data.dtab, line 2, column 7: "),
            (json!({ "other": "" }), "there is no text under data.dtab"),
            (json!(null), "there is no text under data.dtab"),
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
        assert_eq!(why, "dentries: 10001 entries, 10000 are the most");
        let long = json!([{ "prefix": "/a", "dst": format!("/{}", "b".repeat(1 << 20)) }]);
        assert!(dtab(json!({ "dentries": long })).is_err());
    }
}
