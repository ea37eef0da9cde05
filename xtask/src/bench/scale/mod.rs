//! `cargo xtask bench --scale`: weir on a node of a large cluster, of whose services it is asked for a few.
//!
//! Services come from files and then from an API server (the tests' double). What is measured is what is proportional to
//! something: memory to the cluster, an endpoint's change to nothing but itself. Each figure has a limit, and one that is
//! missed is a failure.

mod source;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use test_support::metrics;

use super::backend::Backends;
use super::target;
use crate::launch::{self, Weir};
use crate::os::{cpu, interrupt};
use crate::process::Running;
use crate::setup;
use source::{Endpoints, Kind, Source};

const SERVICES: usize = 10_000;
const CHANGES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster, and what weir may cost there.
struct Cluster {
    endpoints: usize,
    megabytes: f64,
}

const CLUSTERS: [Cluster; 2] =
    [Cluster { endpoints: 5, megabytes: 150.0 }, Cluster { endpoints: 3, megabytes: 60.0 }];

/// From a change to the first request that meets it. Reading the folder is part of it for files; an API server's event
/// needs no such thing.
const CHANGE: fn(Kind) -> Duration = |kind| match kind {
    Kind::Files => Duration::from_millis(500),
    Kind::Api => Duration::from_millis(100),
};
/// The same from weir's having a changed catalog on.
const APPLY: Duration = Duration::from_millis(10);

/// What one cluster came to.
struct Measured {
    start: Duration,
    resident: f64,
    peak: f64,
    changes: Vec<Duration>,
    apply: Duration,
    cpu: Duration,
}

/// Measures, prints, and fails when a limit is missed.
pub(crate) fn measure(weir: &Path) -> Result<()> {
    let mut missed = Vec::new();
    let kinds = [Kind::Files, Kind::Api];
    for (kind, cluster) in kinds.into_iter().flat_map(|kind| CLUSTERS.iter().map(move |it| (kind, it))) {
        let it = cluster.measure(weir, kind)?;
        let Cluster { endpoints, megabytes } = cluster;
        let mut check = |what: &str, value: f64, limit: f64, unit: &str| {
            let verdict = if value <= limit { "met" } else { "NOT met" };
            println!("    {what:<46} {value:>8.1} {unit:<3} at most {limit:>6.1}  {verdict}");
            if value > limit {
                missed
                    .push(format!("{what}, {SERVICES} services of {endpoints}, {kind:?}: {value:.1} {unit}"));
            }
        };
        let from = match kind {
            Kind::Files => "files",
            Kind::Api => "an API server",
        };
        println!("    {SERVICES} services, {} endpoints, from {from}:", SERVICES * endpoints);
        check("resident memory", it.resident, *megabytes, "MB");
        let slowest = it.changes.iter().max().copied().unwrap_or_default();
        check("one endpoint's change, to a request (slowest)", millis(slowest), millis(CHANGE(kind)), "ms");
        check("of that, from the catalog on (mean)", millis(it.apply), millis(APPLY), "ms");
        let median = it.changes.get(it.changes.len() / 2).copied().unwrap_or_default();
        println!("    one endpoint's change, to a request (median)   {:>8.1} ms", millis(median));
        println!("    CPU for it, all of weir                        {:>8.1} ms", millis(it.cpu));
        println!("    start to complete catalog                      {:>8.1} ms", millis(it.start));
        println!("    most memory at any time                        {:>8.1} MB", it.peak);
    }
    if missed.is_empty() { Ok(()) } else { bail!("missed: {}", missed.join("; ")) }
}

impl Cluster {
    fn measure(&self, weir: &Path, kind: Kind) -> Result<Measured> {
        let backends = Backends::start(cpu::Cores::choose()?.load)?;
        let folder = target::scratch("scale")?;
        let (listen, admin) = (target::free_address()?, target::free_address()?);
        let setting = Weir { listen, admin, workers: Some(2), ..Weir::before(&backends.addresses) };
        let config = setting.write(&folder)?;
        let source = Source::start(kind, self.endpoints, &folder)?;
        if kind == Kind::Api {
            let text = fs::read_to_string(&config)?;
            let api = "discovery: { kubernetes: { kubeconfig: ./kubeconfig, node: node-1, jitter: 0s } }";
            fs::write(&config, with_discovery(&text, api)?)?;
        }
        // Interception as a node has it, where this machine allows it.
        let cgroup =
            setup::interception_possible().is_ok().then(super::memory::pods_of_nobody).transpose()?;
        if let Some(cgroup) = &cgroup {
            let section = super::memory::transparent(cgroup.path())?;
            fs::write(&config, fs::read_to_string(&config)? + &section)?;
        }
        let begun = Instant::now();
        let process = Running::start("weir", &mut launch::command(weir, &config, &folder)?)?;
        let mut scene = Scene { process, admin, listen, source };
        scene.wait_for("weir_catalog_services", SERVICES as f64)?;
        if cgroup.is_some() {
            scene.wait_for("weir_interception_destinations", SERVICES as f64)?;
        }
        let start = begun.elapsed();
        let measured = scene.measure(start, &backends.addresses);
        scene.process.stop(Duration::from_secs(5))?;
        drop(cgroup);
        measured
    }
}

/// The configuration `text`, whose last section is `discovery`, with this one instead.
fn with_discovery(text: &str, section: &str) -> Result<String> {
    let (before, _) = text.split_once("discovery:").context("no discovery to replace")?;
    Ok(format!("{before}{section}\n"))
}

/// A weir that has all services.
struct Scene {
    process: Running,
    admin: SocketAddr,
    listen: SocketAddr,
    source: Source,
}

impl Scene {
    fn measure(&mut self, start: Duration, backends: &[SocketAddr]) -> Result<Measured> {
        self.change(Endpoints::Back, backends[0])?;
        println!("    ten seconds of rest");
        interrupt::sleep(Duration::from_secs(10))?;
        let before = cpu::of_process(self.process.pid())?;
        let begun = Instant::now();
        let mut changes = Vec::new();
        for _ in 0..CHANGES / 2 {
            // The service without any endpoint answers with 503.
            for endpoints in [Endpoints::Gone, Endpoints::Back] {
                changes.push(self.change(endpoints, backends[0])?);
                interrupt::sleep(Duration::from_millis(50))?;
            }
        }
        let (spent, length) = (cpu::of_process(self.process.pid())? - before, begun.elapsed());
        let idle = self.idle(length)?;
        changes.sort_unstable();
        interrupt::sleep(Duration::from_secs(5))?;
        let pid = self.process.pid();
        Ok(Measured {
            start,
            resident: cpu::resident(pid)? as f64 / 1e6,
            peak: cpu::resident_at_most(pid)? as f64 / 1e6,
            changes,
            apply: self.apply()?,
            cpu: spent.saturating_sub(idle) / CHANGES as u32,
        })
    }

    /// From a change to the first answer that shows it.
    fn change(&mut self, endpoints: Endpoints, backend: SocketAddr) -> Result<Duration> {
        let begun = Instant::now();
        self.source.change(endpoints, backend)?;
        let host = self.source.host();
        let request = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let wanted = format!("HTTP/1.1 {}", self.source.shown_by(endpoints));
        let mut stream = TcpStream::connect(self.listen)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut answer = [0; 4096];
        while begun.elapsed() < PATIENCE {
            stream.write_all(request.as_bytes())?;
            let read = stream.read(&mut answer)?;
            if answer[..read].starts_with(wanted.as_bytes()) {
                return Ok(begun.elapsed());
            }
            self.process.check()?;
            std::thread::sleep(Duration::from_micros(500));
        }
        bail!("no {wanted} within {PATIENCE:?} of a change");
    }

    /// CPU time that weir takes when nothing changes for so long.
    fn idle(&self, length: Duration) -> Result<Duration> {
        let before = cpu::of_process(self.process.pid())?;
        interrupt::sleep(length)?;
        Ok(cpu::of_process(self.process.pid())? - before)
    }

    /// How long taking over a changed catalog took on average.
    fn apply(&self) -> Result<Duration> {
        let page = launch::page(self.admin, "/metrics")?;
        let sum = value(&page, "weir_catalog_apply_seconds_sum")?;
        let count = value(&page, "weir_catalog_apply_seconds_count")?;
        Ok(Duration::from_secs_f64(sum / count.max(1.0)))
    }

    fn wait_for(&mut self, metric: &str, at_least: f64) -> Result<()> {
        let admin = self.admin;
        let probe = || {
            let value = value(&launch::page(admin, "/metrics")?, metric)?;
            ensure!(value >= at_least, "{metric} is {value}, and {at_least} is waited for");
            Ok(())
        };
        self.process.wait_until(PATIENCE, probe, || {
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        })
    }
}

/// The value of a metric without labels.
fn value(page: &str, metric: &str) -> Result<f64> {
    let samples = metrics::parse(page);
    let found = samples.iter().find(|sample| sample.name == metric && sample.labels.is_empty());
    Ok(found.with_context(|| format!("there is no {metric}"))?.value)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
