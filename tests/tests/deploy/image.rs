//! The image's archive, as a runtime would take it: every blob checked by its digest, unpacked, and run.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::weir::binary;
use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Makes the image of the built weir with `cargo xtask image`; returns what it printed.
pub(crate) fn make(out: &Path) -> String {
    let mut command = Command::new(binary::xtask());
    command.args(["image", "--name", "registry.example.com/weir:1", "--binary"]).arg(binary::weir());
    let output = command.arg("--out").arg(out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The archive's files by name.
fn entries(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut tar = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, std::fs::File>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), content)
    };
    tar.entries().unwrap().map(read).collect()
}

fn json(content: &[u8]) -> Value {
    serde_json::from_slice(content).unwrap()
}

fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The blob that a descriptor names, of the size and the digest it says.
#[track_caller]
fn blob<'a>(entries: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let named = descriptor["digest"].as_str().unwrap();
    let content = &entries[&format!("blobs/{}", named.replace(':', "/"))];
    assert_eq!((digest(content).as_str(), descriptor["size"].as_u64()), (named, Some(content.len() as u64)));
    content
}

/// The manifest, the configuration and the layer, unpacked, each checked on the way.
fn open(archive: &Path) -> (Value, Value, Vec<u8>) {
    let entries = entries(archive);
    assert_eq!(json(&entries["oci-layout"])["imageLayoutVersion"], "1.0.0");
    let index = json(&entries["index.json"]);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let manifest = json(blob(&entries, &index["manifests"][0]));
    let config = json(blob(&entries, &manifest["config"]));
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    let mut layer = Vec::new();
    GzDecoder::new(blob(&entries, &manifest["layers"][0])).read_to_end(&mut layer).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([digest(&layer)]));
    assert_eq!(
        entries.len(),
        6,
        "nothing that the index does not lead to, but Docker's own: {:?}",
        entries.keys()
    );
    (index, config, layer)
}

/// Unpacks the image into this folder, as a runtime would; returns the program that it starts.
pub(crate) fn unpack(archive: &Path, root: &Path) -> PathBuf {
    let (_, config, layer) = open(archive);
    tar::Archive::new(layer.as_slice()).unpack(root).unwrap();
    config["config"]["Entrypoint"][0].as_str().unwrap().into()
}

#[test]
fn weir_runs_from_the_image_and_from_nothing_else() {
    if !e2e::net::is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (archive, root) = (folder.path().join("image.tar"), folder.path().join("root"));
    make(&archive);
    let weir = unpack(&archive, &root);
    let inside = |arguments: &[&str]| {
        let output = Command::new("chroot").arg(&root).arg(&weir).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    assert!(inside(&["--version"]).starts_with("weir "));
    std::fs::write(root.join("etc/weir/weir.yaml"), "workers: 1\n").unwrap();
    inside(&["check", "/etc/weir/weir.yaml"]);
}

/// Those of the build stage that follow the build, with the built weir and a folder of ours in the place of `/image`.
#[test]
fn the_containerfiles_steps_make_a_root_that_weir_runs_from() {
    if !e2e::net::is_root() {
        return;
    }
    let file = std::fs::read_to_string(crate::objects::deploy("Containerfile")).unwrap().replace("\\\n", " ");
    let mut steps = file.lines().filter_map(|line| line.strip_prefix("RUN "));
    let [build, assemble] = [steps.find(|step| step.starts_with("cargo build")), steps.next()]
        .map(|step| step.expect("a step that builds and one that assembles"));
    let (_, strip) = build.split_once("&& ").expect("a build that is stripped");
    let folder = tempfile::tempdir().unwrap();
    let (binary, root) = (folder.path().join("weir"), folder.path().join("image"));
    std::fs::copy(binary::weir(), &binary).unwrap();
    for step in [strip, assemble] {
        let step = step.replace("target/release/weir", binary.to_str().unwrap());
        let step = step.replace("/image", root.to_str().unwrap());
        let output = Command::new("sh").args(["-ec", &step]).output().unwrap();
        assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let weir =
        file.lines().find_map(|line| line.strip_prefix("ENTRYPOINT [\"")?.strip_suffix("\"]")).unwrap();
    let output = Command::new("chroot").arg(&root).args([weir, "--version"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_same_binary_is_the_same_image() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one.tar", "other.tar"].map(|name| folder.path().join(name));
    let (said, again) = (make(&one), make(&other));
    assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&other).unwrap());
    let digest_of = |said: &str| said.lines().last().unwrap().trim().to_owned();
    assert_eq!(digest_of(&said), digest_of(&again));
    let (index, ..) = open(&one);
    assert_eq!(index["manifests"][0]["digest"], digest_of(&said).as_str());
}

#[test]
fn the_image_holds_what_weir_opens_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    make(&archive);
    let (index, config, layer) = open(&archive);
    let annotations = &index["manifests"][0]["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], "registry.example.com/weir:1");
    assert_eq!((&config["os"], &config["created"]), (&"linux".into(), &"1970-01-01T00:00:00Z".into()));
    let mut files = Vec::new();
    for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
            (0, 0, 0),
            "{path}"
        );
        assert_eq!(header.mode().unwrap() & 0o7022, 0, "{path} may be written by others, or is setuid");
        if header.entry_type().is_file() {
            files.push(path);
        }
    }
    for needed in ["usr/bin/weir", "etc/ssl/certs/ca-certificates.crt", "etc/passwd", "etc/nsswitch.conf"] {
        assert!(files.iter().any(|file| file == needed), "{needed} is missing: {files:?}");
    }
    let libraries = |file: &&String| file.contains(".so");
    assert!(files.len() - files.iter().filter(libraries).count() <= 5, "{files:?}");
}
