//! `cargo xtask test`: every test there is, after setting up what they need.
//!
//! Nothing is left out silently. A test that cannot run on this machine says `left out` and why on standard error; this
//! command repeats those lines at the end, and where root and BPF are at hand one of them is a failure.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::process::{cargo, output, path_from, run, shown, target};
use crate::setup::{self, CC, CURL, IP, JAVAC, MARIADB, MARIADBD, NFT, PYTHON, REDIS_CLI, RUNC, WRK};
use crate::steps::Steps;
use crate::{cluster, kernels};

/// The built binary, for the end-to-end tests.
const BINARY: &str = "WEIR_BIN";
/// The eBPF object that weir loads instead of the committed one; handed through when set.
const BPF_OBJECT: &str = "WEIR_BPF_OBJECT";
/// How a test begins that says it could not run.
const LEFT_OUT: &str = "left out";

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Only tests whose names contain this; with `--kernels`, one of these, with commas between them
    #[arg(conflicts_with = "kubeconfig")]
    filter: Option<String>,
    #[command(flatten)]
    cluster: cluster::Options,
    #[command(flatten)]
    kernels: kernels::Options,
}

pub(crate) fn run_tests(options: &Options) -> Result<()> {
    let mut steps = Steps::default();
    if let Some(kernels) = &options.kernels.kernels {
        let result = kernels::run_on(&mut steps, kernels, options.filter.as_deref());
        steps.summary();
        return result;
    }
    let result = match options.cluster.kubeconfig.clone() {
        Some(kubeconfig) => cluster::run(&mut steps, &options.cluster, kubeconfig),
        None => all(&mut steps, options),
    };
    steps.summary();
    if options.cluster.kubeconfig.is_none() {
        println!("no kubeconfig given: the cluster suite was left out (cargo xtask test --kubeconfig FILE)");
    }
    result
}

/// The steps, for `ci` to run among its own.
pub(crate) fn all(steps: &mut Steps, options: &Options) -> Result<()> {
    let bpf = setup::interception_possible();
    steps.step("what the tests need", || prepare(&bpf))?;
    steps.step("build weir and the tests", build)?;
    let filter = options.filter.as_deref();
    steps.step("every test", || run_and_judge(test_command(filter), &bpf))
}

/// The tests that load eBPF programs once more, with this object instead of the committed one.
pub(crate) fn with_object(steps: &mut Steps, object: &Path) -> Result<()> {
    let bpf = setup::interception_possible();
    for (name, arguments) in [
        (
            "the programs' tests with the rebuilt object",
            ["--package", "weir", "--test", "intercept"].as_slice(),
        ),
        ("the end-to-end tests with the rebuilt object", &["--package", "e2e"]),
    ] {
        let mut command = cargo();
        command.arg("test").args(arguments).env(BINARY, target().join("debug/weir")).env(BPF_OBJECT, object);
        steps.step(name, || run_and_judge(command, &bpf))?;
    }
    Ok(())
}

fn prepare(bpf: &Result<(), String>) -> Result<()> {
    match bpf {
        Ok(()) => println!("    root, cgroup2 and BPF are here: the interception tests run"),
        Err(why) => println!("    the interception tests cannot run here: {why}"),
    }
    if let Some(object) = path_from(BPF_OBJECT) {
        println!("    {BPF_OBJECT} is set: weir loads {}", object.display());
    }
    setup::ensure(&[CC, IP, CURL, PYTHON, JAVAC, REDIS_CLI, MARIADBD, MARIADB, WRK])?;
    if bpf.is_ok() {
        setup::ensure(&[RUNC, NFT])?;
    }
    // Some tests make a virtual environment, which Debian's python3 alone cannot.
    if output(Command::new("python3").args(["-c", "import ensurepip"])).is_err() {
        setup::install(&["python3-venv"])?;
    }
    Ok(())
}

fn build() -> Result<()> {
    run(cargo().args(["build", "--package", "weir", "--bins"]))?;
    run(cargo().args(["test", "--workspace", "--no-run"]))
}

fn test_command(filter: Option<&str>) -> Command {
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .env(BINARY, target().join("debug/weir"))
        .args(filter);
    if let Some(object) = path_from(BPF_OBJECT) {
        command.env(BPF_OBJECT, object);
    }
    command
}

/// Runs the tests, passing on what they say, and judges those that say they could not run. A run without any test has
/// shown nothing, so it fails: a misspelt filter looks like success otherwise.
fn run_and_judge(mut command: Command, bpf: &Result<(), String>) -> Result<()> {
    println!("    $ {}", shown(&command));
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("its standard output is piped")?;
    let counter = std::thread::spawn(move || pass_on_and_count(stdout));
    let stderr = child.stderr.take().context("its standard error is piped")?;
    let mut left_out = Vec::new();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        eprintln!("{line}");
        if line.contains(LEFT_OUT) {
            left_out.push(line);
        }
    }
    let status = child.wait()?;
    let ran = counter.join().map_err(|_| anyhow!("the reader of the tests' output has panicked"))?;
    let judged = judge(&left_out, bpf);
    if !status.success() {
        bail!("tests failed: `{}`: {status}", shown(&command));
    }
    if ran == 0 {
        bail!("no test ran: `{}`", shown(&command));
    }
    judged
}

/// Passes on what the tests print; how many ran, by the harness's own sums.
fn pass_on_and_count(stdout: impl Read) -> u64 {
    let mut ran = 0;
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        ran += tests_of(&line);
    }
    ran
}

/// How many tests a line `test result: ok. 12 passed; 1 failed; ...` is about; 0 for any other.
fn tests_of(line: &str) -> u64 {
    let Some(sums) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
        return 0;
    };
    let of = |word: &str| {
        sums.1
            .split("; ")
            .find_map(|sum| sum.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
            .unwrap_or(0)
    };
    of("passed") + of("failed")
}

/// Repeats what could not run; with everything at hand, that is a failure.
fn judge(left_out: &[String], bpf: &Result<(), String>) -> Result<()> {
    if left_out.is_empty() {
        println!("    no test was left out");
        return Ok(());
    }
    println!("    {} tests could not run here:", left_out.len());
    for line in left_out {
        println!("      {}", line.trim());
    }
    match bpf {
        Ok(()) => bail!("{} tests were left out although root, cgroup2 and BPF are here", left_out.len()),
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
    fn a_test_left_out_fails_the_run_where_it_could_have_run() {
        let left_out = ["left out: no BPF".to_owned()];
        assert!(judge(&[], &Ok(())).is_ok());
        assert!(judge(&left_out, &Ok(())).is_err());
        assert!(judge(&left_out, &Err("not root".to_owned())).is_ok());
    }

    #[test]
    fn what_a_test_says_on_standard_error_is_heard() {
        let says = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run_and_judge(command, &Ok(()))
        };
        let one = "echo 'test result: ok. 1 passed; 0 failed; 0 ignored'";
        assert!(says(&format!("{one}; echo fine >&2")).is_ok());
        assert!(says(&format!("{one}; echo 'left out: needs root' >&2")).is_err());
        assert!(says(&format!("{one}; exit 1")).is_err());
    }

    #[test]
    fn a_run_without_a_test_fails() {
        let says = |line: &str| {
            let mut command = Command::new("echo");
            command.arg(line);
            run_and_judge(command, &Ok(()))
        };
        assert!(
            says("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 300 filtered out").is_err()
        );
        assert!(says("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out").is_ok());
        assert_eq!(tests_of("test result: FAILED. 2 passed; 3 failed; 0 ignored"), 5);
        assert_eq!(tests_of("test a::b ... ok"), 0);
    }

    #[test]
    fn a_relative_path_in_the_environment_means_the_folder_one_is_in() {
        let object = path_from("CARGO_PKG_NAME").expect("cargo sets it for tests");
        assert_eq!(object, std::env::current_dir().expect("a folder").join("xtask"));
    }
}
