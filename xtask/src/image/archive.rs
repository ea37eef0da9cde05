//! The OCI archive: a layout folder (OCI image specification, image-layout.md) in a tar file.
//!
//! Beside OCI's own index stands the `manifest.json` that `docker save` writes, so that every version of
//! `docker load` and what is made of it (kind, minikube) takes the archive too. Both name the same blobs.

use std::fs::File;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

use super::content::WEIR;
use super::layer::Layer;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BEGINNING: &str = "1970-01-01T00:00:00Z";

/// What is to be written.
pub(crate) struct Image<'a> {
    pub(crate) name: &'a str,
    pub(crate) tag: &'a str,
    pub(crate) architecture: &'a str,
    pub(crate) layer: &'a Layer,
}

/// Writes the archive; returns the image's digest, which is its manifest's.
pub(crate) fn write(image: &Image<'_>, out: &Path) -> Result<String> {
    let layer = descriptor(LAYER, &image.layer.compressed);
    let config = serde_json::to_vec(&config(image))?;
    let config_descriptor = descriptor(CONFIG, &config);
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config_descriptor, "layers": [layer],
    }))?;
    let index = index(image, descriptor(MANIFEST, &manifest));
    let docker = json!([{
        "Config": blob(&digest(&config)),
        "RepoTags": [format!("{}:{}", image.name, image.tag)],
        "Layers": [blob(&digest(&image.layer.compressed))],
    }]);
    let mut tar = Builder::new(File::create(out)?);
    let layout = json!({ "imageLayoutVersion": "1.0.0" });
    for (path, value) in [("oci-layout", layout), ("index.json", index), ("manifest.json", docker)] {
        append(&mut tar, path, &serde_json::to_vec(&value)?)?;
    }
    for content in [&config, &manifest, &image.layer.compressed] {
        append(&mut tar, &blob(&digest(content)), content)?;
    }
    tar.into_inner()?.sync_all()?;
    Ok(digest(&manifest))
}

/// `sha256:` and the digest in hexadecimal.
pub(crate) fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn descriptor(kind: &str, content: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(content), "size": content.len() })
}

fn config(image: &Image<'_>) -> Value {
    json!({
        "created": BEGINNING,
        "architecture": image.architecture,
        "os": "linux",
        "config": {
            "Entrypoint": [format!("/{WEIR}")],
            "Cmd": ["run"],
            "WorkingDir": "/",
            "ExposedPorts": { "4140/tcp": {}, "9991/tcp": {} },
            "Labels": {
                "org.opencontainers.image.title": "weir",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [image.layer.diff_id] },
        "history": [{ "created": BEGINNING, "created_by": "cargo xtask image" }],
    })
}

fn index(image: &Image<'_>, mut manifest: Value) -> Value {
    manifest["platform"] = json!({ "architecture": image.architecture, "os": "linux" });
    manifest["annotations"] = json!({
        "org.opencontainers.image.ref.name": image.tag,
        "io.containerd.image.name": full_name(image),
    });
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] })
}

/// The name as containerd keeps it: a name without a registry is Docker Hub's, and kubelet asks for it so.
fn full_name(image: &Image<'_>) -> String {
    let (name, tag) = (image.name, image.tag);
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => format!("{name}:{tag}"),
        Some(_) => format!("docker.io/{name}:{tag}"),
        None => format!("docker.io/library/{name}:{tag}"),
    }
}

fn append(tar: &mut Builder<File>, path: &str, content: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, path, content)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_kubelet_asks_containerd_for() {
        let layer = Layer { compressed: Vec::new(), diff_id: String::new() };
        let full = |name| full_name(&Image { name, tag: "1", architecture: "amd64", layer: &layer });
        assert_eq!(full("weir"), "docker.io/library/weir:1");
        assert_eq!(full("team/weir"), "docker.io/team/weir:1");
        assert_eq!(full("registry.example.com/team/weir"), "registry.example.com/team/weir:1");
        assert_eq!(full("localhost:5000/weir"), "localhost:5000/weir:1");
    }

    #[test]
    fn a_digest_is_sha256_as_the_standard_has_it() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
    }
}
