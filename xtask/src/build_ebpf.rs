//! `cargo xtask build-ebpf`: builds weir's eBPF object from source, the same bytes everywhere.
//!
//! The programs need `core` built for `bpfel-unknown-none`, and so a compiler with its library's source
//! that accepts unstable flags. One toolchain, Debian 12's own packages, because the object is committed
//! and has to come out byte by byte the same on the next machine: `prebuilt/BUILD` records their versions.
//! Everything else lives below `target/`: nothing of the machine is changed but for the packages.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// What makes a difference to the object, with the packages they come from.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];
/// What bpf-linker is built with besides LLVM, which names these libraries to the linker; no part of the object.
const LIBRARIES: [&str; 4] = ["build-essential", "zlib1g-dev", "libzstd-dev", "libxml2-dev"];
/// Its LLVM must not be older than the compiler's: both are 22.
const LINKER: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";

/// What to build and what to do with it.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// With log lines about every connection, to target/bpf/weir-debug.bpf.o: for WEIR_BPF_OBJECT.
    #[arg(long, conflicts_with = "check")]
    pub(crate) debug: bool,
    /// Change nothing; compare with the committed object.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Builds the object.
///
/// # Errors
///
/// The toolchain is not there and cannot be installed, the build fails, or, with `check`, the committed
/// object is not what the same toolchain makes of the source.
pub(crate) fn run(options: &Options) -> Result<()> {
    let place = Place::find()?;
    let packages = packages()?;
    let linker = linker(&place)?;
    if options.debug {
        let object = place.output.join("weir-debug.bpf.o");
        build(&place, &linker, &["--features", "log"], &object)?;
        println!("use it with WEIR_BPF_OBJECT={}", object.display());
        return Ok(());
    }
    let object = place.output.join("weir.bpf.o");
    build(&place, &linker, &[], &object)?;
    let versions = record(&packages);
    if options.check {
        return compare(&place, &object, &versions);
    }
    crate::process::make_folder(&place.prebuilt)?;
    fs::copy(&object, place.prebuilt.join("weir.bpf.o")).context("cannot write the committed object")?;
    fs::write(place.prebuilt.join("BUILD"), versions).context("cannot write prebuilt/BUILD")?;
    println!("wrote {}", place.prebuilt.join("weir.bpf.o").display());
    Ok(())
}

/// The folders this works in.
struct Place {
    root: PathBuf,
    /// `target/bpf`.
    output: PathBuf,
    /// `target/tools`, where bpf-linker is installed.
    tools: PathBuf,
    prebuilt: PathBuf,
    cargo_home: PathBuf,
}

impl Place {
    fn find() -> Result<Self> {
        let xtask = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask build-ebpf`")?;
        let root = Path::new(&xtask).parent().context("xtask lies in the workspace")?.canonicalize()?;
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
        let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
        let place = Self {
            output: root.join("target/bpf"),
            tools: root.join("target/tools"),
            prebuilt: root.join("proxy-ebpf/prebuilt"),
            cargo_home: cargo_home.context("neither CARGO_HOME nor HOME is set")?,
            root,
        };
        crate::process::make_folder(&place.output)?;
        Ok(place)
    }

    fn manifest(&self) -> PathBuf {
        self.root.join("proxy-ebpf/programs/Cargo.toml")
    }
}

/// The packages with their versions; installs what is missing, where that is possible.
fn packages() -> Result<Vec<(&'static str, String)>> {
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|name| installed(name).is_none()).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    PACKAGES
        .into_iter()
        .map(|name| Ok((name, installed(name).with_context(|| format!("{name} is not installed"))?)))
        .collect()
}

/// The version of an installed Debian package.
fn installed(package: &str) -> Option<String> {
    let query = ["-W", "-f=${db:Status-Status} ${Version}", package];
    let answer = Command::new("dpkg-query").args(query).output().ok()?;
    let answer = String::from_utf8(answer.stdout).ok()?;
    answer.strip_prefix("installed ").map(str::to_owned)
}

fn install(missing: &[&str]) -> Result<()> {
    let names = missing.join(" ");
    ensure!(
        Path::new("/usr/bin/apt-get").exists(),
        "the eBPF object is built with packages of Debian 12 ({names}): run this in a debian:bookworm container"
    );
    // The owner of our own process, without a system call of our own.
    let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    ensure!(
        root,
        "packages are missing: run `apt-get update && apt-get install --no-install-recommends {names}`"
    );
    println!("installing {names}");
    let mut apt = Command::new("apt-get");
    call(apt.args(["-qq", "update"]))?;
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "install", "-y", "--no-install-recommends"]).args(missing);
    // The others, Ubuntu among them, have no packages of some of these names.
    call(apt.env("DEBIAN_FRONTEND", "noninteractive")).with_context(|| {
        format!("{names} are packages of Debian 12: elsewhere, run this in a debian:bookworm container")
    })
}

/// The folder of a bpf-linker of the right version; installs it where it is missing.
fn linker(place: &Place) -> Result<PathBuf> {
    let folder = place.tools.join("bin");
    let version = Command::new(folder.join("bpf-linker")).arg("--version").output();
    let right =
        version.is_ok_and(|said| said.stdout.trim_ascii() == format!("bpf-linker {LINKER}").as_bytes());
    if !right {
        let missing: Vec<&str> = LIBRARIES.into_iter().filter(|name| installed(name).is_none()).collect();
        if !missing.is_empty() {
            install(&missing)?;
        }
        println!("installing bpf-linker {LINKER} into {} (a minute or two)", place.tools.display());
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut install = Command::new(cargo);
        install
            .args(["install", "bpf-linker", "--version", LINKER, "--locked", "--force", "--quiet"])
            .args(["--no-default-features", "--features", "llvm-22"])
            .arg("--root")
            .arg(&place.tools)
            .env("LLVM_PREFIX", LLVM);
        call(&mut install)?;
    }
    Ok(folder)
}

/// Builds the programs and strips what is not needed to load them. BTF stays.
fn build(place: &Place, linker: &Path, features: &[&str], object: &Path) -> Result<()> {
    println!("building {}", object.display());
    // First, so that the folder of the registry's sources is there to be named in the flags.
    call(
        cargo(place, linker).args(["fetch", "--locked", "--quiet", "--manifest-path"]).arg(place.manifest()),
    )?;
    let target = place.output.join("build");
    let mut command = cargo(place, linker);
    command
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--target",
            "bpfel-unknown-none",
            "-Z",
            "build-std=core",
        ])
        .args(features)
        .arg("--manifest-path")
        .arg(place.manifest())
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(place)?);
    call(&mut command)?;
    let built = target.join("bpfel-unknown-none/release/weir-bpf");
    let mut strip = Command::new(Path::new(LLVM).join("bin/llvm-objcopy"));
    call(strip.arg("--strip-debug").arg(built).arg(object))?;
    println!("built {} ({} bytes)", object.display(), fs::metadata(object)?.len());
    Ok(())
}

/// Debian's cargo with Debian's compiler, and nothing in its environment that would change the object.
fn cargo(place: &Place, linker: &Path) -> Command {
    let mut cargo = Command::new("/usr/bin/cargo");
    let ours = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP", "LD_LIBRARY_PATH"];
    for (name, _) in std::env::vars_os() {
        if ours.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(linker.to_owned()).chain(std::env::split_paths(&path));
    cargo
        .current_dir(&place.root)
        .env("PATH", std::env::join_paths(path).unwrap_or_default())
        .env("CARGO_HOME", &place.cargo_home)
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_INCREMENTAL", "0");
    cargo
}

/// The compiler's flags, in cargo's encoding. No path of this machine remains in the object.
fn flags(place: &Place) -> Result<OsString> {
    let mut flags: Vec<OsString> =
        ["-Cdebuginfo=2", "-Clink-arg=--btf", "--cfg=bpf_target_arch=\"x86_64\""].map(OsString::from).into();
    let mut remap = |from: &Path, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    };
    remap(&place.root, "/src");
    let registries = place.cargo_home.join("registry/src");
    for registry in
        fs::read_dir(&registries).with_context(|| format!("cannot read {}", registries.display()))?
    {
        remap(&registry?.path(), "/deps");
    }
    Ok(flags.join(OsStr::new("\u{1f}")))
}

/// What `prebuilt/BUILD` says.
fn record(packages: &[(&str, String)]) -> String {
    let mut record = String::from(
        "# What weir.bpf.o was built with, by `cargo xtask build-ebpf`: packages of Debian 12, and bpf-linker.\n",
    );
    for (name, version) in packages {
        record.push_str(&format!("{name} {version}\n"));
    }
    record.push_str(&format!("bpf-linker {LINKER}\n"));
    record
}

/// Compares the built object with the committed one.
fn compare(place: &Place, object: &Path, versions: &str) -> Result<()> {
    let committed = place.prebuilt.join("weir.bpf.o");
    let expected = fs::read(&committed).with_context(|| format!("cannot read {}", committed.display()))?;
    let recorded = fs::read_to_string(place.prebuilt.join("BUILD")).context("cannot read prebuilt/BUILD")?;
    if fs::read(object)? == expected {
        println!("the committed object is what the source gives: {}", object.display());
        return Ok(());
    }
    if recorded == versions {
        bail!(
            "the committed object is not what its source gives with the same toolchain: run `cargo xtask build-ebpf` and \
             commit proxy-ebpf/prebuilt (rebuilt: {})",
            object.display()
        );
    }
    println!(
        "warning: the object differs from the committed one, but so does the toolchain; test the rebuilt one:"
    );
    println!("  WEIR_BPF_OBJECT={}", object.display());
    println!("recorded:\n{recorded}here:\n{versions}");
    Ok(())
}

/// Runs a command to its end, its output going where ours does.
fn call(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    ensure!(status.success(), "{name} failed ({status})");
    Ok(())
}
