//! What the commands need from the machine: they say what is missing, and install it where they may.
#![allow(unsafe_code, reason = "the bpf system call has no safe wrapper")]

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_type};
use test_support::cgroup;

use crate::process::{on_path, output, run, search_path};

/// A program and the Debian package that holds it.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

pub(crate) const IP: Tool = Tool { program: "ip", package: "iproute2" };
pub(crate) const CURL: Tool = Tool { program: "curl", package: "curl" };
pub(crate) const CC: Tool = Tool { program: "cc", package: "build-essential" };
pub(crate) const HAPROXY: Tool = Tool { program: "haproxy", package: "haproxy" };
pub(crate) const VALGRIND: Tool = Tool { program: "valgrind", package: "valgrind" };
pub(crate) const PERF: Tool = Tool { program: "perf", package: "linux-perf" };
pub(crate) const PYTHON: Tool = Tool { program: "python3", package: "python3" };
pub(crate) const JAVAC: Tool = Tool { program: "javac", package: "openjdk-17-jdk-headless" };
pub(crate) const REDIS_CLI: Tool = Tool { program: "redis-cli", package: "redis-tools" };
pub(crate) const MARIADBD: Tool = Tool { program: "mariadbd", package: "mariadb-server-core" };
pub(crate) const MARIADB: Tool = Tool { program: "mariadb", package: "mariadb-client-core" };
pub(crate) const WRK: Tool = Tool { program: "wrk", package: "wrk" };
pub(crate) const RUNC: Tool = Tool { program: "runc", package: "runc" };
pub(crate) const NFT: Tool = Tool { program: "nft", package: "nftables" };
pub(crate) const MUSL: Tool = Tool { program: "musl-gcc", package: "musl-tools" };

/// Whether we run as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether the kernel lets us use BPF: it is asked for a small array map, which is closed again at once.
pub(crate) fn may_use_bpf() -> Result<(), String> {
    // SAFETY: structs of integers, for which zero is a value. The kernel's whole union, for it may also write to it.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    attributes.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    attributes.__bindgen_anon_1.key_size = 4;
    attributes.__bindgen_anon_1.value_size = 4;
    attributes.__bindgen_anon_1.max_entries = 1;
    let (command, size) = (bpf_cmd::BPF_MAP_CREATE as u32, size_of::<bpf_attr>());
    // SAFETY: live attributes of the size passed along.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attributes, size) };
    if fd < 0 {
        return Err(format!("the kernel refuses BPF: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: the descriptor is the one just made, and nobody else knows it.
    unsafe { libc::close(fd as i32) };
    Ok(())
}

/// Why interception cannot be shown here; `Ok` when it can.
pub(crate) fn interception_possible() -> Result<(), String> {
    if !is_root() {
        return Err("not root: network namespaces and BPF need it".to_owned());
    }
    if cgroup::mount().is_none() {
        return Err(
            "no cgroup2 hierarchy is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`".to_owned()
        );
    }
    may_use_bpf()
}

/// Makes sure the tools are there: installs what is missing by apt when root, else says what to install.
pub(crate) fn ensure(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&str> =
        tools.iter().filter(|tool| !on_path(tool.program)).map(|tool| tool.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Installs Debian packages when root, else says what to install.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !is_root() || !on_path("apt-get") {
        bail!("missing here: {list}. As root on Debian: apt-get install {list}");
    }
    println!("    installing {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("PATH", search_path())
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-o=Dpkg::Use-Pty=0"])
            .args(arguments);
        command
    };
    let mut wanted = vec!["install", "-y", "--no-install-recommends"];
    wanted.extend(packages);
    // The package lists of a fresh machine are empty or old, so a first failure is no news.
    if apt(&wanted).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    {
        return Ok(());
    }
    run(apt(&["update"]).stdout(Stdio::null()))?;
    run(apt(&wanted).stdout(Stdio::null())).with_context(|| format!("apt-get could not install {list}"))
}

/// Makes sure of rustup components: (the cargo subcommand's program, the component).
pub(crate) fn ensure_components(components: &[(&str, &str)]) -> Result<()> {
    for (program, component) in components {
        if output(Command::new(program).arg("--version").current_dir(crate::process::root())).is_ok() {
            continue;
        }
        run(Command::new("rustup").args(["component", "add", component]))
            .with_context(|| format!("{component} is missing, and rustup could not add it"))?;
    }
    Ok(())
}
