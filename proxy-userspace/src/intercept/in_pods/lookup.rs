//! The program that steers connections to a pod's listener, loaded once for each pod.
//!
//! The library that loads the other programs loads whole objects, with all their maps. Here one program is taken from the
//! object, bound to the maps that are there already, and kept as instructions. For a pod its cookie is written in place
//! of the constant in them, and the program is loaded (BPF_PROG_LOAD) and attached to the network namespace
//! (BPF_LINK_CREATE).
#![allow(unsafe_code, reason = "attributes of a system call are unions")]

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_insn, bpf_prog_type};
use proxy_ebpf::pods::{COOKIE, LOOKUP};

use super::super::error::InterceptError;
use super::super::sys;

/// `BPF_LD | BPF_IMM | BPF_DW`: loads a constant of eight bytes, half of which is in the next instruction.
const LOAD_CONSTANT: u8 = 0x18;

/// How much the verifier may say.
const LOG: usize = 64 * 1024;

/// The program's instructions, bound to the maps.
#[derive(Debug)]
pub(super) struct Lookup {
    instructions: Vec<bpf_insn>,
    /// The instructions that load the cookie.
    cookies: Vec<usize>,
    license: CString,
    /// Held, because the instructions have their numbers.
    _maps: Vec<OwnedFd>,
}

impl Lookup {
    /// The program of this object, with its maps by name. The error says what is wrong with the object.
    pub(super) fn new(object: &[u8], maps: Vec<(&str, OwnedFd)>) -> Result<Self, String> {
        let mut object = aya_obj::Object::parse(object).map_err(|error| error.to_string())?;
        let program = object.programs.get(LOOKUP).ok_or_else(|| format!("it has no program {LOOKUP}"))?;
        let (key, license) = (program.function_key(), program.license.clone());
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        object.functions.retain(|at, _| *at == key);
        let declared = std::mem::take(&mut object.maps);
        let bound = maps.iter().filter_map(|(name, fd)| Some((*name, fd.as_raw_fd(), declared.get(*name)?)));
        object.relocate_maps(bound, &sections).map_err(|error| format!("{LOOKUP}: {error:?}"))?;
        let function = object.functions.remove(&key);
        let instructions = function.ok_or_else(|| format!("{LOOKUP} has no instructions"))?.instructions;
        let cookies: Vec<usize> = (0..instructions.len().saturating_sub(1))
            .filter(|&at| constant(&instructions, at) == Some(COOKIE))
            .collect();
        if cookies.is_empty() {
            return Err(format!("{LOOKUP} has no place for a cookie"));
        }
        let maps = maps.into_iter().map(|(_, fd)| fd).collect();
        Ok(Self { instructions, cookies, license, _maps: maps })
    }

    /// Loads the program for the pod with this cookie and attaches it to its network namespace. It is detached when the
    /// returned descriptor is closed, or the namespace ends.
    pub(super) fn link(&self, cookie: u64, netns: BorrowedFd<'_>) -> Result<OwnedFd, InterceptError> {
        let program = self.load(cookie)?;
        let mut attr = sys::attributes();
        attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
        attr.link_create.__bindgen_anon_2.target_fd = netns.as_raw_fd().cast_unsigned();
        attr.link_create.attach_type = bpf_attach_type::BPF_SK_LOOKUP as u32;
        let link = sys::bpf_descriptor(bpf_cmd::BPF_LINK_CREATE, &mut attr);
        link.map_err(InterceptError::kernel("BPF_LINK_CREATE (sk_lookup)"))
    }

    fn load(&self, cookie: u64) -> Result<OwnedFd, InterceptError> {
        let mut instructions = self.instructions.clone();
        for &at in &self.cookies {
            // The halves as the instructions have them.
            instructions[at].imm = (cookie as u32).cast_signed();
            instructions[at + 1].imm = ((cookie >> 32) as u32).cast_signed();
        }
        self.load_as(&instructions, &mut []).or_else(|cause| {
            // Again, to be told why.
            let mut log = vec![0_u8; LOG];
            self.load_as(&instructions, &mut log).map_err(|_| {
                let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
                let verifier = String::from_utf8_lossy(said).into_owned();
                InterceptError::Program { name: LOOKUP, cause, verifier }
            })
        })
    }

    fn load_as(&self, instructions: &[bpf_insn], log: &mut [u8]) -> io::Result<OwnedFd> {
        let mut attr = sys::attributes();
        // SAFETY: a struct of the union, all of whose patterns of bits are values.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_SK_LOOKUP as u32;
        load.expected_attach_type = bpf_attach_type::BPF_SK_LOOKUP as u32;
        load.insns = instructions.as_ptr() as u64;
        load.insn_cnt = instructions.len() as u32;
        load.license = self.license.as_ptr() as u64;
        for (to, from) in load.prog_name.iter_mut().zip(LOOKUP.bytes()) {
            *to = from.cast_signed();
        }
        if !log.is_empty() {
            load.log_level = 1;
            load.log_size = log.len() as u32;
            load.log_buf = log.as_mut_ptr() as u64;
        }
        sys::bpf_descriptor(bpf_cmd::BPF_PROG_LOAD, &mut attr)
    }
}

/// The constant of eight bytes that the instruction loads; `None` if it is another instruction, or loads a map.
fn constant(instructions: &[bpf_insn], at: usize) -> Option<u64> {
    let (low, high) = (instructions.get(at)?, instructions.get(at + 1)?);
    let is_plain = low.code == LOAD_CONSTANT && low.src_reg() == 0;
    let value = u64::from(low.imm.cast_unsigned()) | u64::from(high.imm.cast_unsigned()) << 32;
    is_plain.then_some(value)
}
