//! Which program goes to which hook, and in which order.

use std::os::fd::AsFd;

use aya::Ebpf;
use aya::programs::cgroup_sock_addr::CgroupSockAddrLink;
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Program, SockOps};

use super::cgroup::Cgroup;
use super::error::InterceptError;
use super::sys;

/// A program and its hook. The kernel checks only a program's type, and would accept the program for one
/// family on the hook of the other: the name, the hook and its number come from this one table.
struct Hook {
    program: &'static str,
    name: &'static str,
    /// `enum bpf_attach_type` of linux/bpf.h.
    attach_type: u32,
}

/// In the order of attaching: what files and what answers comes before what diverts.
const HOOKS: [Hook; 5] = [
    Hook { program: "weir_connecting", name: "sockops", attach_type: 3 },
    Hook { program: "weir_peername4", name: "cgroup/getpeername4", attach_type: 29 },
    Hook { program: "weir_peername6", name: "cgroup/getpeername6", attach_type: 30 },
    Hook { program: "weir_connect4", name: "cgroup/connect4", attach_type: 10 },
    Hook { program: "weir_connect6", name: "cgroup/connect6", attach_type: 11 },
];

/// The attached programs. Dropping it detaches them, what diverts first.
#[derive(Debug)]
pub(super) struct Links {
    attached: Vec<Attached>,
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

/// Hands all programs to the kernel's verifier.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), InterceptError> {
    for hook in &HOOKS {
        match program(ebpf, hook)? {
            Program::CgroupSockAddr(program) => program.load(),
            Program::SockOps(program) => program.load(),
            _ => return Err(foreign(hook)),
        }
        .map_err(|error| InterceptError::program(hook.program, error))?;
    }
    Ok(())
}

impl Links {
    /// None yet.
    pub(super) fn none() -> Self {
        Self { attached: Vec::new() }
    }

    /// Attaches the loaded programs to the cgroup, beside whatever runs there: a program further up that allows others to
    /// take its place would give way without a word.
    pub(super) fn attach(ebpf: &mut Ebpf, cgroup: &Cgroup) -> Result<Self, InterceptError> {
        let mut links = Self::none();
        for hook in &HOOKS {
            let before = programs_at(hook, cgroup);
            let (program, link) = match program(ebpf, hook)? {
                Program::CgroupSockAddr(program) => (program.info(), address(program, cgroup)),
                Program::SockOps(program) => (program.info(), operations(program, cgroup)),
                _ => return Err(foreign(hook)),
            };
            let link = link.map_err(|error| InterceptError::attach(cgroup.path(), hook.name, error))?;
            let program = program.map_err(|error| InterceptError::program(hook.program, error))?.id();
            links.attached.push(Attached { attach_type: hook.attach_type, program, _link: link });
            // By number, for its owner may put another program in a link's place at any moment.
            if before.is_some_and(|before| programs_at(hook, cgroup).is_some_and(|now| now <= before)) {
                return Err(InterceptError::Displaced { path: cgroup.path().to_owned(), hook: hook.name });
            }
        }
        Ok(links)
    }

    /// Whether every program is in effect on the cgroup, and the cgroup is still the one at its path. A link
    /// whose cgroup was removed looks healthy and does nothing.
    pub(super) fn in_effect(&self, cgroup: &Cgroup) -> bool {
        let runs = |attached: &Attached| {
            sys::effective_programs(cgroup.as_fd(), attached.attach_type)
                .is_ok_and(|programs| programs.contains(&attached.program))
        };
        !self.attached.is_empty() && cgroup.is_there() && self.attached.iter().all(runs)
    }
}

/// How many programs run at this hook for the cgroup's sockets; `None` where the kernel does not say.
fn programs_at(hook: &Hook, cgroup: &Cgroup) -> Option<usize> {
    sys::effective_programs(cgroup.as_fd(), hook.attach_type).ok().map(|ids| ids.len())
}

impl Drop for Links {
    fn drop(&mut self) {
        while self.attached.pop().is_some() {}
    }
}

// `Single` through a link means that others may attach as well; `AllowMultiple` is refused with EINVAL,
// because aya passes it as a link's flags.
const MODE: CgroupAttachMode = CgroupAttachMode::Single;

fn address(program: &mut CgroupSockAddr, cgroup: &Cgroup) -> Result<Link, aya::programs::ProgramError> {
    let id = program.attach(cgroup.as_fd(), MODE)?;
    program.take_link(id).map(Link::Address)
}

fn operations(program: &mut SockOps, cgroup: &Cgroup) -> Result<Link, aya::programs::ProgramError> {
    let id = program.attach(cgroup.as_fd(), MODE)?;
    program.take_link(id).map(Link::Operations)
}

fn program<'a>(ebpf: &'a mut Ebpf, hook: &Hook) -> Result<&'a mut Program, InterceptError> {
    ebpf.program_mut(hook.program).ok_or_else(|| foreign(hook))
}

fn foreign(hook: &Hook) -> InterceptError {
    InterceptError::Object {
        path: None,
        cause: format!("it has no program {} for {}", hook.program, hook.name),
    }
}
