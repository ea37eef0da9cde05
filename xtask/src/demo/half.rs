//! One half of the demo: one door, an unmodified client, continuous load, a backend killed and brought back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::load::Load;
use super::scene::{Door, Scene};
use super::tally::{Kind, Tally};
use super::view::View;
use crate::os::interrupt;

const CURLS: u64 = 6;
const CALM: Duration = Duration::from_secs(4);
const DEAD: Duration = Duration::from_secs(4);
/// The breaker's first pauses are 2.5 to 5 s and 5 to 10 s; then a probe brings the endpoint back.
const RETURN: Duration = Duration::from_secs(18);

/// What one half showed.
pub(crate) struct Half {
    pub(crate) door: Door,
    /// What the continuous load saw.
    pub(crate) tally: Tally,
    /// Failures that had been seen just before the kill, when it was brought back, and at the end.
    pub(crate) before_kill: Tally,
    pub(crate) curls_answered: u64,
    pub(crate) curls: u64,
    /// Requests by weir's own count, through this door and through the other.
    pub(crate) through: u64,
    pub(crate) through_other: u64,
    /// Requests to each endpoint of `hello`, by weir's own count.
    pub(crate) endpoints: Vec<(String, u64)>,
    pub(crate) killed: &'static str,
    pub(crate) came_back: Option<Duration>,
}

/// Plays one half; `victim` is the backend that is killed.
pub(crate) fn play(scene: &mut Scene, door: Door, victim: usize) -> Result<Half> {
    let before = scene.counters().context("reading weir's counters")?;
    let curls_answered = curl(scene, door)?;

    let mut view = View::new(scene.members.iter().map(|member| member.name.to_owned()).collect());
    let mut load = Load::start(&mut scene.load_command(door)?)?;
    println!("  clients keep asking:");
    watch(&mut view, &mut load, None, CALM, |_| false)?;

    let name = scene.members[victim].name;
    println!("  backend {name} is killed (SIGKILL) under load:");
    let before_kill = load.tally().clone();
    scene.kill(victim);
    watch(&mut view, &mut load, Some(victim), DEAD, |_| false)?;

    println!("  backend {name} is back; its breaker will let a probe through:");
    scene.revive(victim)?;
    let (answers, begun) = (load.tally().answers_of(name), Instant::now());
    let back = |tally: &Tally| tally.answers_of(name) > answers;
    let came_back = watch(&mut view, &mut load, None, RETURN, back)?.then(|| begun.elapsed());
    if came_back.is_some() {
        watch(&mut view, &mut load, None, Duration::from_secs(2), |_| false)?;
    }

    let tally = load.finish()?;
    let after = scene.counters()?;
    let requests = |door: Door| {
        let of = |counters: &super::admin::Counters| {
            counters.sum("weir_listener_requests_total", "listener", door.listener())
        };
        of(&after).saturating_sub(of(&before))
    };
    let old = before.by("weir_endpoint_requests_total", "endpoint", "hello");
    let endpoints = after
        .by("weir_endpoint_requests_total", "endpoint", "hello")
        .into_iter()
        .map(|(endpoint, count)| (endpoint.clone(), count - old.get(&endpoint).copied().unwrap_or(0)))
        .collect();
    Ok(Half {
        door,
        tally,
        before_kill,
        curls_answered,
        curls: CURLS,
        through: requests(door),
        through_other: requests(door.other()),
        endpoints,
        killed: name,
        came_back,
    })
}

fn curl(scene: &Scene, door: Door) -> Result<u64> {
    let mut answered = 0;
    for turn in 0..CURLS {
        interrupt::check()?;
        match scene.curl(door) {
            Ok((shown, printed)) => {
                if turn == 0 {
                    println!("  $ {shown}");
                }
                println!("    {printed}");
                answered += u64::from(printed.starts_with("hello from "));
            }
            Err(error) => println!("    curl failed: {error:#}"),
        }
    }
    Ok(answered)
}

/// Shows the load until `until` holds, at most for `length`; returns whether it held.
fn watch(
    view: &mut View,
    load: &mut Load,
    dead: Option<usize>,
    length: Duration,
    until: impl Fn(&Tally) -> bool,
) -> Result<bool> {
    view.begin(load.tally());
    let deadline = Instant::now() + length;
    while Instant::now() < deadline {
        interrupt::sleep(Duration::from_millis(50))?;
        let tally = load.tally();
        view.show(tally, dead);
        if until(tally) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Half {
    /// Failures of a kind in all, and those among them from before any backend was killed.
    pub(crate) fn failures(&self, kind: Kind) -> (u64, u64) {
        (self.tally.score(kind).failed, self.before_kill.score(kind).failed)
    }
}
