//! Objects as `kubectl kustomize` and Helm render them.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::python;
use serde_json::Value;

/// `deploy/` and what is in it.
pub(crate) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path).canonicalize().unwrap()
}

/// What `kubectl kustomize deploy/kubernetes/FOLDER` prints.
#[track_caller]
pub(crate) fn kustomize(folder: &str) -> Vec<Value> {
    let folder = deploy("kubernetes").join(folder);
    parse(&printed(Command::new(python::kubectl()).arg("kustomize").arg(folder)))
}

/// Every kustomization there is, by its folder below `deploy/kubernetes`, except the components, which are parts.
pub(crate) fn kustomizations() -> Vec<String> {
    let root = deploy("kubernetes");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        open.extend(entries.filter(|path| path.is_dir()));
        let file = folder.join("kustomization.yaml");
        if std::fs::read_to_string(file).is_ok_and(|text| text.contains("kind: Kustomization")) {
            found.push(folder.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// What `helm template weir deploy/helm/weir --namespace weir --set …` makes with these values, in JSON. Rendered by
/// Helm's own library, since no registry we may use has the `helm` program.
#[track_caller]
pub(crate) fn helm(values: &str) -> Vec<Value> {
    parse(&printed(&mut helm_template(values)))
}

/// What Helm says of values that it refuses.
#[track_caller]
pub(crate) fn helm_refuses(values: &str) -> String {
    let output = helm_template(values).output().unwrap();
    assert!(!output.status.success(), "{values} is taken");
    String::from_utf8(output.stderr).unwrap()
}

fn helm_template(values: &str) -> Command {
    const RENDER: &str = r##"
import json, sys, helm_python
with helm_python.Chart.load(sys.argv[1]) as chart:
    files = chart.render(json.loads(sys.argv[2]), name="weir", namespace="weir")
print("\n---\n".join(text for path, text in sorted(files.items()) if path.endswith(".yaml") and text.strip()))
"##;
    let mut command = Command::new(python::python());
    command.args(["-c", RENDER]).arg(deploy("helm/weir")).arg(values);
    command
}

/// What `helm lint --strict` finds that is at least a warning.
pub(crate) fn helm_lint() -> String {
    const LINT: &str = r##"
import sys, helm_python
found = helm_python.lint(sys.argv[1], strict=True)
print(*found["errors"], *(m["error"] for m in found["messages"] if m["severity"] >= 2), sep="\n")
"##;
    printed(Command::new(python::python()).args(["-c", LINT]).arg(deploy("helm/weir")))
}

/// The objects of a YAML stream.
#[track_caller]
pub(crate) fn parse(yaml: &str) -> Vec<Value> {
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    objects.into_iter().filter(|object| !object.is_null()).collect()
}

/// The object of this kind and name.
#[track_caller]
pub(crate) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} among {} objects", objects.len()))
}

/// `KIND/NAME`.
pub(crate) fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// The list at a JSON pointer; empty where there is none.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[track_caller]
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
