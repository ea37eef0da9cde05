//! Attaches the programs to their hooks, in a fixed order.

use std::os::fd::AsFd;

use aya::Ebpf;
use aya::programs::cgroup_sock_addr::CgroupSockAddrLink;
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Program, ProgramError, SockOps};

use super::cgroup::Cgroup;
use super::error::InterceptError;
use super::{Fail, Interception, sys, verifier};

/// A program and its hook. The kernel checks only a program's type and would accept an IPv4 program on an IPv6 hook: so
/// the name, the hook and its number come from this one table.
pub(super) struct Hook {
    program: &'static str,
    /// The variant of the program that can refuse connections: for kernels that have `bpf_set_retval`.
    refusing: Option<&'static str>,
    name: &'static str,
    /// `enum bpf_attach_type` of linux/bpf.h.
    attach_type: u32,
}

/// The hooks of connect(), for both families.
const CONNECT: [u32; 2] = [10, 11];

/// In the order of attaching: first those that record connections and answer getpeername(), then those that divert.
static HOOKS: [Hook; 5] = [
    Hook { program: "weir_connecting", refusing: None, name: "sockops", attach_type: 3 },
    Hook { program: "weir_peername4", refusing: None, name: "cgroup/getpeername4", attach_type: 29 },
    Hook { program: "weir_peername6", refusing: None, name: "cgroup/getpeername6", attach_type: 30 },
    Hook {
        program: "weir_connect4",
        refusing: Some("weir_refuse4"),
        name: "cgroup/connect4",
        attach_type: 10,
    },
    Hook {
        program: "weir_connect6",
        refusing: Some("weir_refuse6"),
        name: "cgroup/connect6",
        attach_type: 11,
    },
];

/// As [`HOOKS`], with weir's sockets in the pods.
static HOOKS_IN_PODS: [Hook; 6] = [
    Hook { program: "weir_podpeer4", refusing: None, name: "cgroup/getpeername4", attach_type: 29 },
    Hook { program: "weir_podpeer6", refusing: None, name: "cgroup/getpeername6", attach_type: 30 },
    Hook { program: "weir_podsock4", refusing: None, name: "cgroup/getsockname4", attach_type: 31 },
    Hook { program: "weir_podsock6", refusing: None, name: "cgroup/getsockname6", attach_type: 32 },
    Hook {
        program: "weir_pod4",
        refusing: Some("weir_podrefuse4"),
        name: "cgroup/connect4",
        attach_type: 10,
    },
    Hook {
        program: "weir_pod6",
        refusing: Some("weir_podrefuse6"),
        name: "cgroup/connect6",
        attach_type: 11,
    },
];

/// The hooks of weir's sockets in the pods, or on the node.
pub(super) fn hooks(in_pods: bool) -> &'static [Hook] {
    if in_pods { &HOOKS_IN_PODS } else { &HOOKS }
}

/// The attached programs. Dropping it detaches them, the diverting ones first.
#[derive(Debug)]
pub(super) struct Links {
    attached: Vec<Attached>,
    /// Whether the diverting ones are detached for good.
    pub(super) is_handed_over: bool,
}

#[derive(Debug)]
struct Attached {
    attach_type: u32,
    program: u32,
    _link: Link,
}

/// Only held: dropping it detaches.
#[derive(Debug)]
#[expect(dead_code, reason = "a link does its work by being there")]
enum Link {
    Address(CgroupSockAddrLink),
    Operations(SockOpsLink),
}

/// What happens to a connection that weir cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing: it goes direct ([`Fail::Open`]).
    None,
    /// connect() fails with ECONNREFUSED.
    ConnectionRefused,
    /// connect() fails with EPERM: before Linux 5.18 a program can refuse, but not choose the error.
    NotPermitted,
}

/// Loads the programs through the kernel's verifier, for each hook the variant that the kernel and the setting require.
/// Returns what they do with a connection that weir cannot take.
pub(super) fn load(ebpf: &mut Ebpf, hooks: &'static [Hook], fail: Fail) -> Result<Refusal, InterceptError> {
    let mut refusal = match fail {
        Fail::Open => Refusal::None,
        Fail::Closed => Refusal::ConnectionRefused,
    };
    for hook in hooks {
        if let (Some(name), Refusal::ConnectionRefused) = (hook.refusing, refusal) {
            match verify(ebpf, name) {
                Ok(()) => continue,
                Err(Unloaded::Refused(ProgramError::LoadError { verifier_log, .. }))
                    if verifier::lacks_helper(&verifier_log.to_string()) =>
                {
                    refusal = Refusal::NotPermitted;
                }
                Err(other) => return Err(other.explained(name)),
            }
        }
        verify(ebpf, hook.program).map_err(|why| why.explained(hook.program))?;
    }
    Ok(refusal)
}

impl Hook {
    /// The program that [`load`] loaded for it.
    fn loaded(&self, refusal: Refusal) -> &'static str {
        match refusal {
            Refusal::ConnectionRefused => self.refusing.unwrap_or(self.program),
            Refusal::None | Refusal::NotPermitted => self.program,
        }
    }
}

/// Why a program is not loaded.
enum Unloaded {
    Missing,
    Refused(ProgramError),
}

impl Unloaded {
    fn explained(self, name: &'static str) -> InterceptError {
        match self {
            Self::Missing => foreign(name),
            Self::Refused(error) => InterceptError::program(name, error),
        }
    }
}

fn verify(ebpf: &mut Ebpf, name: &str) -> Result<(), Unloaded> {
    match ebpf.program_mut(name) {
        Some(Program::CgroupSockAddr(program)) => program.load(),
        Some(Program::SockOps(program)) => program.load(),
        _ => return Err(Unloaded::Missing),
    }
    .map_err(Unloaded::Refused)
}

impl Links {
    /// No links yet.
    pub(super) fn none() -> Self {
        Self { attached: Vec::new(), is_handed_over: false }
    }

    /// Attaches the loaded programs to the cgroup, beside existing ones: an exclusive program further up that allows
    /// override would silently be displaced.
    pub(super) fn attach(
        ebpf: &mut Ebpf,
        hooks: &'static [Hook],
        refusal: Refusal,
        cgroup: &Cgroup,
    ) -> Result<Self, InterceptError> {
        let mut links = Self::none();
        for hook in hooks {
            let before = programs_at(hook, cgroup);
            let name = hook.loaded(refusal);
            let (program, link) = match ebpf.program_mut(name) {
                Some(Program::CgroupSockAddr(program)) => (program.info(), address(program, cgroup)),
                Some(Program::SockOps(program)) => (program.info(), operations(program, cgroup)),
                _ => return Err(foreign(name)),
            };
            let link = link.map_err(|error| InterceptError::attach(cgroup.path(), hook.name, error))?;
            let program = program.map_err(|error| InterceptError::program(name, error))?.id();
            links.attached.push(Attached { attach_type: hook.attach_type, program, _link: link });
            // Compare the number of programs: the owner of a link may replace its program at any time.
            if before.is_some_and(|before| programs_at(hook, cgroup).is_some_and(|now| now <= before)) {
                return Err(InterceptError::Displaced { path: cgroup.path().to_owned(), hook: hook.name });
            }
        }
        Ok(links)
    }

    /// Detaches the programs that divert or refuse. The others serve open connections.
    fn hand_over(&mut self) {
        self.is_handed_over = true;
        self.attached.retain(|it| !CONNECT.contains(&it.attach_type));
    }

    /// Whether every program is effective on the cgroup, and the cgroup is still the one at its path. A link whose
    /// cgroup was removed looks healthy and does nothing.
    pub(super) fn in_effect(&self, cgroup: &Cgroup) -> bool {
        let runs = |attached: &Attached| {
            sys::effective_programs(cgroup.as_fd(), attached.attach_type)
                .is_ok_and(|programs| programs.contains(&attached.program))
        };
        !self.attached.is_empty() && cgroup.is_there() && self.attached.iter().all(runs)
    }
}

/// How many programs run at this hook for the cgroup's sockets; `None` if the kernel does not report it.
fn programs_at(hook: &Hook, cgroup: &Cgroup) -> Option<usize> {
    sys::effective_programs(cgroup.as_fd(), hook.attach_type).ok().map(|ids| ids.len())
}

impl Interception {
    /// Leaves each new connection to another weir's programs on the same cgroup, for good. The kernel asks the programs of both, and
    /// one that refuses is enough. What this weir has diverted stays with it.
    pub fn hand_over(&mut self) {
        self.links.hand_over();
        self.disarm();
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        while self.attached.pop().is_some() {}
    }
}

// `Single` through a link means that others may attach as well; `AllowMultiple` is refused with EINVAL,
// because aya passes it as a link's flags.
const MODE: CgroupAttachMode = CgroupAttachMode::Single;

fn address(program: &mut CgroupSockAddr, cgroup: &Cgroup) -> Result<Link, ProgramError> {
    let id = program.attach(cgroup.as_fd(), MODE)?;
    program.take_link(id).map(Link::Address)
}

fn operations(program: &mut SockOps, cgroup: &Cgroup) -> Result<Link, ProgramError> {
    let id = program.attach(cgroup.as_fd(), MODE)?;
    program.take_link(id).map(Link::Operations)
}

fn foreign(name: &str) -> InterceptError {
    InterceptError::Object { path: None, cause: format!("it has no program {name}") }
}
