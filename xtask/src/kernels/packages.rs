//! Distributions' kernels: found and fetched by apt, with a configuration of its own, and unpacked without being installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{make_folder, output, run};

/// Debian's kernels for virtual machines, which are its others with fewer drivers.
const DEBIAN: &str = "http://deb.debian.org/debian";
const DEBIAN_SUITES: [&str; 3] = ["bookworm", "trixie", "trixie-backports"];
const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The oldest Linux that weir runs on, which Debian never had: Ubuntu 22.04 has.
const OLDEST: &str = "5.15";
const UBUNTU: &str = "http://archive.ubuntu.com/ubuntu";
/// Of Debian's package `ubuntu-keyring`.
const UBUNTU_KEYS: &str = "usr/share/keyrings/ubuntu-archive-keyring.gpg";

/// How old the lists of packages may be.
const LISTS: Duration = Duration::from_hours(12);

/// What is there to be fetched.
pub(super) struct Packages {
    folder: PathBuf,
}

/// A kernel, unpacked.
pub(super) struct Kernel {
    /// As uname says.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// The folder of its modules.
    pub(super) modules: PathBuf,
}

impl Packages {
    /// Fetches the lists of packages, where those of the last time are too old or miss something.
    pub(super) fn update(folder: &Path, names: &[&str]) -> Result<Self> {
        let this = Self { folder: folder.to_owned() };
        for part in ["apt/lists/partial", "apt/cache/archives/partial", "packages"] {
            make_folder(&folder.join(part))?;
        }
        fs::write(folder.join("apt/status"), "")?;
        let mut sources = String::new();
        for suite in DEBIAN_SUITES {
            sources.push_str(&format!("deb [signed-by={DEBIAN_KEYS}] {DEBIAN} {suite} main\n"));
        }
        this.use_sources(&sources)?;
        if names.contains(&OLDEST) {
            let keys = this.unpacked("ubuntu-keyring")?.join(UBUNTU_KEYS);
            sources.push_str(&format!("deb [signed-by={}] {UBUNTU} jammy main\n", keys.display()));
            this.use_sources(&sources)?;
        }
        Ok(this)
    }

    fn use_sources(&self, sources: &str) -> Result<()> {
        let (file, stamp) = (self.folder.join("apt/sources.list"), self.folder.join("apt/updated"));
        let is_new = fs::metadata(&stamp)
            .and_then(|it| it.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < LISTS));
        if is_new && fs::read_to_string(&stamp).is_ok_and(|of| of.contains(sources)) {
            return Ok(());
        }
        fs::write(&file, sources)?;
        run(self.apt("apt-get").args(["-qq", "update"]))?;
        fs::write(&stamp, sources).context("cannot write below target/kernels")
    }

    /// A command of apt's that knows nothing of this machine's sources and packages.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let apt = self.folder.join("apt");
        for (option, value) in [
            ("Dir::Etc::SourceList", apt.join("sources.list")),
            ("Dir::Etc::SourceParts", apt.join("none")),
            ("Dir::State", apt.clone()),
            ("Dir::State::status", apt.join("status")),
            ("Dir::Cache", apt.join("cache")),
        ] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        // apt's own user may not write to our folders.
        command.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]);
        command.args(["-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"]);
        command
    }

    /// The newest kernel of a version, `6.12` or `newest`, unpacked.
    pub(super) fn unpack(&self, version: &str) -> Result<Kernel> {
        let known = output(self.apt("apt-cache").args(["search", "--names-only", "^linux-image-[0-9]"]))?;
        let names = known.lines().filter_map(|line| line.split(' ').next());
        let package = newest(names, version).with_context(|| {
            format!(
                "there is no kernel {version} in {} of Debian, nor in Ubuntu 22.04",
                DEBIAN_SUITES.join(", ")
            )
        })?;
        let depends = output(self.apt("apt-cache").args(["depends", &package]))?;
        let mut parts = vec![package.clone()];
        parts.extend(depends.lines().filter_map(part_of));
        let parts: Vec<PathBuf> = parts.iter().map(|name| self.unpacked(name)).collect::<Result<_>>()?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let find = |places: [String; 2]| {
            let mut places = parts.iter().flat_map(|part| places.iter().map(|place| part.join(place)));
            places.find(|place| place.exists()).with_context(|| format!("{package} has none of {places:?}"))
        };
        let image = find([format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")])?;
        let modules =
            find([format!("lib/modules/{release}/kernel"), format!("usr/lib/modules/{release}/kernel")])?;
        Ok(Kernel { release, image, modules })
    }

    /// The folder with a package's files.
    fn unpacked(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join("packages").join(name);
        if folder.exists() {
            return Ok(folder);
        }
        let fetched = self.folder.join("packages/fetched");
        if fetched.exists() {
            fs::remove_dir_all(&fetched)?;
        }
        make_folder(&fetched)?;
        run(self.apt("apt-get").args(["-q", "download", name]).current_dir(&fetched))?;
        let Some(archive) = fs::read_dir(&fetched)?.next() else {
            bail!("apt-get fetched nothing of {name}")
        };
        let unpacked = self.folder.join("packages/unpacked");
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked)?;
        }
        run(Command::new("dpkg").arg("-x").arg(archive?.path()).arg(&unpacked))?;
        // Whole, or not at all.
        fs::rename(&unpacked, &folder)?;
        Ok(folder)
    }
}

/// Of the packages' names, the newest kernel's of this version: Debian's for virtual machines, or Ubuntu's of the oldest.
pub(super) fn newest<'a>(names: impl Iterator<Item = &'a str>, version: &str) -> Option<String> {
    let of_version = |name: &&str| {
        let release = name.strip_prefix("linux-image-").unwrap_or_default();
        let is_of = |rest: &str| rest.starts_with(['.', '-', '+']);
        let debian = release.ends_with("-cloud-amd64");
        let ubuntu = version == OLDEST && release.ends_with("-generic");
        (debian || ubuntu) && (version == "newest" || release.strip_prefix(version).is_some_and(is_of))
    };
    names.filter(of_version).max_by_key(|name| numbers(name)).map(str::to_owned)
}

/// The numbers in a name, in order: 6.12.9 is older than 6.12.107.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect()
}

/// The part of a kernel that a line of `apt-cache depends` names.
pub(super) fn part_of(line: &str) -> Option<String> {
    let name = line.trim().strip_prefix("Depends: ")?;
    let is_part = ["linux-image-", "linux-binary-", "linux-modules-"].iter().any(|it| name.starts_with(it));
    is_part.then(|| name.to_owned())
}
