//! `cargo xtask test`: every test there is, after setting up what they need.
//!
//! Nothing is skipped silently. A test that cannot run on this machine says so in a file that this command reads out
//! at the end, and with root and BPF at hand a skipped test is a failure.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, output, root, run, target};
use crate::setup::{self, CC, CURL, IP, PYTHON};
use crate::steps::Steps;

/// The file that a test which cannot run appends its name and its reason to.
const SKIPS: &str = "WEIR_TEST_SKIPS";
/// The built binary, for the end-to-end tests.
const BINARY: &str = "WEIR_BIN";
/// A Python with the `websockets` package.
const PYTHON_WITH_WEBSOCKETS: &str = "WEIR_TEST_PYTHON";
/// The eBPF object that weir loads instead of the committed one; handed through when set.
pub(crate) const BPF_OBJECT: &str = "WEIR_BPF_OBJECT";

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Only tests whose names contain this
    filter: Option<String>,
}

pub(crate) fn run_tests(options: &Options) -> Result<()> {
    let mut steps = Steps::default();
    let result = all(&mut steps, options);
    steps.summary();
    result
}

/// The steps, for `ci` to run among its own.
pub(crate) fn all(steps: &mut Steps, options: &Options) -> Result<()> {
    let bpf = setup::interception_possible();
    steps.step("what the tests need", || prepare(&bpf))?;
    let python = steps.step("a Python with websockets", python_with_websockets)?;
    steps.step("build weir and the tests", build)?;
    let filter = options.filter.as_deref();
    steps.step("every test", || run_and_judge(test_command(&python, filter), &bpf))
}

/// Every test of the programs once more, with this eBPF object instead of the committed one.
pub(crate) fn with_object(steps: &mut Steps, object: &Path) -> Result<()> {
    let python = python_with_websockets()?;
    steps.step("the tests once more, with the rebuilt eBPF object", || {
        let mut command = test_command(&python, None);
        command.env(BPF_OBJECT, object);
        run_and_judge(command, &setup::interception_possible())
    })
}

/// Runs the tests, and judges those that said they could not run.
fn run_and_judge(mut command: Command, bpf: &Result<(), String>) -> Result<()> {
    let skips = target().join(format!("skipped-{}", std::process::id()));
    std::fs::write(&skips, "").context("cannot write to the target folder")?;
    let result = run(command.env(SKIPS, &skips));
    let skipped = std::fs::read_to_string(&skips);
    let _ = std::fs::remove_file(&skips);
    let judged = judge_skips(&skipped.unwrap_or_default(), bpf);
    result.and(judged)
}

fn prepare(bpf: &Result<(), String>) -> Result<()> {
    match bpf {
        Ok(()) => println!("    root, cgroup2 and BPF are here: the interception tests run"),
        Err(why) => println!("    the interception tests cannot run here: {why}"),
    }
    if let Ok(object) = std::env::var(BPF_OBJECT) {
        println!("    {BPF_OBJECT} is set: weir loads {object}");
    }
    setup::ensure(&[CC, IP, CURL, PYTHON])
}

/// A virtual environment below `target`, made once; the WebSocket tests speak to Python's `websockets`.
fn python_with_websockets() -> Result<PathBuf> {
    let folder = target().join("test-python");
    let python = folder.join("bin/python");
    let ready = |python: &Path| output(Command::new(python).args(["-c", "import websockets"])).is_ok();
    if ready(&python) {
        return Ok(python);
    }
    let make = || output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    if make().is_err() {
        // Debian's python3 comes without ensurepip; python3-venv brings it.
        setup::install(&["python3-venv"])?;
        // The Python of the package, should another one come first on the path.
        let debian = Path::new("/usr/bin/python3");
        let python3 = if debian.exists() { debian } else { Path::new("python3") };
        output(Command::new(python3).args(["-m", "venv", "--clear"]).arg(&folder))?;
    }
    println!(
        "    installing websockets from PyPI into {}",
        folder.strip_prefix(root()).unwrap_or(&folder).display()
    );
    output(Command::new(&python).args(["-m", "pip", "install", "--quiet", "websockets==15.0.1"]))
        .context("the WebSocket tests need `websockets` from PyPI")?;
    Ok(python)
}

fn build() -> Result<()> {
    run(cargo().args(["build", "--package", "weir", "--bins"]))?;
    run(cargo().args(["test", "--workspace", "--no-run", "--quiet"]))
}

fn test_command(python: &Path, filter: Option<&str>) -> Command {
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .env(BINARY, target().join("debug/weir"))
        .env(PYTHON_WITH_WEBSOCKETS, python)
        .args(filter);
    command
}

/// Reads out what could not run; with everything at hand, that is a failure.
fn judge_skips(skipped: &str, bpf: &Result<(), String>) -> Result<()> {
    let skipped: Vec<&str> = skipped.lines().filter(|line| !line.trim().is_empty()).collect();
    if skipped.is_empty() {
        println!("    no test was skipped");
        return Ok(());
    }
    println!("    {} tests could not run here:", skipped.len());
    for line in &skipped {
        println!("      {line}");
    }
    match bpf {
        Ok(()) => bail!("{} tests were skipped although root, cgroup2 and BPF are here", skipped.len()),
        Err(why) => {
            println!("    because: {why}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_test_fails_the_run_where_it_could_have_run() {
        assert!(judge_skips("", &Ok(())).is_ok());
        assert!(judge_skips("a_test: no BPF\n", &Ok(())).is_err());
        assert!(judge_skips("a_test: no BPF\n", &Err("not root".to_owned())).is_ok());
    }
}
