//! Equal endpoints get equal shares, at any load and with any noise.

use super::super::server::{Server, micros, up};
use super::super::with_few_seeds;
use super::super::world::{Arrivals, World};
use super::part;
use std::time::Duration;

/// The shares of three equal servers in the first 600 requests, and in the first 3,000.
fn shares(seed: u64, server: Server, arrivals: Arrivals) -> [Vec<f64>; 2] {
    let mut world = World::with(seed, &[server.capacity(10_000); 3], arrivals);
    while world.record.attempts.len() < 3000 {
        world.run_for(Duration::from_millis(100));
    }
    [600, 3000].map(|first| (0..3).map(|endpoint| part(&world.record.attempts[..first], endpoint)).collect())
}

#[track_caller]
fn within(bounds: std::ops::RangeInclusive<f64>, shares: &[f64], what: &str) {
    assert!(shares.iter().all(|share| bounds.contains(share)), "{what}: {shares:?}");
}

#[test]
fn sequential_requests_are_shared_equally() {
    let stalls = |server: Server, permille| server.stalling(permille, Duration::from_millis(20));
    for (what, server, few) in [
        ("0.3 ms", micros(300), 0.31..=0.36),
        ("5 ms", up(5), 0.31..=0.36),
        // A busy machine: some answers take 70 times as long as the others.
        ("stalls", stalls(micros(300), 30), 0.28..=0.39),
        ("many stalls", stalls(micros(300), 100), 0.24..=0.43),
        // Two kinds of requests, of 0.2 ms and of 20 ms.
        ("two kinds", stalls(micros(200), 500), 0.27..=0.40),
    ] {
        with_few_seeds(|seed| {
            let [first, all] = shares(seed, server, Arrivals::Sequential);
            within(few.clone(), &first, what);
            within(0.30..=0.37, &all, what);
        });
    }
}

#[test]
fn requests_are_shared_equally_at_any_rate() {
    for rate in [1.0, 10.0, 50.0, 150.0, 1000.0, 10_000.0] {
        let arrivals = Arrivals::Every(Duration::from_secs_f64(1.0 / rate));
        for server in [up(1), up(20)] {
            with_few_seeds(|seed| {
                for shares in shares(seed, server, arrivals) {
                    within(0.31..=0.36, &shares, &format!("at {rate}/s"));
                }
            });
        }
        let mixed = micros(500).stalling(250, Duration::from_millis(20));
        with_few_seeds(|seed| {
            within(0.28..=0.39, &shares(seed, mixed, arrivals)[1], &format!("two kinds, {rate}/s"))
        });
    }
}
