//! The format of `/api/state.json` is a public interface: what a weir wrote can be read, and is written back unchanged.

use serde_json::{Value, json};

use super::StateReport;

/// Two states that contain every possible field.
fn states() -> [Value; 2] {
    let samples = [include_str!("files.json"), include_str!("cluster.json")];
    samples.map(|text| serde_json::from_str(text).unwrap())
}

fn read(state: &Value) -> serde_json::Result<StateReport> {
    serde_json::from_str(&state.to_string())
}

fn written(state: &Value) -> Value {
    serde_json::to_value(read(state).unwrap_or_else(|why| panic!("{why}: {state:#}"))).unwrap()
}

/// Every object in `value`, as a path to it.
fn objects(value: &Value, path: &str) -> Vec<String> {
    let inner: Vec<_> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.replace('/', "~1"), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let own = value.is_object().then(|| path.to_owned());
    let inner = inner.into_iter().flat_map(|(key, value)| objects(value, &format!("{path}/{key}")));
    own.into_iter().chain(inner).collect()
}

#[test]
fn a_state_is_written_as_it_was_read_with_every_field_and_no_other() {
    for state in states() {
        assert_eq!(written(&state), state);
    }
}

#[test]
fn what_a_newer_weir_adds_is_ignored_wherever_it_is() {
    for state in states() {
        for path in objects(&state, "") {
            // Tables of counts: a newer weir may add entries here too.
            let is_table = ["faults", "closed", "attempts", "decisions", "counts", "failures", "resources"]
                .contains(&path.rsplit('/').next().unwrap());
            if is_table {
                continue;
            }
            let mut newer = state.clone();
            newer.pointer_mut(&path).unwrap()["newer"] = json!({ "in": [1, null] });
            assert_eq!(written(&newer), state, "{path}");
        }
    }
}

#[test]
fn what_an_older_weir_lacks_has_a_default_but_for_what_an_item_is_called() {
    let named = ["version", "ready", "service", "name", "address", "pod", "listener", "client"];
    for state in states() {
        for path in objects(&state, "") {
            let keys: Vec<String> =
                state.pointer(&path).unwrap().as_object().unwrap().keys().cloned().collect();
            for key in keys {
                let mut older = state.clone();
                older.pointer_mut(&path).unwrap().as_object_mut().unwrap().remove(&key);
                assert_eq!(read(&older).is_err(), named.contains(&&*key), "{path}/{key}");
            }
        }
    }
}

#[test]
fn a_field_of_another_kind_is_a_mistake_and_not_a_default() {
    for state in states() {
        for path in objects(&state, "") {
            let keys: Vec<String> =
                state.pointer(&path).unwrap().as_object().unwrap().keys().cloned().collect();
            for key in keys {
                let mut wrong = state.clone();
                wrong.pointer_mut(&path).unwrap()[&key] = json!([[[]]]);
                assert!(read(&wrong).is_err(), "{path}/{key}");
            }
        }
    }
}
