//! `cargo xtask image`: weir's container image, as an OCI archive that every runtime can load.
//!
//! Without a Docker daemon and without a registry: the image is one layer of a dozen files, and an archive of that is a
//! tar file with some JSON (OCI image specification 1.1). `deploy/Containerfile` is for those who have a builder.
//!
//! The same binary and libraries make the same bytes, and so the same digest, whenever and wherever: files are sorted,
//! belong to root, and are dated 1970. Deliberately absent: a shell, a package manager, a second layer. What is in the
//! image is weir and what weir opens.

mod archive;
pub(crate) mod content;
mod layer;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{cargo, make_folder, output, run, target};

/// Rust's name for this machine with musl.
const STATIC_TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-musl" } else { "x86_64-unknown-linux-musl" };

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The archive to write
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// A weir that is built already, instead of a release build
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The image's name and tag, as the DaemonSet asks for it
    #[arg(long, default_value = concat!("weir:", env!("CARGO_PKG_VERSION")))]
    name: String,
    /// A static build with musl: no libraries in the image. The benchmarks are of the build with glibc
    #[arg(long = "static", conflicts_with = "binary")]
    is_static: bool,
}

pub(crate) fn run_image(options: &Options) -> Result<()> {
    let (name, tag) = split(&options.name)?;
    let binary = match &options.binary {
        Some(path) => path.clone(),
        None if options.is_static => build_static()?,
        None => build()?,
    };
    let (files, architecture) = contents(&binary)?;
    let layer = layer::pack(&files)?;
    let image = archive::Image { name, tag, architecture, layer: &layer };
    let out = options.out.clone().unwrap_or_else(|| target().join("weir-image.tar"));
    let digest = archive::write(&image, &out).with_context(|| format!("cannot write {}", out.display()))?;
    report(&files, &layer, &out, &digest)
}

fn report(files: &content::Files, layer: &layer::Layer, out: &Path, digest: &str) -> Result<()> {
    for (path, file) in files {
        println!("  {:>10}  /{path}", file.size());
    }
    println!("  {:>10}  unpacked", files.values().map(content::File::size).sum::<usize>());
    println!("  {:>10}  the layer, compressed", layer.compressed.len());
    println!("  {:>10}  {}", std::fs::metadata(out)?.len(), out.display());
    println!("  {digest}");
    Ok(())
}

/// `NAME:TAG`; a registry's port is no tag.
fn split(reference: &str) -> Result<(&str, &str)> {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !name.is_empty() && !tag.is_empty() && !tag.contains('/') => Ok((name, tag)),
        _ => bail!(
            "`{reference}` is no name with a tag: write it as weir:0.1.0 or registry.example.com/weir:0.1.0"
        ),
    }
}

fn build() -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "--package", "weir", "--bin", "weir"]))?;
    Ok(target().join("release/weir"))
}

fn build_static() -> Result<PathBuf> {
    let installed = output(std::process::Command::new("rustup").args(["target", "list", "--installed"]))
        .unwrap_or_default();
    if !installed.lines().any(|line| line == STATIC_TARGET) {
        run(std::process::Command::new("rustup").args(["target", "add", STATIC_TARGET])).with_context(
            || format!("Rust's library for {STATIC_TARGET} is missing, and rustup could not add it"),
        )?;
    }
    crate::setup::ensure(&[crate::setup::MUSL])?;
    run(cargo().args([
        "build",
        "--release",
        "--package",
        "weir",
        "--bin",
        "weir",
        "--target",
        STATIC_TARGET,
    ]))?;
    Ok(target().join(STATIC_TARGET).join("release/weir"))
}

/// The image's files, with weir without its symbols and debug information: the binutils that take those away came with
/// the linker, and work on a copy, which does not stay.
fn contents(binary: &Path) -> Result<(content::Files, &'static str)> {
    if !binary.is_file() {
        bail!("there is no {}", binary.display());
    }
    let folder = target().join(format!("image-{}", std::process::id()));
    make_folder(&folder)?;
    let stripped = folder.join("weir");
    let found =
        output(std::process::Command::new("strip").arg("--strip-all").arg("-o").arg(&stripped).arg(binary))
            .and_then(|_| Ok((content::of(&stripped)?, content::architecture(&stripped)?)));
    let _ = std::fs::remove_dir_all(&folder);
    found
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_registrys_port_is_no_tag() {
        assert_eq!(split("weir:0.1.0").expect("a reference"), ("weir", "0.1.0"));
        assert_eq!(split("localhost:5000/a/weir:1").expect("a reference"), ("localhost:5000/a/weir", "1"));
        for wrong in ["weir", "localhost:5000/weir", "weir:", ":1"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
