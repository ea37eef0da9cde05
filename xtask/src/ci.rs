//! `cargo xtask ci`: everything that has to hold before a change lands, in the order that fails soonest.
//!
//! It works on a fresh Debian 12 with rustup's stable Rust: what is missing is installed, and said.

use anyhow::Result;

use crate::process::{cargo, run};
use crate::steps::Steps;
use crate::{setup, test, tidy};

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
    steps.step("format", || run(cargo().args(["fmt", "--all", "--check"])))?;
    steps.step("tidy", tidy::run)?;
    steps.step("lints", || {
        run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))
    })?;
    test::all(steps, &test::Options::default())
}
