//! The table, the verdicts on what weir is to reach, and the JSON file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::figures::{Figures, Quantity, Spread};
use super::target::Who;
use crate::process::output;

/// One figure to reach.
#[derive(Debug, Serialize)]
struct Goal {
    text: &'static str,
    at_most: f64,
    measured: Option<f64>,
}

impl Goal {
    fn verdict(&self) -> &'static str {
        match self.measured {
            None => "not measured",
            Some(value) if value <= self.at_most => "met",
            Some(_) => "NOT met",
        }
    }
}

fn goals(figures: &Figures) -> Vec<Goal> {
    let weir = |quantity| figures.get(quantity, Who::Weir).map(|spread| spread.median);
    let over = |quantity, who| figures.ratio(quantity, who).map(|ratio| ratio.median);
    let connect = weir(Quantity::ConnectDiverted).zip(weir(Quantity::ConnectDirect));
    vec![
        Goal {
            text: "CPU per request at 64 connections over HAProxy's",
            at_most: 1.05,
            measured: over(Quantity::Cpu64, Who::Haproxy),
        },
        Goal {
            text: "CPU per request at 512 over bare hyper's",
            at_most: 1.05,
            measured: over(Quantity::Cpu512, Who::Hyper),
        },
        Goal {
            text: "CPU per GET of 1 MB over bare hyper's",
            at_most: 1.1,
            measured: over(Quantity::CpuGetLarge, Who::Hyper),
        },
        Goal {
            text: "CPU per POST of 1 MB over bare hyper's",
            at_most: 1.1,
            measured: over(Quantity::CpuPostLarge, Who::Hyper),
        },
        Goal {
            text: "CPU per MB received by a tunnel over HAProxy's",
            at_most: 0.67,
            measured: over(Quantity::CpuGetTunnel, Who::Haproxy),
        },
        Goal {
            text: "CPU per MB sent by a tunnel over HAProxy's",
            at_most: 0.67,
            measured: over(Quantity::CpuPostTunnel, Who::Haproxy),
        },
        Goal { text: "RssAnon 10 s after start, MB", at_most: 6.0, measured: weir(Quantity::MemoryIdle) },
        Goal {
            text: "RssAnon, 512 idle connections, MB",
            at_most: 20.0,
            measured: weir(Quantity::Memory512),
        },
        Goal {
            text: "RssAnon 30 s after they ended, MB",
            at_most: 12.0,
            measured: weir(Quantity::MemoryAfter),
        },
        Goal {
            text: "RssAnon, calls to 1,000 services, MB",
            at_most: 55.0,
            measured: weir(Quantity::MemoryServices),
        },
        Goal {
            text: "a diverted connect over a direct one, p50, µs",
            at_most: 10.0,
            measured: connect.map(|(diverted, direct)| diverted - direct),
        },
        Goal { text: "start to first answer, ms", at_most: 100.0, measured: weir(Quantity::Start) },
        Goal { text: "system calls per request", at_most: 4.1, measured: weir(Quantity::Syscalls) },
    ]
}

/// Prints everything and writes the file.
pub(crate) fn print(figures: &Figures, remarks: &[String], json: PathBuf) -> Result<()> {
    table(figures);
    let slow: Vec<&str> = [Who::Weir, Who::Haproxy, Who::Hyper]
        .into_iter()
        .filter(|who| figures.get(Quantity::ProxyCore, *who).is_some_and(|core| core.median < 90.0))
        .map(Who::name)
        .collect();
    if !slow.is_empty() {
        println!("\nThe load did not saturate {}: read its rates as lower bounds.", slow.join(" and "));
    }
    let goals = goals(figures);
    println!("\nTo reach:");
    for goal in &goals {
        let measured = goal.measured.map_or("-".to_owned(), |value| format!("{value:.2}"));
        println!("  {:<12} {:<50} {measured:>8}   at most {}", goal.verdict(), goal.text, goal.at_most);
    }
    println!("  (instructions per request: cargo xtask bench --instructions)");
    for remark in remarks {
        println!("  note: {remark}");
    }
    let value = serde_json::json!({
        "machine": machine(),
        "figures": figures.to_json(),
        "goals": goals,
        "remarks": remarks,
    });
    write_json(&json, &value)
}

fn table(figures: &Figures) {
    let compares = figures.get(Quantity::Cpu64, Who::Before).is_some();
    print!(
        "\n{:<42}{:>23}{:>23}{:>23}{:>23}{:>19}{:>19}",
        "median (middle half of the passes)",
        "weir",
        "HAProxy",
        "bare hyper",
        "direct",
        "weir/HAProxy",
        "weir/bare hyper"
    );
    println!("{}", if compares { "      weir/weir before" } else { "" });
    let or_none = |spread: Option<Spread>| spread.map_or("-".to_owned(), shown);
    for quantity in figures.quantities() {
        print!("{:<42}", quantity.title());
        for who in Who::USUAL {
            print!("{:>23}", or_none(figures.get(quantity, who)));
        }
        for over in [Who::Haproxy, Who::Hyper] {
            print!("{:>19}", or_none(figures.ratio(quantity, over)));
        }
        match figures.ratio(quantity, Who::Before).filter(|_| compares) {
            Some(ratio) => println!("{:>22}", shown(ratio)),
            None => println!(),
        }
    }
}

pub(super) fn shown(spread: Spread) -> String {
    let digits = if spread.median >= 1000.0 {
        0
    } else if spread.median >= 10.0 {
        1
    } else {
        2
    };
    let Spread { median, low, high } = spread;
    format!("{median:.digits$} ({low:.digits$}-{high:.digits$})")
}

fn machine() -> serde_json::Value {
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .find(|line| line.starts_with(key))
            .and_then(|line| line.split(": ").nth(1))
            .map(str::to_owned)
    };
    serde_json::json!({
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "cpu": first("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "haproxy": output(std::process::Command::new("haproxy").env("PATH", crate::process::search_path()).arg("-v")).ok()
            .and_then(|text| text.lines().next().map(str::to_owned)),
    })
}

pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        crate::process::make_folder(folder)?;
    }
    let text = serde_json::to_string_pretty(value)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nThe figures are in {}", path.display());
    Ok(())
}
