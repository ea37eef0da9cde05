//! From an object to the dtab in it.

use serde_json::Value;

use crate::config::{DtabStore, Interpreter, quoted};
use crate::discovery::kubernetes::failure::text;
use crate::domain::dtab::{Bounds, Dtab, Origin, Problem};

/// The most keys of a ConfigMap that a mistake names.
const KEYS: usize = 5;

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

/// The lines `prefix => dst` of a `Dtab`, whatever is in them.
///
/// # Errors
///
/// Something is no entry.
pub(super) fn lines(object: &Value) -> Result<Vec<String>, String> {
    const CURE: &str = "each entry has a `prefix` and a `dst`, as in { prefix: /svc, dst: /#/io.l5d.fs }";
    let entries = match object.get("dentries") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(format!("dentries: no list ({CURE})")),
    };
    let line = |(number, entry): (usize, &Value)| {
        // One line for each entry: a mistake's line is the entry's number.
        let part = |key: &str| match entry.get(key).and_then(Value::as_str) {
            Some(text) => Ok(text.replace(['\n', '\r'], " ")),
            None => Err(format!("dentries[{number}]: no text under `{key}` ({CURE})")),
        };
        Ok(format!("{} => {}", part("prefix")?, part("dst")?))
    };
    entries.iter().enumerate().map(line).collect()
}

fn of_entries(object: &Value) -> Result<Dtab, Vec<String>> {
    let lines = lines(object).map_err(|why| vec![why])?;
    let most = Bounds::CONFIGURATION.entries;
    if lines.len() > most {
        let cure = "let `*` or a shorter prefix stand for several";
        return Err(vec![format!("dentries: {} entries, {most} are the most ({cure})", lines.len())]);
    }
    let mut whole = String::new();
    lines.iter().for_each(|line| whole.extend([line.as_str(), " ;\n"]));
    let dtab = parse(&whole, |line, _| format!("dentries[{}]", line.saturating_sub(1)))?;
    match dtab.entries.len() == lines.len() {
        true => Ok(dtab),
        false => {
            let is_one = |line: &String| {
                let read = Dtab::parse(line, Origin::Stored, &Bounds::CONFIGURATION);
                read.is_ok_and(|dtab| dtab.entries.len() == 1)
            };
            let at = lines.iter().position(|line| !is_one(line)).unwrap_or_default();
            let cure = "write each as one of its own, without `;` and `#`";
            Err(vec![format!("dentries[{at}]: it reads as several entries ({cure})")])
        }
    }
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
    parse(data, |line, column| format!("data.{key}, line {line}, column {column}"))
}

fn parse(whole: &str, place: impl Fn(u32, u32) -> String) -> Result<Dtab, Vec<String>> {
    Dtab::parse(whole, Origin::Stored, &Bounds::CONFIGURATION).map_err(|error| {
        let line = |it: &Problem| {
            let cure = it.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            text(&format!("{}: {}{cure}", place(it.at.line, it.at.column), it.what))
        };
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
            (
                json!([good(), entry("/a => /b ; /c", "/d")]),
                "dentries[1]: it reads as several entries (write each as one of its own,",
            ),
            (
                json!([good(), { "prefix": "/a" }]),
                "dentries[1]: no text under `dst` (each entry has a `prefix` and",
            ),
            (json!([{ "prefix": 7, "dst": "/a" }]), "dentries[0]: no text under `prefix` (each entry has"),
            (json!("/a => /b"), "dentries: no list (each entry has a `prefix` and a `dst`, as in"),
            (json!([7]), "dentries[0]: no text under `prefix`"),
            (
                json!([good(), entry("/a", "/b/ | /c")]),
                "dentries[1]: expected a label (letters, digits, _ : . # $ % - or \\xHH), found ` ` (a path does not end",
            ),
        ] {
            let why = dtab(json!({ "dentries": dentries.clone() })).unwrap_err();
            assert!(why.starts_with(expected) && !why.contains('\n'), "{dentries}: {why}");
        }
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
