//! Why interception does not work, in one sentence that also says what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

use super::release::Release;
use super::verifier;

/// Why interception could not be set up or changed. `Display` is meant for the operator.
#[derive(Debug)]
pub enum InterceptError {
    /// The options are invalid.
    Options(String),
    /// weir lacks capabilities.
    Capability {
        /// Their names, as in capabilities(7).
        missing: Vec<&'static str>,
    },
    /// The kernel has no bpf(2), or rejects every call.
    NoBpf(io::Error),
    /// The kernel forbids bpf(2) although weir has the capabilities.
    Forbidden(io::Error),
    /// The kernel is too old for a required feature.
    TooOld {
        /// The missing feature.
        what: &'static str,
        /// The kernel's error.
        cause: io::Error,
    },
    /// No pods' parent cgroup was found.
    NoPodsCgroup {
        /// Where cgroup2 file systems are mounted.
        mounts: Vec<PathBuf>,
    },
    /// The pods' cgroup does not exist, or was removed.
    CgroupGone {
        /// Where it was expected.
        path: PathBuf,
        /// The kernel's error.
        cause: io::Error,
    },
    /// The path is not a directory of a cgroup2 file system.
    NotCgroup2(PathBuf),
    /// weir runs directly in the cgroup that it should divert.
    OwnCgroup(PathBuf),
    /// Another program was attached there or above, exclusively.
    Exclusive {
        /// Where weir wanted to attach.
        path: PathBuf,
        /// The hook.
        hook: &'static str,
    },
    /// Attaching would displace a program attached above, which would no longer run for the pods.
    Displaced {
        /// Where weir wanted to attach.
        path: PathBuf,
        /// The hook.
        hook: &'static str,
    },
    /// The kernel rejects a program, usually because it lacks a helper.
    Program {
        /// The program.
        name: &'static str,
        /// The kernel's error.
        cause: io::Error,
        /// The verifier's message; empty if there is none.
        verifier: String,
    },
    /// A map could not be created or changed.
    Map {
        /// The map.
        name: String,
        /// The kernel's error.
        cause: MapError,
    },
    /// The eBPF object does not match this weir.
    Object {
        /// `WEIR_BPF_OBJECT`, if it is not the built-in one.
        path: Option<PathBuf>,
        /// What is wrong with it.
        cause: String,
    },
    /// The given socket is not a listening TCP socket.
    Listener(io::Error),
    /// More addresses are excluded than fit into the table of destinations.
    TooManyExclusions {
        /// Number of exclusions.
        excluded: usize,
        /// Maximum number of exclusions.
        room: usize,
    },
    /// An unexpected failure of a system call.
    Kernel {
        /// The call.
        call: &'static str,
        /// Its error.
        cause: io::Error,
    },
}

impl InterceptError {
    /// For `map_err`: the system call that failed.
    pub(super) fn kernel(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Kernel { call, cause }
    }

    /// For `map_err`: a kernel feature checked at start, so that it cannot be missing for each connection later.
    pub(super) fn lacks(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::TooOld { what, cause }
    }

    /// For `map_err`: the map that failed.
    pub(super) fn map(name: &str) -> impl FnOnce(MapError) -> Self {
        let name = name.to_owned();
        move |cause| Self::Map { name, cause }
    }

    /// The meaning of a failed attach to `path`; the capabilities are known to be present.
    pub(super) fn attach(path: &Path, hook: &'static str, error: ProgramError) -> Self {
        let cause = match error {
            ProgramError::SyscallError(syscall) => syscall.io_error,
            other => io::Error::other(other),
        };
        match cause.raw_os_error() {
            Some(libc::EPERM) => Self::Exclusive { path: path.to_owned(), hook },
            Some(libc::ENODEV | libc::ENOENT) => Self::CgroupGone { path: path.to_owned(), cause },
            _ => Self::Kernel { call: "BPF_LINK_CREATE", cause },
        }
    }

    /// Why the kernel rejected a program.
    pub(super) fn program(name: &'static str, error: ProgramError) -> Self {
        match error {
            // The verifier would have left a message.
            ProgramError::LoadError { io_error, verifier_log }
                if io_error.raw_os_error() == Some(libc::EPERM) && verifier_log.to_string().is_empty() =>
            {
                Self::Forbidden(io_error)
            }
            ProgramError::LoadError { io_error, verifier_log } => {
                let verifier = verifier::complaint(&verifier_log.to_string()).to_owned();
                Self::Program { name, cause: io_error, verifier }
            }
            other => Self::Program { name, cause: io::Error::other(other), verifier: String::new() },
        }
    }

    /// Why loading the object failed.
    pub(super) fn load(path: Option<&Path>, error: EbpfError) -> Self {
        match error {
            EbpfError::MapError(MapError::CreateError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::ENOSYS) =>
            {
                Self::NoBpf(io_error)
            }
            EbpfError::MapError(MapError::CreateError { io_error, .. })
                if matches!(io_error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) =>
            {
                Self::Forbidden(io_error)
            }
            EbpfError::MapError(MapError::CreateError { name, io_error }) => {
                Self::Map { name: name.clone(), cause: MapError::CreateError { name, io_error } }
            }
            other => Self::Object { path: path.map(Path::to_owned), cause: chain(&other) },
        }
    }
}

impl fmt::Display for InterceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(what) => write!(f, "{what}"),
            Self::Capability { missing } => write!(
                f,
                "interception needs {}: run weir as root, or add the capabilities to the container's securityContext",
                missing.join(" and ")
            ),
            Self::NoBpf(_)
            | Self::Forbidden(_)
            | Self::TooOld { .. }
            | Self::Program { .. }
            | Self::Map { .. } => self.fmt_kernel(f),
            Self::NoPodsCgroup { .. }
            | Self::CgroupGone { .. }
            | Self::NotCgroup2(_)
            | Self::OwnCgroup(_)
            | Self::Exclusive { .. }
            | Self::Displaced { .. } => self.fmt_cgroup(f),
            Self::Object { path: Some(path), cause } => write!(
                f,
                "{} (from WEIR_BPF_OBJECT) is no eBPF object of this weir ({cause}): build it with `cargo xtask \
                 build-ebpf`",
                path.display()
            ),
            Self::Object { path: None, cause } => {
                write!(f, "weir's own eBPF object cannot be loaded here ({cause}): this is a bug in weir")
            }
            Self::Listener(cause) => {
                write!(
                    f,
                    "the transparent listener cannot be watched by the kernel ({cause}): this is a bug in weir"
                )
            }
            Self::TooManyExclusions { excluded, room } => write!(
                f,
                "{excluded} addresses are never to be diverted and there is room for {room}: nothing was changed; \
                 name networks with fewer of them in transparent.divert"
            ),
            Self::Kernel { call, cause } => write!(f, "the system call {call} failed: {cause}"),
        }
    }
}

impl InterceptError {
    /// Errors about what this kernel supports and permits.
    fn fmt_kernel(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_kernel_of(f, &Release::running())
    }

    fn fmt_kernel_of(&self, f: &mut fmt::Formatter<'_>, kernel: &Release) -> fmt::Result {
        let old = kernel.is_too_old();
        match self {
            Self::NoBpf(cause) => write!(
                f,
                "{kernel} has no bpf(2) for weir ({cause}): interception needs Linux 5.15 or newer with \
                 CONFIG_CGROUP_BPF, and no seccomp filter on bpf"
            ),
            Self::Forbidden(cause) => write!(
                f,
                "bpf(2) is refused to weir although it has the capabilities ({cause}): a seccomp profile forbids it (on \
                 Kubernetes set seccompProfile Unconfined), or SELinux does (type spc_t), or weir runs in a user namespace"
            ),
            Self::TooOld { what, cause } => {
                write!(f, "{kernel} has no {what} ({cause}): ")?;
                f.write_str(match old {
                    Some(false) => {
                        "Linux has it since 5.15 at the latest, so that a seccomp profile may hide it from weir, or the \
                         kernel was built without it"
                    }
                    _ => NEEDS,
                })
            }
            Self::Program { name, cause, verifier } => {
                write!(f, "{kernel} does not accept weir's eBPF program {name} (")?;
                if !verifier.is_empty() {
                    write!(f, "{verifier}; ")?;
                }
                let what = if old == Some(false) { "this is a bug in weir" } else { NEEDS };
                write!(f, "{cause}): {what}")
            }
            Self::Map { name, cause } => write!(
                f,
                "the eBPF map {name} does not work ({}): check the kernel's features and the memory limit of weir's \
                 cgroup",
                chain(cause)
            ),
            _ => Ok(()),
        }
    }

    /// Errors about the pods' cgroup.
    fn fmt_cgroup(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPodsCgroup { mounts } if mounts.is_empty() => write!(
                f,
                "no cgroup2 file system is mounted here: mount the node's /sys/fs/cgroup into weir's container; a node \
                 with cgroup version 1 alone has none"
            ),
            Self::NoPodsCgroup { mounts } => {
                let mounts: Vec<_> = mounts.iter().map(|path| path.display().to_string()).collect();
                write!(
                    f,
                    "no kubepods cgroup is below the cgroup2 mount {}: name the parent of the pods' cgroups in \
                     transparent.cgroup",
                    mounts.join(" or ")
                )
            }
            Self::CgroupGone { path, cause } => write!(
                f,
                "the cgroup {} is not there ({cause}): set transparent.cgroup to the pods' parent cgroup, and mount \
                 the host's cgroup2 file system into weir's container",
                path.display()
            ),
            Self::NotCgroup2(path) => write!(
                f,
                "{} is not on a cgroup2 file system: set transparent.cgroup to a directory of the unified hierarchy \
                 (/sys/fs/cgroup, or /sys/fs/cgroup/unified on a hybrid host)",
                path.display()
            ),
            Self::OwnCgroup(path) => write!(
                f,
                "weir itself runs in {}, whose connections it should divert: start weir in a cgroup of its own, or \
                 set transparent.cgroup to one that holds only its clients",
                path.display()
            ),
            Self::Exclusive { path, hook } => write!(
                f,
                "the kernel does not let weir attach at {hook} to {}: another program is attached there or above it \
                 exclusively (flags 0); detach it, or have its owner attach it with BPF_F_ALLOW_MULTI",
                path.display()
            ),
            Self::Displaced { path, hook } => write!(
                f,
                "with weir at {hook} of {}, another program that is attached above it would no longer run for the pods: \
                 it gives way to whoever attaches below (BPF_F_ALLOW_OVERRIDE); have its owner attach it with \
                 BPF_F_ALLOW_MULTI",
                path.display()
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for InterceptError {}

/// The advice for older kernels.
const NEEDS: &str = "interception needs Linux 5.15 or newer";

/// The error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_bpf_is_no_matter_of_the_kernels_features_or_of_memory() {
        let said = |code| {
            let io_error = io::Error::from_raw_os_error(code);
            let error = MapError::CreateError { name: "SCOPE".to_owned(), io_error };
            InterceptError::load(None, error.into()).to_string()
        };
        assert!(said(libc::EPERM).contains("seccomp"), "{}", said(libc::EPERM));
        assert!(said(libc::EACCES).contains("SELinux"), "{}", said(libc::EACCES));
        assert!(said(libc::ENOMEM).contains("memory limit"), "{}", said(libc::ENOMEM));
    }

    #[test]
    fn a_kernel_is_called_too_old_only_where_it_is() {
        struct On<'a>(&'a InterceptError, &'static str);
        impl fmt::Display for On<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt_kernel_of(f, &self.1.into())
            }
        }
        let cause = || io::Error::from_raw_os_error(libc::EINVAL);
        let verifier = "R1 invalid mem access 'scalar'".to_owned();
        let program = InterceptError::Program { name: "weir_connect4", cause: cause(), verifier };
        let silent =
            InterceptError::Program { name: "weir_connect4", cause: cause(), verifier: String::new() };
        let lacks = InterceptError::TooOld { what: "SO_NETNS_COOKIE", cause: cause() };
        for (error, release, expected) in [
            (&program, "5.15.0-25-generic", &["(5.15.0-25-generic)", "(R1 invalid", "a bug in weir"][..]),
            (&program, "5.10.0-30-amd64", &["(R1 invalid", NEEDS]),
            (&silent, "6.1.0-50-amd64", &["weir_connect4 (Invalid argument", "a bug in weir"]),
            (&lacks, "5.10.0-30-amd64", &["(5.10.0-30-amd64) has no SO_NETNS_COOKIE", NEEDS]),
            (&lacks, "6.12.117+deb13-amd64", &["no SO_NETNS_COOKIE", "seccomp"]),
            (&lacks, "", &["this kernel has no SO_NETNS_COOKIE", NEEDS]),
        ] {
            let said = On(error, release).to_string();
            assert!(expected.iter().all(|part| said.contains(part)), "{release}: {said}");
            assert_eq!(said.contains(NEEDS), expected.contains(&NEEDS), "{release}: {said}");
        }
    }
}
