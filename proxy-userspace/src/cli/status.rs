//! `weir status`: a running weir's state, for a person.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::filter::Filter;
use crate::telemetry::log;

/// How long the running weir may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much it may answer.
const MOST: u64 = 256 << 20;

/// Asks the weir whose admin listens on `admin`, and prints what it answers, as far as `filter` asks for it: as JSON, or as
/// text.
pub(super) fn run(admin: &str, json: bool, filter: &Filter) -> ExitCode {
    print(fetch(admin, "/api/state.json").and_then(|body| show(body, json, filter)))
}

fn show(body: String, json: bool, filter: &Filter) -> anyhow::Result<String> {
    if json && !filter.is_set() {
        return Ok(body);
    }
    let mut state: Value = serde_json::from_str(&body).context("the answer is not weir's state")?;
    filter.apply(&mut state).map_err(anyhow::Error::msg)?;
    if json { Ok(format!("{state:#}\n")) } else { describe(&state, filter) }
}

/// Prints what there is to show, or in one sentence why there is nothing.
pub(super) fn print(shown: anyhow::Result<String>) -> ExitCode {
    match shown {
        Ok(text) => super::write(&text),
        Err(error) => {
            log::say(format_args!("weir: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What the running weir at `admin` answers to `path`.
pub(super) fn fetch(admin: &str, path: &str) -> anyhow::Result<String> {
    let advice = || format!("no weir answers on {admin}; is it running, and is --admin its admin listener?");
    let address = admin.to_socket_addrs().with_context(advice)?.next().with_context(advice)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(advice)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The address, and not the name that led there, which weir need not know as its own (`admin.hosts`).
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").with_context(advice)?;
    let mut answer = String::new();
    stream.take(MOST).read_to_string(&mut answer).with_context(advice)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!(advice()) };
    if head.split(' ').nth(1) == Some("400") {
        bail!("{}", body.trim_end());
    }
    if head.split(' ').nth(1) != Some("200") {
        bail!("{admin} answers, but not as weir's admin: {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

fn describe(state: &Value, filter: &Filter) -> anyhow::Result<String> {
    let mut text = String::new();
    let uptime = state["uptimeSeconds"].as_f64().unwrap_or_default();
    let ready = if state["ready"] == true { "ready" } else { "NOT READY" };
    let node = state["node"].as_str().filter(|node| !node.is_empty()).unwrap_or("without a name");
    writeln!(text, "node {node}: weir {}, up {uptime:.0} s, {ready}", plain(&state["version"]))?;
    if filter.is_set() {
        pods(&mut text, &state["enrolment"])?;
        clusters(&mut text, state)?;
        return Ok(text);
    }
    for line in list(&state["readiness"]) {
        writeln!(text, "  {}", plain(line))?;
    }
    for it in list(&state["listeners"]) {
        let (name, open) = (plain(&it["listener"]), &it["open"]);
        writeln!(
            text,
            "{name}: {open} open, {} connections, {} requests",
            it["connections"], it["requests"]
        )?;
    }
    interception(&mut text, &state["interception"])?;
    enrolment(&mut text, &state["enrolment"])?;
    clusters(&mut text, state)?;
    for problem in list(&state["fileProblems"]) {
        writeln!(text, "problem: {}", plain(problem))?;
    }
    if let Some(mistakes) = state["reload"]["mistakes"].as_str() {
        writeln!(text, "the configuration file has mistakes; an older one is in force:\n{mistakes}")?;
    }
    Ok(text)
}

fn clusters(text: &mut String, state: &Value) -> std::fmt::Result {
    let services = list(&state["services"]).flat_map(|it| list(&it["clusters"]));
    services.chain(list(&state["outside"])).try_for_each(|cluster| describe_cluster(text, cluster))
}

/// A line for each pod: whether its connections are diverted, and why.
fn pods(text: &mut String, enrolment: &Value) -> std::fmt::Result {
    for pod in list(&enrolment["pods"]) {
        let addresses: Vec<_> = list(&pod["addresses"]).map(plain).collect();
        let (name, state, why) = (plain(&pod["pod"]), plain(&pod["state"]), plain(&pod["why"]));
        writeln!(text, "pod {name} ({}): {state}, {why}", addresses.join(", "))?;
        for mistake in list(&pod["mistakes"]) {
            writeln!(text, "  ignored: {}", plain(mistake))?;
        }
    }
    Ok(())
}

fn interception(text: &mut String, state: &Value) -> std::fmt::Result {
    if state["on"] != true {
        return writeln!(text, "interception: off ({})", plain(&state["why"]));
    }
    let armed = if state["armed"] == true { "on" } else { "on, but DISARMED: connections go direct" };
    writeln!(text, "interception: {armed}, {} destinations", state["destinations"])
}

/// One line: the pods themselves are in the JSON, and where they are asked for.
fn enrolment(text: &mut String, state: &Value) -> std::fmt::Result {
    if state["by"] != "pods" {
        return Ok(());
    }
    let count = |state_: &str| state["counts"][state_].as_u64().unwrap_or_default();
    let mistaken = list(&state["pods"]).filter(|pod| list(&pod["mistakes"]).next().is_some()).count();
    write!(text, "pods: {} diverted, {} direct", count("enrolled"), count("direct"))?;
    for (name, how) in [("not_found", "without a cgroup"), ("no_room", "without room in the table")] {
        if count(name) > 0 {
            write!(text, ", {} {how}", count(name))?;
        }
    }
    if mistaken > 0 {
        write!(text, ", {mistaken} with annotations that were ignored")?;
    }
    writeln!(text)
}

fn describe_cluster(text: &mut String, cluster: &Value) -> std::fmt::Result {
    writeln!(text, "\n{}", plain(&cluster["name"]))?;
    if list(&cluster["endpoints"]).next().is_none() {
        writeln!(text, "  no endpoints")?;
    }
    for it in list(&cluster["endpoints"]) {
        if it["breaker"].is_null() {
            let (address, condition) = (plain(&it["address"]), plain(&it["condition"]));
            writeln!(text, "  {address:<24} {condition:<12} not used yet")?;
            continue;
        }
        let latency = it["latencySeconds"].as_f64().map_or("-".to_owned(), |s| format!("{:.1} ms", s * 1e3));
        writeln!(
            text,
            "  {:<24} {:<12} breaker {:<8} {:>8} requests {:>6} failures {:>4} in flight {latency:>10}",
            plain(&it["address"]),
            plain(&it["condition"]),
            plain(&it["breaker"]),
            it["requests"],
            it["failures"],
            it["inFlight"],
        )?;
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
