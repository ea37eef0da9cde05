//! `cargo xtask bench --interception`: what diversion costs a pod and its node, with weir's sockets in the pods and on the node.
//!
//! A pod connects in turns to an endpoint directly, to a Service's address that the node translates to that endpoint (DNAT, as
//! kube-proxy does by nftables), and to one that weir takes over; without and with a first round trip, as HTTP, of which weir
//! keeps connections to the endpoint, and as bytes, of which each is a connection of its own. What the programs cost a
//! connection that is not diverted is told by the kernel's own statistics. Each figure of the goals has a limit; one that is
//! missed is a failure.

mod dial;
mod programs;
mod scene;

use std::path::Path;

use anyhow::{Result, bail};

pub(crate) use self::dial::{Dials, dials};
use self::scene::{Scene, Sockets};
use super::figures::Spread;
use crate::os::cpu::Cores;
use crate::os::interrupt;
use crate::setup;

/// How many pods a node may have, by Kubernetes' own limit.
const PODS: usize = 110;

/// The addresses that the pod dials.
const NAMES: [&str; 4] = ["the endpoint itself", "ClusterIP by DNAT", "diverted, HTTP", "diverted, bytes"];
const DNAT: usize = 1;
const HTTP: usize = 2;
const BYTES: usize = 3;

/// Prints figures beside their limits, and keeps those that were missed.
#[derive(Default)]
struct Verdicts(Vec<String>);

impl Verdicts {
    fn check(&mut self, what: &str, value: f64, limit: f64, unit: &str) {
        let verdict = if value <= limit { "met" } else { "NOT met" };
        println!("    {what:<58} {value:>8.2} {unit:<4} at most {limit:>6.1}  {verdict}");
        if value > limit {
            self.0.push(format!("{what}: {value:.2} {unit}"));
        }
    }
}

/// Measures, prints, and fails when a limit is missed.
pub(crate) fn measure(weir: &Path, quick: bool) -> Result<()> {
    if let Err(why) = setup::interception_possible() {
        bail!("interception cannot be measured here: {why}");
    }
    setup::ensure(&[setup::IP, setup::NFT])?;
    let cores = Cores::choose()?;
    let mut verdicts = Verdicts::default();
    for sockets in [Sockets::InPods, Sockets::OnNode] {
        println!("    with weir's sockets {}:", sockets.name());
        let scene = Scene::set(weir, cores, sockets, 0)?;
        // On the node it is to be no slower than without weir; in the pods it is quicker, since it never leaves the pod.
        let connect = if sockets == Sockets::InPods { 0.8 } else { 1.0 };
        dialled(&scene, quick, connect, &mut verdicts)?;
        not_diverted(&scene, quick, &mut verdicts)?;
    }
    many(weir, cores, &mut verdicts)?;
    if verdicts.0.is_empty() { Ok(()) } else { bail!("missed: {}", verdicts.0.join("; ")) }
}

/// connect(), which may take `most` times what it takes by DNAT, and connect() with the first round trip, by address.
fn dialled(scene: &Scene, quick: bool, most: f64, verdicts: &mut Verdicts) -> Result<()> {
    let (rounds, count) = if quick { (2, 300) } else { (9, 2_000) };
    let mut all = vec![[Vec::new(), Vec::new()]; NAMES.len()];
    for _ in 0..rounds {
        interrupt::check()?;
        for (medians, added) in scene.dial(count)?.into_iter().zip(&mut all) {
            added.iter_mut().zip(medians).for_each(|(all, median)| all.push(median));
        }
    }
    let median = |values: &[f64]| Spread::of(values).map_or(0.0, |spread| spread.median);
    for (name, [connect, answered]) in NAMES.iter().zip(&all) {
        let (connect, answered) = (median(connect), median(answered));
        println!("    {name:<24} connect {connect:>8.1} µs, with a first answer {answered:>8.1} µs (p50)");
    }
    // Ratios of neighbouring rounds: a machine drifts from one to the next.
    let ratio = |which: usize, what: usize| {
        let pairs = all[which][what].iter().zip(&all[DNAT][what]);
        median(&pairs.map(|(own, dnat)| own / dnat).collect::<Vec<_>>())
    };
    verdicts.check("connect(), diverted over DNAT", ratio(HTTP, 0).max(ratio(BYTES, 0)), most, "");
    verdicts.check("connect and first answer, HTTP, diverted over DNAT", ratio(HTTP, 1), 2.5, "");
    verdicts.check("connect and first answer, bytes, diverted over DNAT", ratio(BYTES, 1), 2.5, "");
    Ok(())
}

/// What the programs cost connections that they leave alone.
fn not_diverted(scene: &Scene, quick: bool, verdicts: &mut Verdicts) -> Result<()> {
    let statistics = programs::Statistics::on()?;
    let before = programs::of(scene.pid())?;
    scene.dial_directly(if quick { 2_000 } else { 20_000 })?;
    let after = programs::of(scene.pid())?;
    drop(statistics);
    for (kind, nanos, runs) in programs::between(&before, &after) {
        let what = format!("{kind}, a connection that is not diverted ({runs} runs)");
        verdicts.check(&what, nanos, 300.0, "ns");
    }
    Ok(())
}

/// What a full node costs, over one with one pod.
fn many(weir: &Path, cores: Cores, verdicts: &mut Verdicts) -> Result<()> {
    let figures = |more: usize| -> Result<scene::Cost> {
        let scene = Scene::set(weir, cores, Sockets::InPods, more)?;
        interrupt::sleep(std::time::Duration::from_secs(3))?;
        scene.cost()
    };
    let (few, full) = (figures(0)?, figures(PODS)?);
    println!("    {PODS} pods more, with weir's sockets in them:");
    let megabytes = |full: u64, few: u64| full.saturating_sub(few) as f64 / 1e6;
    match (few.kernel, full.kernel) {
        (Some(few), Some(full)) => {
            verdicts.check("the kernel's memory for weir", megabytes(full, few), 3.0, "MB");
        }
        _ => println!("    no memory controller here: the kernel's memory was not measured"),
    }
    verdicts.check("weir's own memory", megabytes(full.own, few.own), 4.0, "MB");
    let millis = full.cpu.saturating_sub(few.cpu).as_secs_f64() * 1e3;
    verdicts.check("CPU until it listens in all of them", millis, 300.0, "ms");
    Ok(())
}
