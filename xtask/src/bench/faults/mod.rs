//! `cargo xtask bench --faults`: what the fault of one costs all others.
//!
//! Three scenes on a pretend node: a node goes without a word, an endpoint sends interim answers for ever, and weir itself is
//! replaced while a database's connection is open. In each, the same load is measured twice by the same weir: first as a
//! control, then with the fault. What is to be met is a failure of the command where it is not.

mod load;
mod scene;
mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::bench::figures::Spread;
use crate::os::{cpu, interrupt};
use crate::setup;
use crate::steps::Steps;
use load::{End, Load, Request, Sample};
use scene::Scene;

/// Requests a second, all together.
const RATE: u32 = 500;

/// Of a request that met a silent node: the connect to one, which costs a second, is among them.
const AFFECTED: Duration = Duration::from_millis(900);

/// How long one that met a silent node may take.
const SLOWEST: Duration = Duration::from_millis(3500);

/// How long there may be no weir while one is replaced.
const GAP: Duration = Duration::from_secs(2);

/// "As fast as in the control": so much slower may it be, which is what a machine's own noise makes of two equal windows.
const NOISE: (f64, f64) = (2.0, 1.0);

/// The scenes.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Fault {
    /// One of two nodes is cut off without a word
    SilentNode,
    /// An endpoint sends nothing but interim answers (1xx)
    Flood,
    /// weir is replaced while a database's connection is open
    Replacement,
}

/// How long and how often.
#[derive(Clone, Copy)]
struct Effort {
    passes: usize,
    window: Duration,
}

/// What is to be met, and was not.
#[derive(Default)]
struct Verdicts(Vec<String>);

impl Verdicts {
    fn at_most(&mut self, what: &str, value: f64, limit: f64, unit: &str) {
        let verdict = if value <= limit { "met" } else { "NOT met" };
        println!("    {what:<58} {value:>9.2} {unit:<3} at most {limit:>9.2}  {verdict}");
        if value > limit {
            self.0.push(format!("{what}: {value:.2} {unit}, at most {limit:.2}"));
        }
    }

    /// Compares the others' latencies with those of the controls, by the medians of all passes: what somebody else does on the
    /// machine spoils one of them.
    fn as_fast_as_controls(&mut self, passes: &[Windows]) {
        for quantile in [0.5, 0.99, 0.999] {
            let median = |window: fn(&Windows) -> &Vec<Sample>| {
                let values: Vec<f64> = passes.iter().map(|it| load::quantile(window(it), quantile)).collect();
                Spread::of(&values).map_or(0.0, |spread| spread.median)
            };
            let (control, fault) = (median(|it| &it.control), median(|it| &it.fault));
            let what = format!("{} % of the others (control: {control:.2} ms)", quantile * 100.0);
            self.at_most(&what, fault, control * NOISE.0 + NOISE.1, "ms");
        }
    }
}

/// Measures, prints, and fails where something is not met.
pub(crate) fn measure(steps: &mut Steps, weir: &Path, faults: &[Fault], quick: bool) -> Result<()> {
    if let Err(why) = setup::interception_possible() {
        bail!("namespaces are needed for this: {why}");
    }
    let seconds = Duration::from_secs;
    let effort = match quick {
        true => Effort { passes: 1, window: seconds(5) },
        false => Effort { passes: 5, window: seconds(10) },
    };
    let mut verdicts = Verdicts::default();
    for fault in faults {
        match fault {
            Fault::SilentNode => {
                steps.step("a node goes without a word", || silent_node(weir, effort, &mut verdicts))?;
            }
            Fault::Flood => {
                steps.step("an endpoint sends interim answers for ever", || {
                    flood(weir, effort, &mut verdicts)
                })?;
            }
            Fault::Replacement => {
                steps.step("weir is replaced", || replacement(weir, effort, &mut verdicts))?;
            }
        }
    }
    if verdicts.0.is_empty() { Ok(()) } else { bail!("not met: {}", verdicts.0.join("; ")) }
}

/// The two windows of one pass.
struct Windows {
    control: Vec<Sample>,
    fault: Vec<Sample>,
}

impl Windows {
    /// Of loads that have ended: the control, and the fault that came after it.
    fn of(samples: &[Sample], window: Duration, fault: Instant) -> Self {
        let between = |from: Instant, to: Instant| {
            samples.iter().filter(|it| (from..to).contains(&it.due)).cloned().collect()
        };
        Self { control: between(fault - window, fault), fault: between(fault, fault + window) }
    }

    /// How many requests failed.
    fn failures(&self) -> f64 {
        self.control.iter().chain(&self.fault).filter(|it| it.end != End::Ok).count() as f64
    }
}

/// Says so where somebody else uses the machine.
fn wait_for_quiet(pass: usize, effort: Effort) {
    let quiet = cpu::wait_for_quiet(Duration::from_secs(2));
    let busy = if quiet { "" } else { " (the machine is busy with something else)" };
    println!("    pass {} of {}{busy}", pass + 1, effort.passes);
}

/// A service at two nodes, one of which is cut off, and a service at the other one alone.
fn silent_node(weir: &Path, effort: Effort, verdicts: &mut Verdicts) -> Result<()> {
    let (mut passes, mut affected) = (Vec::new(), Vec::new());
    for pass in 0..effort.passes {
        wait_for_quiet(pass, effort);
        let scene = Scene::create()?;
        let endpoints = [scene.serve(scene.a)?, scene.serve(scene.b)?];
        let services = [("hello", &endpoints[..]), ("other", &endpoints[..1])];
        let _weir = scene.start(weir, "silent", &services, "")?;
        let load = |request, share| Load::start(&scene, request, RATE * share / 10);
        let loads =
            [load(Request::get("hello"), 4), load(Request::post("hello"), 1), load(Request::get("other"), 5)];
        interrupt::sleep(Duration::from_secs(2) + effort.window)?;
        let cut = Instant::now();
        scene.node.cut(scene.b)?;
        interrupt::sleep(effort.window + SLOWEST)?;
        let samples: Vec<_> = loads.into_iter().flat_map(Load::stop).collect();
        let mut windows = Windows::of(&samples, effort.window, cut);
        let met = |it: &mut Sample| it.host == "hello" && it.took >= AFFECTED;
        affected.extend(windows.fault.extract_if(.., met));
        passes.push(windows);
    }
    let failed = affected.iter().filter(|it| it.end != End::Ok).count();
    println!("    {} requests met the silent node, {failed} of them failed", affected.len());
    let slowest = load::quantile(&affected, 1.0);
    verdicts.at_most("the slowest of those that met it", slowest, millis(SLOWEST), "ms");
    let strange = affected.iter().filter(|it| !matches!(it.end, End::Ok | End::Status(502))).count();
    verdicts.at_most("failures but 502 of those that met it", strange as f64, 0.0, "");
    verdicts.at_most("failures of the others", passes.iter().map(Windows::failures).sum(), 0.0, "");
    verdicts.as_fast_as_controls(&passes);
    Ok(())
}

/// Sixteen requests at a time to an endpoint that answers with nothing but interim answers.
fn flood(weir: &Path, effort: Effort, verdicts: &mut Verdicts) -> Result<()> {
    let (mut passes, mut flooded) = (Vec::new(), Vec::new());
    for pass in 0..effort.passes {
        wait_for_quiet(pass, effort);
        let scene = Scene::create()?;
        let (quiet, flood) = ([scene.serve(scene.a)?], [scene.flood(scene.b)?]);
        let _weir = scene.start(weir, "flood", &[("hello", &quiet), ("flood", &flood)], "")?;
        let load = Load::start(&scene, Request::get("hello"), RATE);
        interrupt::sleep(Duration::from_secs(2) + effort.window)?;
        let begun = Instant::now();
        let floods = Load::start(&scene, Request::get("flood"), load::THREADS);
        interrupt::sleep(effort.window)?;
        passes.push(Windows::of(&load.stop(), effort.window, begun));
        flooded.extend(floods.stop());
    }
    let by = |end: End| flooded.iter().filter(|it| it.end == end).count();
    let (cut_short, turned_away) = (by(End::Status(502)), by(End::Status(503)));
    println!("    {} flooded requests: {cut_short} were 502, {turned_away} were 503", flooded.len());
    let other = flooded.len() - cut_short - turned_away;
    verdicts.at_most("flooded requests that ended otherwise", other as f64, 0.0, "");
    verdicts.at_most("the slowest flooded request", load::quantile(&flooded, 1.0), 1000.0, "ms");
    verdicts.at_most("failures of the others", passes.iter().map(Windows::failures).sum(), 0.0, "");
    verdicts.as_fast_as_controls(&passes);
    Ok(())
}

/// SIGTERM while a database's connection is open; the next weir starts when this one has ended, as kubelet does it.
fn replacement(weir: &Path, effort: Effort, verdicts: &mut Verdicts) -> Result<()> {
    let (mut all, mut gaps, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for pass in 0..effort.passes {
        wait_for_quiet(pass, effort);
        let scene = Scene::create()?;
        let (endpoints, database) = ([scene.serve(scene.a)?], [scene.echo(scene.b)?]);
        let services = [("hello", &endpoints[..]), ("database", &database[..])];
        let begun = Instant::now();
        let mut first = scene.start(weir, "replaced", &services, "drain: { grace: 4s }\n")?;
        starts.push(begun.elapsed());
        let _tunnel = scene.tunnel("database")?;
        let loads = [Request::get("hello"), Request::get("hello").closing()]
            .map(|it| Load::start(&scene, it.watching(&first), RATE / 2));
        interrupt::sleep(Duration::from_secs(2))?;
        ensure!(first.stop(Duration::from_secs(10))?.is_some(), "weir had to be killed");
        let _next = scene.start(weir, "next", &services, "")?;
        interrupt::sleep(Duration::from_secs(2))?;
        let mut samples = Vec::new();
        for load in loads {
            samples.extend(load.stop());
        }
        // The first of them may have tried a second before, and again now.
        let refused = || samples.iter().filter(|it| it.end == End::Refused).map(|it| it.sent + it.took);
        gaps.push(refused().min().zip(refused().max()).map_or(Duration::ZERO, |(first, last)| last - first));
        all.extend(samples);
    }
    let by = |end: End| all.iter().filter(|it| it.end == end).count();
    let (refused, turned_away) = (by(End::Refused), by(End::TurnedAway));
    let slowest = load::quantile(&all, 1.0);
    println!("    {refused} of {} requests were refused; the slowest took {slowest:.0} ms", all.len());
    verdicts.at_most("requests refused while weir was there", turned_away as f64, 0.0, "");
    let other = all.len() - by(End::Ok) - refused - turned_away;
    verdicts.at_most("requests that failed but by being refused", other as f64, 0.0, "");
    let [gap, start] = [gaps, starts].map(|times| millis(times.into_iter().max().unwrap_or_default()));
    verdicts.at_most("refused for so long at most", gap, millis(GAP), "ms");
    verdicts.at_most("the same beside the slowest start of a first weir", gap, start * NOISE.0 + 100.0, "ms");
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
