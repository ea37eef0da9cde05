//! System calls per request, counted by perf from the first connection to the last answer.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::figures::{Figures, Quantity};
use super::load::{self, Plan, Shape};
use super::target::{Connection, Target};
use crate::process::Running;

const EVENT: &str = "raw_syscalls:sys_enter";

pub(crate) fn count(targets: &[Target], figures: &mut Figures, remarks: &mut Vec<String>) -> Result<()> {
    for target in targets {
        let Some(pid) = target.pid() else { continue };
        match one(target, pid) {
            Ok(calls) => figures.add(Quantity::Syscalls, target.who, calls),
            Err(error) => {
                remarks.push(format!("system calls of {} were not counted: {error:#}", target.who.name()))
            }
        }
    }
    Ok(())
}

fn one(target: &Target, pid: u32) -> Result<f64> {
    let mut command = Command::new("perf");
    command
        .args(["stat", "-x,", "-e", EVENT, "-p", &pid.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut perf = Running::start("perf", &mut command)?;
    // perf says nothing once it counts; it needs a few milliseconds.
    std::thread::sleep(Duration::from_millis(500));
    perf.check().context("perf does not count here")?;
    let request = target.who.request(Connection::Keep);
    let seen = load::run(
        &Plan {
            addresses: &target.addresses,
            request: &request,
            connections: 64,
            shape: Shape::Closed,
            warm_up: Duration::ZERO,
            length: Duration::from_secs(2),
            limit: None,
        },
        || (),
    )?;
    perf.signal(nix::sys::signal::Signal::SIGINT);
    let mut printed = String::new();
    let mut pipe = perf.child().stderr.take().context("perf's output is piped")?;
    std::io::Read::read_to_string(&mut pipe, &mut printed)?;
    let calls = parse(&printed).with_context(|| format!("perf printed: {}", printed.trim()))?;
    Ok(calls / seen.all as f64)
}

fn parse(printed: &str) -> Option<f64> {
    printed.lines().find(|line| line.contains(EVENT))?.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_what_perf_prints() {
        assert_eq!(parse("1234,,raw_syscalls:sys_enter,100,100.00,,\n"), Some(1234.0));
        assert_eq!(parse("<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n"), None);
        assert_eq!(parse("Error: no permission\n"), None);
    }
}
