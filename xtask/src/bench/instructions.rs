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
use super::target::{self, Connection, Weir, Who};
use crate::os::cpu::{self, Cores};
use crate::os::interrupt;
use crate::process::Running;

/// What a bare hyper proxy was measured to need, and how far above it weir may be.
const BARE_HYPER: f64 = 22_829.0;
const ALLOWED: f64 = 1.35;

const CONNECTIONS: usize = 16;

#[derive(Serialize)]
pub(crate) struct Count {
    requests: u64,
    instructions_of_n: u64,
    instructions_of_2n: u64,
    per_request: f64,
    over_bare_hyper: f64,
}

pub(crate) fn count(weir: &Path, quick: bool) -> Result<Count> {
    let requests = if quick { 2_000 } else { 10_000 };
    let cores = Cores::choose()?;
    cpu::pin_thread(cores.load)?;
    let backends = Backends::start(cores.load)?;
    let (first, answered) = one(weir, cores, &backends, requests)?;
    let (second, answered_twice) = one(weir, cores, &backends, 2 * requests)?;
    let more = second.checked_sub(first).context("2N requests took fewer instructions than N")?;
    let per_request = more as f64 / (answered_twice - answered) as f64;
    Ok(Count {
        requests,
        instructions_of_n: first,
        instructions_of_2n: second,
        per_request,
        over_bare_hyper: per_request / BARE_HYPER,
    })
}

/// Instructions of one whole life of weir, and the requests it answered.
fn one(weir: &Path, cores: Cores, backends: &Backends, requests: u64) -> Result<(u64, u64)> {
    interrupt::check()?;
    println!("    {requests} requests");
    let folder = target::scratch("instructions")?;
    let listen = target::free_address()?;
    let setting = Weir { listen, workers: 1, ..Weir::before(&backends.addresses) };
    let config = setting.write(&folder)?;
    let out = folder.join("callgrind.out");
    let log = fs::File::create(folder.join("weir.log"))?;
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(weir)
        .arg("run")
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut process = Running::start("weir under callgrind", cpu::pinned(&mut command, cores.proxy))?;
    target::wait_for_answer(Who::Weir, listen, || process.check())?;
    let seen = load::run(
        &Plan {
            addresses: &[listen],
            request: &Who::Weir.request(Connection::Keep),
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
            "weir did not end on SIGTERM, so callgrind has no total; its log: {}",
            folder.join("weir.log").display()
        );
    }
    let total = total(&fs::read_to_string(&out)?).context("callgrind wrote no total")?;
    Ok((total, seen.all))
}

fn total(out: &str) -> Option<u64> {
    let line = |key| out.lines().rev().find_map(|line| line.strip_prefix(key));
    line("totals:").or_else(|| line("summary:"))?.split_whitespace().next()?.parse().ok()
}

/// Prints the one figure, and writes it.
pub(crate) fn report(count: &Count, json: &Path) -> Result<()> {
    println!(
        "\n{:.0} user-space instructions per request (weir, {CONNECTIONS} connections)",
        count.per_request
    );
    println!(
        "  {:.2} × the {BARE_HYPER:.0} of a bare hyper proxy; at most {ALLOWED} is wanted",
        count.over_bare_hyper
    );
    println!("  {}", if count.over_bare_hyper <= ALLOWED { "met" } else { "NOT met" });
    super::report::write_json(json, &serde_json::json!({ "instructions": count }))
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
