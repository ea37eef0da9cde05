//! The figures of `docs/balancing.md`: `cargo test -p weir --lib figures -- --nocapture` prints its tables. Each figure has to
//! be that of the document.

use super::super::server::{Server, carrying, micros, up};
use super::super::world::{Arrivals, World};
use super::part;
use crate::domain::outcome::Outcome;
use std::time::Duration;

const SEEDS: u64 = 12;

const DOCUMENT: &str = include_str!("../../../../../docs/balancing.md");

/// How far a figure may be from that of the document, in percentage points: another C library may round `exp2` in another
/// way.
const ROUNDING: f64 = 0.5;

/// The minimum, the median and the maximum over the seeds, in per cent.
fn spread(run: impl Fn(u64) -> f64) -> [f64; 3] {
    let mut all: Vec<f64> = (0..SEEDS).map(|seed| 100.0 * run(seed)).collect();
    all.sort_by(f64::total_cmp);
    [all[0], all[all.len() / 2], all[all.len() - 1]]
}

/// Prints one row; fails if the median is not below `most`.
#[track_caller]
fn row(what: &str, most: f64, run: impl Fn(u64) -> f64) {
    let [least, middle, highest] = spread(run);
    let row = format!("| {what} | {middle:.1} % | {least:.1} to {highest:.1} % |");
    println!("{row}");
    assert!(middle <= most, "{what}: {middle}");
    // Two rows have the same name: one of each pair has these figures.
    let mut documented = DOCUMENT.lines().filter(|line| line.starts_with(&format!("| {what} |")));
    let is_it = |line: &str| {
        let (old, new) = (numbers(line), numbers(&row));
        old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| (old - new).abs() <= ROUNDING)
    };
    assert!(documented.any(is_it), "docs/balancing.md has no such row: {row}");
}

/// The numbers in the cells behind the name of a row.
fn numbers(row: &str) -> Vec<f64> {
    let cells = row.trim_start_matches('|').split_once('|').map_or("", |(_, cells)| cells);
    cells.split([' ', '|']).filter_map(|word| word.parse().ok()).collect()
}

fn every(rate: f64) -> Arrivals {
    Arrivals::Every(Duration::from_secs_f64(1.0 / rate))
}

/// A run of `requests` requests.
fn run(seed: u64, servers: &[Server], arrivals: Arrivals, requests: usize) -> World {
    let servers: Vec<_> = servers.iter().map(|it| it.capacity(10_000)).collect();
    let mut world = World::with(seed, &servers, arrivals);
    until(&mut world, requests);
    world
}

fn until(world: &mut World, requests: usize) {
    while world.record.attempts.len() < requests {
        world.run_for(Duration::from_millis(20));
    }
}

/// The largest share of three equal servers.
fn largest(seed: u64, server: Server, arrivals: Arrivals, requests: usize) -> f64 {
    let world = run(seed, &[server; 3], arrivals, requests);
    (0..3).map(|at| part(&world.record.attempts[..requests], at)).fold(0.0, f64::max)
}

#[test]
fn figures_of_equal_endpoints() {
    let stalls = |permille| micros(300).stalling(permille, Duration::from_millis(20));
    for (what, server) in [
        ("0.3 ms", micros(300)),
        ("0.3 ms, 3 % take 20 ms", stalls(30)),
        ("0.3 ms, 10 % take 20 ms", stalls(100)),
    ] {
        for requests in [600, 3000] {
            let what = format!("sequential, {what}: largest share of {requests}");
            row(&what, 38.0, |seed| largest(seed, server, Arrivals::Sequential, requests));
        }
    }
    for rate in [1.0, 50.0, 1000.0, 10_000.0] {
        let what = format!("{rate}/s, 1 ms: largest share of 600");
        row(&what, 36.0, |seed| largest(seed, up(1), every(rate), 600));
    }
}

#[test]
fn figures_of_slow_endpoints() {
    for slow in [100, 2000].map(Duration::from_millis) {
        let what = format!("one answer of {slow:?}, three of 2 ms at 50/s: its share of the 2 s after");
        row(&what, 40.0, |seed| {
            let mut world = run(seed, &[up(2); 3], every(50.0), 500);
            world.cluster.endpoints[0].once = Some((Outcome::Answered(200), slow));
            world.run_for(slow + Duration::from_millis(500));
            let from = world.record.attempts.len();
            world.run_for(Duration::from_secs(2));
            part(&world.record.attempts[from..], 0)
        });
    }
    for (rate, endpoints) in [(1.0, 2), (1.0, 3), (10.0, 3), (50.0, 3), (1000.0, 3)] {
        let what = format!("10 ms where others take 1 ms, {endpoints} at {rate}/s: its share of 600");
        row(&what, 5.0, |seed| {
            let servers = [&[up(10)][..], &vec![up(1); endpoints - 1]].concat();
            part(&run(seed, &servers, every(rate), 600).record.attempts, 0)
        });
    }
}

#[test]
fn figures_of_refusals() {
    for (status, permille) in [(429, 1000), (429, 500), (404, 1000), (503, 1000)] {
        for rate in [50.0, 1000.0] {
            let what =
                format!("{} % answered {status} at once, two at {rate}/s: its share of 1,500", permille / 10);
            row(&what, 51.0, |seed| {
                let servers = [up(20).with(permille, Outcome::Answered(status)), up(20)];
                part(&run(seed, &servers, every(rate), 1500).record.attempts, 0)
            });
        }
    }
    for (what, millis) in [("queries of 5 ms", 5), ("sessions of 100 s", 100_000)] {
        let full = carrying(millis).with(1000, Outcome::EndedEarly);
        let first = |seed| run(seed, &[full, carrying(millis)], every(20.0), 100);
        row(&format!("a full database, {what}: its share of 100 clients"), 10.0, |seed| {
            part(&first(seed).record.attempts[..100], 0)
        });
        row("the same, the other is full instead: the share of that of the next 100", 40.0, |seed| {
            let mut world = first(seed);
            let turn = world.record.attempts.len();
            world.cluster.endpoints[0].server = carrying(millis);
            world.cluster.endpoints[1].server = full;
            until(&mut world, turn + 100);
            part(&world.record.attempts[turn..turn + 100], 1)
        });
    }
}
