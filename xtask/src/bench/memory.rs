//! Resident memory: ten seconds after the start, and with 512 keep-alive connections in use.
//!
//! Two workers each; weir with interception on where the machine allows it, since its maps and programs count too.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::backend::Backends;
use super::figures::{Figures, Quantity};
use super::load::{self, Plan, Shape};
use super::target::{self, Connection, Target, Weir, Who};
use crate::os::cgroup::Cgroup;
use crate::os::{cpu, interrupt};
use crate::setup;

const WORKERS: usize = 2;
const CONNECTIONS: usize = 512;

pub(crate) fn measure(
    who: Who,
    weir: &Path,
    backends: &Backends,
    figures: &mut Figures,
    remarks: &mut Vec<String>,
) -> Result<()> {
    let folder = target::scratch("memory")?;
    let listen = target::free_address()?;
    // Removed after the process: locals are dropped in reverse.
    let mut cgroup = None;
    let mut command = match who {
        Who::Weir | Who::Before => {
            let mut setting = Weir { listen, workers: WORKERS, ..Weir::before(&backends.addresses) };
            match setup::interception_possible() {
                Ok(()) => {
                    let made = pods_of_nobody()?;
                    setting.sections = transparent(made.path())?;
                    cgroup = Some(made);
                }
                Err(why) => remarks.push(format!("memory was measured without interception: {why}")),
            }
            target::weir_command(weir, &setting.write(&folder)?, &folder)?
        }
        Who::Haproxy | Who::Direct => target::haproxy_command(listen, &backends.addresses, WORKERS, &folder)?,
    };
    let proxy = Target::proxy(who, &mut command, listen)?;
    let Some(pid) = proxy.pid() else { return Ok(()) };
    println!("    {}: ten seconds of rest", who.name());
    interrupt::sleep(Duration::from_secs(10))?;
    figures.add(Quantity::MemoryIdle, who, megabytes(pid)?);
    let request = who.request(Connection::Keep);
    let plan = Plan {
        addresses: &proxy.addresses,
        request: &request,
        connections: CONNECTIONS,
        shape: Shape::Closed,
        warm_up: Duration::from_millis(500),
        length: Duration::from_secs(2),
        limit: None,
    };
    let mut last = Ok(0.0);
    load::run(&plan, || last = megabytes(pid))?;
    figures.add(Quantity::Memory512, who, last?);
    drop(proxy);
    drop(cgroup);
    Ok(())
}

fn megabytes(pid: u32) -> Result<f64> {
    Ok(cpu::resident(pid)? as f64 / 1e6)
}

/// A cgroup that no process is in: the programs are attached and idle.
pub(super) fn pods_of_nobody() -> Result<Cgroup> {
    let parent = setup::cgroup2().unwrap_or_default();
    Cgroup::create(&parent, &format!("weir-bench-{}", std::process::id()))
}

pub(super) fn transparent(cgroup: &Path) -> Result<String> {
    let port = target::free_address()?.port();
    let cgroup = cgroup.display();
    Ok(format!("transparent:\n  listen: \"[::]:{port}\"\n  ports: 1\n  cgroup: {cgroup}\n  required: true\n"))
}
