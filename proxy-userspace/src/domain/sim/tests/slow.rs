//! The cost of one slow answer for an endpoint, and of staying slow.

use super::super::server::up;
use super::super::with_few_seeds;
use super::super::world::{Arrivals, World};
use super::part;
use crate::domain::outcome::Outcome;
use std::time::Duration;

const RATES: [f64; 4] = [1.0, 10.0, 50.0, 1000.0];

fn world(seed: u64, rate: f64, endpoints: usize, millis: u64) -> World {
    let servers = vec![up(millis).capacity(10_000); endpoints];
    let mut world = World::with(seed, &servers, Arrivals::Every(Duration::from_secs_f64(1.0 / rate)));
    world.impatience = 0;
    world
}

/// The time for this many requests, or `least` seconds if that is longer.
fn seconds(requests: f64, rate: f64, least: f64) -> u64 {
    (requests / rate).max(least).ceil() as u64
}

#[test]
fn one_slow_answer_costs_less_than_two_seconds_or_twenty_requests_of_half_a_share() {
    for (rate, endpoints) in RATES.into_iter().flat_map(|rate| [(rate, 2), (rate, 3)]) {
        for slow in [100, 2000].map(Duration::from_millis) {
            with_few_seeds(|seed| {
                let mut world = world(seed, rate, endpoints, 2);
                let warm = seconds(100.0, rate, 5.0);
                world.at(warm, move |world| {
                    world.cluster.endpoints[0].once = Some((Outcome::Answered(200), slow));
                });
                world.run(warm + seconds(80.0, rate, 20.0));
                let mut ends = world.record.outcomes.iter().filter(|(_, number, _)| *number == 0);
                let begun = Duration::from_secs(warm) + slow;
                let (end, ..) = *ends.find(|(at, ..)| *at >= begun).expect("it answers");
                let after: Vec<_> =
                    world.record.attempts.iter().copied().filter(|(at, _)| *at >= end).collect();
                let span = Duration::from_secs(2).max(Duration::from_secs_f64(20.0 / rate));
                let soon: Vec<_> = after.iter().copied().take_while(|(at, _)| *at < end + span).collect();
                let share = part(&soon, 0) * endpoints as f64;
                assert!(
                    share > 0.5,
                    "{share} of its share after {slow:?} at {rate}/s, {endpoints} endpoints"
                );
            });
        }
    }
}

#[test]
fn a_first_answer_of_three_seconds_does_not_stand_for_the_endpoint() {
    for rate in RATES {
        with_few_seeds(|seed| {
            let mut world = world(seed, rate, 3, 2);
            world.cluster.endpoints[1].once = Some((Outcome::Answered(200), Duration::from_secs(3)));
            world.run(seconds(100.0, rate, 13.0));
            let later: Vec<_> = world
                .record
                .attempts
                .iter()
                .copied()
                .filter(|(at, _)| *at > Duration::from_secs(4))
                .collect();
            let share = part(&later, 1);
            assert!((0.2..0.45).contains(&share), "{share} at {rate}/s");
        });
    }
}

#[test]
fn one_that_stays_ten_times_slower_gets_less_than_five_per_cent() {
    for (rate, endpoints) in [(1.0, 2), (1.0, 3), (10.0, 2), (50.0, 3), (1000.0, 2), (1000.0, 10)] {
        for millis in [1, 20] {
            with_few_seeds(|seed| {
                let mut world = world(seed, rate, endpoints, millis);
                world.cluster.endpoints[0].server = up(10 * millis).capacity(10_000);
                world.run(seconds(600.0, rate, 10.0));
                let share = part(&world.record.attempts, 0);
                assert!(share < 0.05, "{share} at {rate}/s, {endpoints} endpoints, {millis} ms");
                assert!(share > 0.0, "it is tried");
            });
        }
    }
}

#[test]
fn whoever_is_fast_again_has_its_share_within_a_minute_or_three_hundred_requests() {
    for (rate, endpoints) in RATES.into_iter().flat_map(|rate| [(rate, 2), (rate, 10)]) {
        with_few_seeds(|seed| {
            let mut world = world(seed, rate, endpoints, 2);
            world.cluster.endpoints[0].server = up(200).capacity(10_000);
            let slow = seconds(300.0, rate, 20.0);
            world.run(slow);
            world.cluster.endpoints[0].server = up(2).capacity(10_000);
            let soon = slow + seconds(300.0, rate, 60.0).min(60);
            world.run(soon + seconds(40.0 * endpoints as f64, rate, 5.0));
            let share = world.record.shares(soon, u64::MAX)[0] * endpoints as f64;
            assert!(share > 0.7, "{share} of its share at {rate}/s, {endpoints} endpoints");
        });
    }
}

#[test]
fn a_new_endpoint_has_its_share_at_once_however_many_there_are() {
    with_few_seeds(|seed| {
        let mut world = world(seed, 1000.0, 20, 2);
        world.at(5, |world| _ = world.join(up(2), 1.0));
        world.run(7);
        let share = world.record.shares(5, 7)[20] * 21.0;
        assert!((0.7..1.3).contains(&share), "{share} of its share");
    });
}
