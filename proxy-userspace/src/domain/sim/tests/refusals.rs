//! An endpoint that refuses, fails or answers 404 at once gets no advantage from it.

use super::super::server::up;
use super::super::with_few_seeds;
use super::super::world::{Arrivals, World};
use super::part;
use crate::domain::outcome::Outcome;
use std::time::Duration;

/// The share of one of `endpoints` that ends `permille` of its requests with `outcome` at once, while others take 20
/// ms.
fn share(seed: u64, (rate, endpoints): (f64, usize), permille: u32, outcome: Outcome) -> f64 {
    let mut servers = vec![up(20).capacity(100_000); endpoints];
    servers[0] = servers[0].with(permille, outcome);
    let mut world = World::with(seed, &servers, Arrivals::Every(Duration::from_secs_f64(1.0 / rate)));
    world.run((1500.0 / rate).ceil() as u64);
    part(&world.record.attempts, 0)
}

const LOADS: [(f64, usize); 6] = [(5.0, 2), (5.0, 3), (50.0, 3), (1000.0, 2), (1000.0, 3), (10_000.0, 2)];

#[test]
fn an_endpoint_that_answers_429_gets_less_than_its_share_and_hardly_any_if_always() {
    for load in LOADS {
        let fair = 1.0 / load.1 as f64;
        with_few_seeds(|seed| {
            let share = |permille| share(seed, load, permille, Outcome::Answered(429));
            let (always, often) = (share(1000), share(500));
            assert!(always < 0.05, "{always} at {load:?}");
            assert!(often < 0.75 * fair, "{often} at {load:?}");
            assert!(share(100) < 1.05 * fair);
        });
    }
}

#[test]
fn an_endpoint_that_finds_nothing_or_fails_at_once_gets_no_more_than_its_share() {
    for load in LOADS {
        let fair = 1.0 / load.1 as f64;
        with_few_seeds(|seed| {
            for (outcome, permille) in
                [(404, 1000), (404, 500), (404, 100), (401, 1000), (500, 250), (503, 100), (503, 1000)]
            {
                let share = share(seed, load, permille, Outcome::Answered(outcome));
                assert!(share < 1.08 * fair, "{share} for {permille} of {outcome} at {load:?}");
            }
        });
    }
}

#[test]
fn where_all_refuse_alike_all_are_asked_alike() {
    for permille in [100, 500, 1000] {
        with_few_seeds(|seed| {
            let servers = [up(5).capacity(100_000).with(permille, Outcome::Answered(429)); 3];
            let mut world = World::with(seed, &servers, Arrivals::Every(Duration::from_millis(2)));
            world.run(20);
            for share in world.record.shares(0, 20) {
                assert!((0.25..0.42).contains(&share), "{:?} for {permille}", world.record.shares(0, 20));
            }
            assert_eq!(world.record.transitions, [], "no breaker hears of it");
        });
    }
}
