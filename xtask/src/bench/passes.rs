//! The passes: every target under every shape of load, one after the other, the order rotating from pass to pass.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::backend::Backends;
use super::figures::{Figures, Quantity};
use super::large::{self, As, Way};
use super::load::{self, Plan, Seen, Shape};
use super::target::{Connection, Target, Who};
use crate::os::{cpu, interrupt};

/// Arrivals per second of the fixed-rate load.
pub(crate) const RATE: u32 = 8_000;

/// How long and how often.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) passes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// CPU time of everyone concerned, at one moment.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    proxy: Duration,
    backends: Duration,
    load: Duration,
    machine: Duration,
}

/// One measured window: what the load saw, and who used how much CPU (seconds).
struct Window {
    seen: Seen,
    proxy: f64,
    measuring: f64,
    others: f64,
}

pub(crate) fn run(
    targets: &[Target],
    backends: &Backends,
    effort: Effort,
    figures: &mut Figures,
) -> Result<()> {
    for pass in 0..effort.passes {
        let quiet = cpu::wait_for_quiet(Duration::from_secs(2));
        println!(
            "    pass {} of {}{}",
            pass + 1,
            effort.passes,
            if quiet { "" } else { " (the machine is busy with something else)" }
        );
        for turn in 0..targets.len() {
            let target = &targets[(pass + turn) % targets.len()];
            interrupt::check()?;
            measure(target, backends, effort, figures)?;
        }
    }
    Ok(())
}

fn measure(target: &Target, backends: &Backends, effort: Effort, figures: &mut Figures) -> Result<()> {
    let who = target.who;
    let window = |shape, connections| one(target, backends, effort, shape, connections);
    let is_proxy = who != Who::Direct;

    let at_64 = window(Shape::Closed, 64)?;
    let answers = at_64.seen.answers as f64;
    figures.add(Quantity::Rate64, who, answers / at_64.seen.seconds);
    figures.add(Quantity::P50Closed64, who, at_64.seen.quantile(0.5));
    figures.add(Quantity::P99Closed64, who, at_64.seen.quantile(0.99));
    figures.add(Quantity::LoadCpu64, who, at_64.measuring * 1e6 / answers);
    figures.add(Quantity::LoadCore, who, at_64.measuring * 100.0 / at_64.seen.seconds);
    figures.add(Quantity::Others, who, at_64.others * 100.0 / at_64.seen.seconds);
    if is_proxy {
        figures.add(Quantity::Cpu64, who, at_64.proxy * 1e6 / answers);
        figures.add(Quantity::ProxyCore, who, at_64.proxy * 100.0 / at_64.seen.seconds);
    }

    let at_512 = window(Shape::Closed, 512)?;
    figures.add(Quantity::Rate512, who, at_512.seen.answers as f64 / at_512.seen.seconds);
    figures.add(Quantity::P99Closed512, who, at_512.seen.quantile(0.99));
    if is_proxy {
        figures.add(Quantity::Cpu512, who, at_512.proxy * 1e6 / at_512.seen.answers as f64);
    }

    let fixed = window(Shape::FixedRate(RATE), 64)?;
    figures.add(Quantity::P50Fixed, who, fixed.seen.quantile(0.5));
    figures.add(Quantity::P99Fixed, who, fixed.seen.quantile(0.99));

    let fresh = window(Shape::Fresh, 16)?;
    figures.add(Quantity::RateFresh, who, fresh.seen.answers as f64 / fresh.seen.seconds);
    if is_proxy {
        figures.add(Quantity::CpuFresh, who, fresh.proxy * 1e6 / fresh.seen.answers as f64);
    }
    large_bodies(target, effort, figures)
}

fn large_bodies(target: &Target, effort: Effort, figures: &mut Figures) -> Result<()> {
    let has_tunnel = target.tunnel.is_some() || target.who == Who::Direct;
    for (way, kind, cpu, rate) in [
        (Way::Get, As::Requests, Quantity::CpuGetLarge, Quantity::RateGetLarge),
        (Way::Post, As::Requests, Quantity::CpuPostLarge, Quantity::RatePostLarge),
        (Way::Get, As::Bytes, Quantity::CpuGetTunnel, Quantity::RateGetTunnel),
        (Way::Post, As::Bytes, Quantity::CpuPostTunnel, Quantity::RatePostTunnel),
    ] {
        if kind == As::Bytes && !has_tunnel {
            continue;
        }
        let seen = large::run(target, way, kind, effort.warm_up, effort.window)?;
        figures.add(rate, target.who, seen.bodies / seen.seconds);
        if target.who != Who::Direct {
            figures.add(cpu, target.who, seen.proxy.as_secs_f64() * 1e6 / seen.bodies);
        }
    }
    Ok(())
}

fn one(
    target: &Target,
    backends: &Backends,
    effort: Effort,
    shape: Shape,
    connections: usize,
) -> Result<Window> {
    let close = if shape == Shape::Fresh { Connection::Close } else { Connection::Keep };
    let request = target.who.request(close);
    let plan = Plan {
        addresses: &target.addresses,
        request: &request,
        connections,
        shape,
        warm_up: effort.warm_up,
        length: effort.window,
        limit: None,
    };
    let thread = cpu::thread_id();
    let readings: RefCell<Vec<Reading>> = RefCell::default();
    let seen = load::run(&plan, || {
        readings.borrow_mut().push(Reading {
            at: Instant::now(),
            proxy: target.cpu().unwrap_or_default(),
            backends: backends.cpu(),
            load: cpu::of_thread(thread),
            machine: cpu::of_machine(),
        });
    })?;
    let readings = readings.into_inner();
    let [before, after] = readings.as_slice() else { anyhow::bail!("a window has two edges") };
    let used = |of: fn(&Reading) -> Duration| of(after).saturating_sub(of(before)).as_secs_f64();
    let proxy = used(|reading| reading.proxy);
    let measuring = used(|reading| reading.backends) + used(|reading| reading.load);
    let others = (used(|reading| reading.machine) - proxy - measuring).max(0.0);
    debug_assert!(after.at > before.at);
    Ok(Window { seen, proxy, measuring, others })
}
