//! What the kernel says of the sockets of a process, by `ss` of iproute2.

use std::process::Command;

use crate::net::place::Place;

/// SO_RCVBUF as the kernel counts it of the established TCP connections in `place`: those of process `pid`, and those of others.
///
/// # Panics
///
/// There is no `ss`.
#[track_caller]
pub fn receive_buffers(place: impl Into<Place>, pid: u32) -> (Vec<u64>, Vec<u64>) {
    buffers(place.into(), pid, ",rb")
}

/// The same of SO_SNDBUF.
///
/// # Panics
///
/// There is no `ss`.
#[track_caller]
pub fn send_buffers(place: impl Into<Place>, pid: u32) -> (Vec<u64>, Vec<u64>) {
    buffers(place.into(), pid, ",tb")
}

#[track_caller]
fn buffers(place: Place, pid: u32, field: &str) -> (Vec<u64>, Vec<u64>) {
    let mut ss: Command = place.command("ss");
    let said = ss.args(["-tmnpOH", "state", "established"]).output().expect("iproute2's `ss`");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let (own, others): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|line| line.contains(&format!("pid={pid},")));
    let buffers = |lines: Vec<&str>| lines.into_iter().filter_map(|line| buffer(line, field)).collect();
    (buffers(own), buffers(others))
}

/// `skmem:(r0,rb131072,t0,tb87040,...)`
fn buffer(line: &str, field: &str) -> Option<u64> {
    line.split_once(field)?.1.split_once(',')?.0.parse().ok()
}
