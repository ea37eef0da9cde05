//! The kustomization that the suite installs: the one in `deploy/`, with the image to be tested, and with Via in the answers to
//! diverted requests, which shows that they went through weir.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{make_folder, root, target};

/// A folder of its own, removed when dropped.
pub(crate) struct Overlay(PathBuf);

impl Overlay {
    /// Writes it. Kustomize takes no absolute paths, so it leads from one folder to the other by its parents.
    pub(crate) fn write(image: &str) -> Result<Self> {
        let (name, tag) = match image.rsplit_once(':') {
            Some((name, tag)) if !name.is_empty() && !tag.is_empty() && !tag.contains('/') => (name, tag),
            _ => bail!("`{image}` is no image with a tag: write it as registry.example.com/weir:0.1.0"),
        };
        let folder = target().join(format!("cluster-{}", std::process::id()));
        make_folder(&folder)?;
        let overlay = Self(folder.canonicalize()?);
        let base = relative(&overlay.0, &root().join("deploy/kubernetes/base").canonicalize()?);
        let config = std::fs::read_to_string(root().join("deploy/kubernetes/base/weir.yaml"))
            .context("cannot read weir's configuration")?;
        std::fs::write(overlay.0.join("kustomization.yaml"), kustomization(&base, (name, tag), &config)?)
            .context("cannot write the kustomization")?;
        Ok(overlay)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Its text. The configuration is the base's but for one key, and so goes in whole.
fn kustomization(base: &Path, (name, tag): (&str, &str), config: &str) -> Result<String> {
    const WITHOUT_VIA: &str = "\ntransparent: {}\n";
    if !config.contains(WITHOUT_VIA) {
        bail!("the base's configuration has no line `transparent: {{}}` to add Via to");
    }
    let config = config.replace(WITHOUT_VIA, "\ntransparent: { via: true }\n");
    let config: String = config.lines().map(|line| format!("          {line}\n")).collect();
    Ok(format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - {}\n\
         images:\n  - name: weir\n    newName: {name}\n    newTag: \"{tag}\"\n\
         patches:\n  - target: {{ kind: ConfigMap, name: weir }}\n    patch: |-\n      - op: replace\n        \
         path: /data/weir.yaml\n        value: |\n{config}",
        base.display()
    ))
}

/// The way from one absolute folder to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| std::path::Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_up_to_what_is_shared_and_down_again() {
        let way = |from, to| relative(Path::new(from), Path::new(to));
        assert_eq!(way("/a/target/x", "/a/deploy/base"), PathBuf::from("../../deploy/base"));
        assert_eq!(way("/elsewhere", "/a/b"), PathBuf::from("../a/b"));
    }

    #[test]
    fn an_image_without_a_tag_is_refused_and_a_folder_does_not_stay() {
        assert!(Overlay::write("localhost:5000/weir").is_err());
        let overlay = Overlay::write("localhost:5000/weir:2").expect("a name and a tag");
        let path = overlay.path().to_owned();
        let text = std::fs::read_to_string(path.join("kustomization.yaml")).expect("it was written");
        assert!(text.contains("newName: localhost:5000/weir\n    newTag: \"2\""), "{text}");
        assert!(text.contains("          transparent: { via: true }\n"), "{text}");
        drop(overlay);
        assert!(!path.exists());
    }
}
