//! `cargo xtask bench`: weir beside HAProxy, beside a bare hyper proxy and beside no proxy, in one run.
//!
//! Virtual machines drift by 20 % and more within seconds. So nothing here is compared with yesterday's figures: the
//! targets take turns within each pass, ratios are taken pass by pass, and half of the passes lie within the spread that is
//! printed with the median. Passes are many and short rather than few and long: a ratio of two neighbouring windows
//! was seen to range from 0.6 to 1.8 whatever their length, so only their number makes its median firm. What must be
//! comparable between days is counted in instructions (`--instructions`), which do not drift.

mod backend;
mod divert;
mod faults;
mod figures;
mod http2;
mod instructions;
mod interception;
mod large;
mod load;
mod memory;
mod passes;
mod report;
mod scale;
mod start;
mod syscalls;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::launch::{self, Weir};
use crate::os::cpu::{self, Cores};
use crate::os::{descriptors, interrupt};
use crate::process::{cargo, run, target as target_folder};
use crate::setup::{self, HAPROXY, IP, PERF, VALGRIND};
use crate::steps::Steps;
use backend::Backends;
pub(crate) use divert::{Connects, connects};
use faults::Fault;
use figures::Figures;
pub(crate) use interception::{Dials, dials};
use memory::Memory;
use passes::Effort;
use target::{Haproxy, Target, Who};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Two short passes: to see that it works, not to compare
    #[arg(long)]
    quick: bool,
    /// Only count user-space instructions per request with callgrind
    #[arg(long)]
    instructions: bool,
    /// Only measure HTTP/2 on both sides, beside Envoy (from PyPI) and a bare proxy on the h2 crate
    #[arg(long)]
    http2: bool,
    /// Only measure memory and changes with 10,000 services
    #[arg(long)]
    scale: bool,
    /// Only measure what diversion costs a pod and its node, beside a Service's address that the node translates
    #[arg(long)]
    interception: bool,
    /// Only measure what a silent node, a flood of interim answers and weir's own replacement cost others, each beside a
    /// control in the same run
    #[arg(
        long,
        value_name = "FAULT",
        value_delimiter = ',',
        num_args = 0..=1,
        default_missing_values = ["silent-node", "flood", "replacement"]
    )]
    faults: Vec<Fault>,
    /// Where to write the figures (default: target/bench/bench.json or target/bench/instructions.json)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure only these
    #[arg(long, value_delimiter = ',', default_value = "weir,haproxy,hyper,direct")]
    only: Vec<String>,
    /// A weir to measure instead of building one
    #[arg(long, value_name = "BINARY")]
    weir: Option<PathBuf>,
    /// Another weir that takes its turn, to compare with: what a change made of CPU per request and latency
    #[arg(long, value_name = "BINARY")]
    before: Option<PathBuf>,
}

impl Options {
    fn wants(&self, who: Who) -> bool {
        self.only.iter().any(|name| name == who.name())
    }

    fn effort(&self) -> Effort {
        let millis = Duration::from_millis;
        if self.quick {
            Effort { passes: 2, warm_up: millis(200), window: millis(400) }
        } else {
            Effort { passes: 30, warm_up: millis(60), window: millis(200) }
        }
    }

    fn json(&self, name: &str) -> PathBuf {
        self.json.clone().unwrap_or_else(|| target_folder().join("bench").join(name))
    }
}

pub(crate) fn run_bench(options: &Options) -> Result<()> {
    if let Some(unknown) = options.only.iter().find(|name| Who::USUAL.iter().all(|who| who.name() != **name))
    {
        bail!("--only knows weir, haproxy, hyper and direct, not `{unknown}`");
    }
    interrupt::catch();
    let mut steps = Steps::default();
    descriptors::raise()?;
    let binaries = build(&mut steps, options)?;
    if options.instructions {
        setup::ensure(&[VALGRIND])?;
        let counts = steps.step("count instructions", || {
            let both = [(Who::Weir, &binaries.weir), (Who::Hyper, &binaries.hyper)];
            let wanted = both.into_iter().filter(|(who, _)| options.wants(*who));
            wanted.map(|(who, it)| Ok((who, instructions::count(who, it, options.quick)?))).collect()
        })?;
        let counts: Vec<_> = counts;
        return instructions::report(&counts, &options.json("instructions.json"));
    }
    if options.scale {
        return steps.step("scale", || scale::measure(&binaries.weir));
    }
    if options.interception {
        return steps.step("interception", || interception::measure(&binaries.weir, options.quick));
    }
    if !options.faults.is_empty() {
        setup::ensure(&[IP])?;
        return faults::measure(&mut steps, &binaries.weir, &options.faults, options.quick);
    }
    if options.http2 {
        let Effort { passes, warm_up, window } = options.effort();
        let effort = Effort { passes: passes.min(12), warm_up: 2 * warm_up, window: 2 * window };
        return http2::measure(&mut steps, &binaries.weir, &binaries.http2, effort);
    }
    let cores = Cores::choose()?;
    if !cores.are_apart() {
        println!("    only one core here: the load and the proxy share it, and CPU per request suffers");
    }
    if options.wants(Who::Haproxy) {
        setup::ensure(&[HAPROXY])?;
    }
    // The figures go on without perf; the table says so.
    let perf = setup::ensure(&[PERF]).is_ok();
    let mut bench = Bench { cores, binaries, figures: Figures::default(), remarks: Vec::new() };
    bench.all(&mut steps, options, perf)?;
    report::print(&bench.figures, &bench.remarks, options.json("bench.json"))
}

/// What is run.
struct Binaries {
    weir: PathBuf,
    hyper: PathBuf,
    /// The load and the endpoints of HTTP/2.
    http2: PathBuf,
}

/// Builds, in one go, what is wanted and was not given.
fn build(steps: &mut Steps, options: &Options) -> Result<Binaries> {
    let release = target_folder().join("release");
    let weir = options.weir.clone().unwrap_or_else(|| release.join("weir"));
    let mut arguments = vec!["build", "--release", "--package", "weir"];
    let usual = arguments.len();
    if options.wants(Who::Weir) && options.weir.is_none() {
        arguments.push("--bins");
    }
    if options.http2 {
        arguments.extend(["--example", "http2_bench"]);
    } else if options.wants(Who::Hyper)
        && !options.scale
        && !options.interception
        && options.faults.is_empty()
    {
        arguments.extend(["--example", "bare_hyper"]);
    }
    if arguments.len() > usual {
        steps.step("build (release)", || run(cargo().args(arguments)))?;
    }
    let example = |name: &str| release.join("examples").join(name);
    Ok(Binaries { weir, hyper: example("bare_hyper"), http2: example("http2_bench") })
}

struct Bench {
    cores: Cores,
    binaries: Binaries,
    figures: Figures,
    /// What could not be measured, and why.
    remarks: Vec<String>,
}

impl Bench {
    fn all(&mut self, steps: &mut Steps, options: &Options, perf: bool) -> Result<()> {
        cpu::pin_thread(self.cores.load)?;
        let backends = Backends::start(self.cores.load)?;
        let large = large::Backends::start()?;
        let targets = self.targets(&backends, &large, options)?;
        steps.step("passes", || passes::run(&targets, &backends, options.effort(), &mut self.figures))?;
        if perf {
            steps.step("system calls", || syscalls::count(&targets, &mut self.figures, &mut self.remarks))?;
        } else {
            self.remarks.push("no perf here: system calls were not counted".to_owned());
        }
        drop(targets);
        steps.step("memory", || self.memory(&backends, &large, options))?;
        if options.wants(Who::Weir) {
            steps.step("start to first answer", || {
                start::measure(&self.binaries.weir, self.cores, &backends.addresses, &mut self.figures)
            })?;
            match setup::interception_possible() {
                Ok(()) => steps.step("a diverted connect", || {
                    divert::measure(&self.binaries.weir, self.cores, options.quick, &mut self.figures)
                })?,
                Err(why) => self.remarks.push(format!("diverted connects were not measured: {why}")),
            }
        }
        Ok(())
    }

    fn targets(
        &self,
        backends: &Backends,
        large: &large::Backends,
        options: &Options,
    ) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        let ours = options.wants(Who::Weir).then_some((Who::Weir, &self.binaries.weir));
        let before = options.before.as_ref().map(|binary| (Who::Before, binary));
        let services = [("large", launch::endpoints(&large.addresses)?)];
        for (who, binary) in ours.into_iter().chain(before) {
            let folder = target::scratch(who.name())?;
            let listen = target::free_address()?;
            let weir = Weir { listen, services: &services, ..Weir::before(&backends.addresses) };
            let mut command = launch::command(binary, &weir.write(&folder)?, &folder)?;
            let command = cpu::pinned(&mut command, self.cores.proxy);
            targets.push(Target::proxy(who, command, listen, listen)?);
        }
        for who in [Who::Haproxy, Who::Hyper].into_iter().filter(|who| options.wants(*who)) {
            let (listen, listen_large) = (target::free_address()?, target::free_address()?);
            let tunnel = (who == Who::Haproxy).then(target::free_address).transpose()?;
            let listeners = [(listen, &*backends.addresses), (listen_large, &*large.addresses)];
            let mut command = if who == Who::Hyper {
                target::hyper_command(&self.binaries.hyper, &listeners)
            } else {
                let tunnel = tunnel.map(|listen| (listen, &*large.addresses));
                let haproxy = Haproxy { threads: 1, listeners: &listeners, tunnel, services: &[] };
                haproxy.command(&target::scratch("haproxy")?)?
            };
            let command = cpu::pinned(&mut command, self.cores.proxy);
            let mut target = Target::proxy(who, command, listen, listen_large)?;
            target.tunnel = tunnel;
            targets.push(target);
        }
        if options.wants(Who::Direct) {
            targets.push(Target::direct(&backends.addresses, &large.addresses));
        }
        Ok(targets)
    }

    fn memory(&mut self, backends: &Backends, large: &large::Backends, options: &Options) -> Result<()> {
        let (weir, figures) = (&*self.binaries.weir, &mut self.figures);
        let mut memory = Memory { weir, backends, large, figures, remarks: &mut self.remarks };
        for who in [Who::Weir, Who::Haproxy].into_iter().filter(|who| options.wants(*who)) {
            memory.measure(who)?;
        }
        Ok(())
    }
}
