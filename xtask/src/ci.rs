//! `cargo xtask ci`: everything that has to hold before a change lands, in the order that fails soonest.
//!
//! It works on a fresh Debian 12 with rustup's stable Rust: what is missing is installed, and said.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{cargo, root, run};
use crate::steps::Steps;
use crate::{build_ebpf, setup, test, tidy};

pub(crate) fn run_ci() -> Result<()> {
    let mut steps = Steps::default();
    let result = all(&mut steps);
    steps.summary();
    match &result {
        Ok(()) => println!("\nci: everything holds"),
        Err(_) => println!("\nci: FAILED"),
    }
    result
}

fn all(steps: &mut Steps) -> Result<()> {
    steps.step("rustfmt and clippy", || {
        setup::ensure_components(&[("rustfmt", "rustfmt"), ("cargo-clippy", "clippy")])?;
        setup::ensure(&[setup::CC])
    })?;
    steps.step("format", || {
        run(cargo().args(["fmt", "--all", "--check"]))?;
        // The eBPF programs are a workspace of their own, built for another machine.
        run(cargo().args(["fmt", "--check", "--manifest-path", "proxy-ebpf/programs/Cargo.toml"]))
    })?;
    steps.step("tidy", tidy::run)?;
    steps.step("lints", || {
        run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))
    })?;
    let rebuilt = steps.step("rebuild the eBPF object from source and compare", rebuild)?;
    test::all(steps, &test::Options::default())?;
    match rebuilt {
        Some(object) => test::with_object(steps, &object),
        None => Ok(()),
    }
}

/// The rebuilt object, if it is another than the committed one: with the recorded toolchain that is an error already.
fn rebuild() -> Result<Option<PathBuf>> {
    build_ebpf::run(&build_ebpf::Options { debug: false, check: true })?;
    let rebuilt = root().join("target/bpf/weir.bpf.o");
    let same = std::fs::read(&rebuilt)? == std::fs::read(root().join("proxy-ebpf/prebuilt/weir.bpf.o"))?;
    Ok(if same { None } else { Some(rebuilt) })
}
