//! `cargo xtask test --kernels`: the interception tests on other kernels, in emulated machines.
//!
//! Each machine has one kernel of a distribution, as its package has it, and an initramfs with the built tests, weir, what
//! both are linked to, and as little beside as they need. First all of the interception tests run in it, one at a time; then
//! weir itself with exactly the capabilities that the DaemonSet gives it, on a node with a pod. What came of it is read from
//! the console. Nothing of this machine is changed but for the packages with the emulator, where it is missing; the kernels
//! are unpacked below `target/kernels`.
//!
//! No acceleration is used: it works where there is no KVM, in virtual machines and containers, at a tenth of the speed.
//!
//! Deliberately absent: the end-to-end tests, which need Python, curl and runc.

mod archive;
mod machine;
mod modules;
mod packages;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::image::content::libraries;
use crate::process::{cargo, make_folder, on_path, output, root, run, target};
use crate::setup::{self, IP, Tool};
use crate::steps::Steps;
use archive::Archive;
use machine::{Machine, Verdict};
use packages::{Kernel, Packages};

const QEMU: Tool = Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" };
const BUSYBOX: Tool = Tool { program: "busybox", package: "busybox-static" };
const SETPRIV: Tool = Tool { program: "setpriv", package: "util-linux" };
const STRIP: Tool = Tool { program: "strip", package: "binutils" };
const XZ: Tool = Tool { program: "xz", package: "xz-utils" };

/// What the machine runs first, and then weir as the DaemonSet does.
const INIT: &str = include_str!("init.sh");
const DEPLOYED: &str = include_str!("deployed.sh");

/// The kernels that are tried when none is named: of Debian 12 and 13, and the newest of Debian 13's backports.
const DEFAULT: [&str; 3] = ["6.1", "6.12", "newest"];

#[derive(clap::Args, Default)]
#[group(id = "kernels-options")]
pub(crate) struct Options {
    /// Run the interception tests in emulated machines with these kernels, instead of this machine's tests: versions as
    /// `6.12`, or `newest` [default: 6.1,6.12,newest]
    #[arg(long, value_name = "VERSION", value_delimiter = ',', num_args = 0.., conflicts_with = "kubeconfig")]
    pub(crate) kernels: Option<Vec<String>>,
}

/// Runs the tests on each kernel.
pub(crate) fn run_on(steps: &mut Steps, names: &[String], filter: Option<&str>) -> Result<()> {
    let names: Vec<&str> = match names {
        [] => DEFAULT.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let folder = target().join("kernels");
    let kernels = steps.step("the emulator and the kernels", || {
        prepare()?;
        let packages = Packages::update(&folder, &names)?;
        names.iter().map(|name| packages.unpack(name)).collect::<Result<Vec<Kernel>>>()
    })?;
    let programs = steps.step("build weir and the interception tests", Programs::build)?;
    let mut verdicts = Vec::new();
    for kernel in &kernels {
        let verdict = steps.step(&format!("Linux {}", kernel.release), || {
            let initramfs = folder.join(format!("{}.cpio", kernel.release));
            programs.pack(kernel)?.write(&initramfs)?;
            let log = folder.join(format!("{}.log", kernel.release));
            let machine = Machine { kernel: &kernel.image, initramfs: &initramfs, log: &log };
            machine.run(filter)
        })?;
        verdicts.push((kernel, verdict));
    }
    report(&verdicts)
}

/// What came of each, and an error unless all is well.
fn report(verdicts: &[(&Kernel, Verdict)]) -> Result<()> {
    println!();
    let mut failed = Vec::new();
    for (kernel, verdict) in verdicts {
        println!("  Linux {}: {verdict}", kernel.release);
        if !verdict.is_well() {
            failed.push(kernel.release.as_str());
        }
    }
    ensure!(failed.is_empty(), "failed on Linux {}: see target/kernels/RELEASE.log", failed.join(" and "));
    Ok(())
}

fn prepare() -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the emulated machines are of x86_64, as what is tested in them has to be"
    );
    ensure!(
        on_path("apt-get"),
        "the kernels are fetched by apt-get: run this on Debian, or in a container of it"
    );
    setup::ensure(&[QEMU, BUSYBOX, IP, SETPRIV, STRIP, XZ])
}

/// What runs in the machines.
struct Programs {
    tests: PathBuf,
    weir: PathBuf,
}

impl Programs {
    fn build() -> Result<Self> {
        run(cargo().args(["build", "--package", "weir", "--bins"]))?;
        let arguments = ["test", "--package", "weir", "--test", "intercept", "--no-run"];
        run(cargo().args(arguments))?;
        let messages = output(cargo().args(arguments).args(["--message-format", "json"]))?;
        Ok(Self { tests: executable(&messages)?, weir: target().join("debug/weir") })
    }

    /// An initramfs with these and one kernel's modules.
    fn pack(&self, kernel: &Kernel) -> Result<Archive> {
        let mut archive = Archive::default();
        for folder in ["dev", "proc", "sys", "tmp", "run", "bin", "root"] {
            archive.folder(folder);
        }
        archive.file("init", INIT, 0o755);
        archive.file("deployed.sh", DEPLOYED, 0o755);
        archive.file(
            "etc/passwd",
            "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
            0o644,
        );
        self.add(&mut archive, &self.tests, "tests")?;
        self.add(&mut archive, &self.weir, "weir")?;
        self.add(&mut archive, &found(BUSYBOX)?, "bin/busybox")?;
        self.add(&mut archive, &found(IP)?, "usr/sbin/ip")?;
        self.add(&mut archive, &found(SETPRIV)?, "usr/sbin/setpriv")?;
        // Where the tests look for it, by the path that they were built at.
        let object = root().join("proxy-ebpf/prebuilt/weir.bpf.o");
        archive.file(&at(&object)?, std::fs::read(&object)?, 0o644);
        archive.folder(&at(&root().join("proxy-userspace"))?);
        modules::add(&mut archive, &kernel.modules)?;
        Ok(archive)
    }

    /// A program at another place, and its libraries at theirs. Without symbols: a machine's memory is small.
    fn add(&self, archive: &mut Archive, program: &Path, to: &str) -> Result<()> {
        let stripped = target().join("kernels").join(to.replace('/', "-"));
        make_folder(&target().join("kernels"))?;
        let mut strip = Command::new(STRIP.program);
        output(strip.arg("--strip-all").arg("-o").arg(&stripped).arg(program))?;
        archive.file(to, std::fs::read(&stripped)?, 0o755);
        for library in libraries(program)? {
            archive.file(&at(&library)?, std::fs::read(&library)?, 0o755);
        }
        Ok(())
    }
}

/// A path in the archive.
fn at(path: &Path) -> Result<String> {
    let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(path.trim_start_matches('/').to_owned())
}

/// Where a program is.
fn found(tool: Tool) -> Result<PathBuf> {
    let path = crate::process::search_path();
    let place = std::env::split_paths(&path).map(|folder| folder.join(tool.program)).find(|it| it.is_file());
    place.with_context(|| format!("{} is not on the path", tool.program))
}

/// The program of tests among cargo's messages.
fn executable(messages: &str) -> Result<PathBuf> {
    for message in messages.lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(message) else { continue };
        if let (Some("intercept"), Some(path)) =
            (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            return Ok(path.into());
        }
    }
    bail!("cargo did not say where the interception tests are")
}
