//! User-space instructions per request, by callgrind.
//!
//! Two runs of the same binary with N and 2N requests; the difference over N cancels start, connecting and stopping.
//! Instructions do not drift with the machine, so this is the figure to compare between commits.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::backend::Backends;
use super::load::{self, Plan, Shape};
use super::target::{self, Connection, Who};
use crate::launch::Weir;
use crate::os::cpu::{self, Cores};
use crate::os::interrupt;
use crate::process::Running;

/// What weir may need.
const ALLOWED: f64 = 31_000.0;

const CONNECTIONS: usize = 16;

#[derive(Serialize)]
pub(crate) struct Count {
    requests: u64,
    instructions_of_n: u64,
    instructions_of_2n: u64,
    per_request: f64,
}

/// Counts for weir, or for the bare hyper proxy.
pub(crate) fn count(who: Who, binary: &Path, quick: bool) -> Result<Count> {
    let requests = if quick { 2_000 } else { 10_000 };
    let cores = Cores::choose()?;
    cpu::pin_thread(cores.load)?;
    let backends = Backends::start(cores.load)?;
    let (first, answered) = one(who, binary, cores, &backends, requests)?;
    let (second, answered_twice) = one(who, binary, cores, &backends, 2 * requests)?;
    let more = second.checked_sub(first).context("2N requests took fewer instructions than N")?;
    let per_request = more as f64 / (answered_twice - answered) as f64;
    Ok(Count { requests, instructions_of_n: first, instructions_of_2n: second, per_request })
}

/// Instructions of one whole life of a proxy, and the requests it answered.
fn one(who: Who, binary: &Path, cores: Cores, backends: &Backends, requests: u64) -> Result<(u64, u64)> {
    interrupt::check()?;
    println!("    {}: {requests} requests", who.name());
    let folder = target::scratch("instructions")?;
    let listen = target::free_address()?;
    let out = folder.join("callgrind.out");
    let log = fs::File::create(folder.join("log"))?;
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display())).arg(binary);
    if who == Who::Hyper {
        command.args(target::hyper_arguments(&[(listen, &backends.addresses)]));
    } else {
        let setting = Weir { listen, workers: Some(1), ..Weir::before(&backends.addresses) };
        command.arg("run").arg("--config").arg(setting.write(&folder)?);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut process = Running::start("callgrind", cpu::pinned(&mut command, cores.proxy))?;
    target::wait_for_answer(&mut process, who, listen)?;
    let seen = load::run(
        &Plan {
            addresses: &[listen],
            request: &who.request(Connection::Keep),
            connections: CONNECTIONS,
            shape: Shape::Closed,
            warm_up: Duration::ZERO,
            length: Duration::from_secs(300),
            limit: Some(requests),
        },
        || (),
    )?;
    if seen.all < requests {
        bail!("only {} of {requests} requests were answered in time", seen.all);
    }
    if process.stop(Duration::from_secs(60))?.is_none() {
        bail!(
            "{} did not end on SIGTERM, so callgrind has no total; its log: {}",
            who.name(),
            folder.join("log").display()
        );
    }
    let total = total(&fs::read_to_string(&out)?).context("callgrind wrote no total")?;
    Ok((total, seen.all))
}

fn total(out: &str) -> Option<u64> {
    let line = |key| out.lines().rev().find_map(|line| line.strip_prefix(key));
    line("totals:").or_else(|| line("summary:"))?.split_whitespace().next()?.parse().ok()
}

/// Prints the figures, and writes them.
pub(crate) fn report(counts: &[(Who, Count)], json: &Path) -> Result<()> {
    println!("\nuser-space instructions per request, {CONNECTIONS} connections:");
    let mut object = serde_json::Map::new();
    for (who, count) in counts {
        print!("  {:<8}{:>8.0}", who.name(), count.per_request);
        if *who == Who::Weir {
            let verdict = if count.per_request <= ALLOWED { "met" } else { "NOT met" };
            print!("   at most {ALLOWED:.0}: {verdict}");
        }
        println!();
        object.insert(who.name().to_owned(), serde_json::to_value(count)?);
    }
    super::report::write_json(json, &serde_json::json!({ "instructions": object }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_callgrinds_file() {
        assert_eq!(total("events: Ir\nfn=(1)\n5 10\ntotals: 123456\n"), Some(123_456));
        assert_eq!(total("summary: 99\nevents: Ir\n"), Some(99));
        assert_eq!(total("events: Ir\n"), None);
    }
}
