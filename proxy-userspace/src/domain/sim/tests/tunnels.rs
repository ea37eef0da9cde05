//! An endpoint whose tunnels end early while others' live, and the case that this is the protocol.

use super::super::server::{Server, carrying};
use super::super::with_few_seeds;
use super::super::world::{Arrivals, World};
use super::part;
use crate::domain::outcome::Outcome;
use std::time::Duration;

fn full(millis: u64) -> Server {
    carrying(millis).with(1000, Outcome::EndedEarly)
}

/// Lifetimes of tunnels: a query, a session, and a permanent one.
const LIVES: [u64; 3] = [5, 200, 100_000];

#[test]
fn of_a_hundred_clients_at_most_ten_meet_the_full_one_and_soon_find_the_one_that_has_recovered() {
    for (millis, rate, first) in LIVES
        .into_iter()
        .flat_map(|life| [(life, 20, 100), (life, 200, 100), (life, 20, 1000), (life, 200, 1000)])
    {
        with_few_seeds(|seed| {
            let servers = [full(millis), carrying(millis)];
            let mut world = World::with(seed, &servers, Arrivals::Every(Duration::from_secs(1) / rate));
            world.impatience = 0;
            let until = |world: &mut World, requests| {
                while world.record.attempts.len() < requests {
                    world.run_for(Duration::from_millis(2));
                }
            };
            until(&mut world, first);
            let bad = part(&world.record.attempts[..100], 0);
            assert!(bad <= 0.10, "{bad} of the first hundred, lives of {millis} ms, {rate}/s");
            let turn = world.record.attempts.len();
            world.cluster.endpoints[0].server = carrying(millis);
            world.cluster.endpoints[1].server = full(millis);
            until(&mut world, turn + 1000);
            let recovered = part(&world.record.attempts[turn..turn + 100], 0);
            assert!(recovered >= 0.60, "{recovered} of the next hundred, lives of {millis} ms, {rate}/s");
            let later = part(&world.record.attempts[turn..], 0);
            assert!(later >= 0.90, "{later} of the next thousand, lives of {millis} ms, {rate}/s");
        });
    }
}

#[test]
fn one_that_ends_some_of_its_tunnels_early_gets_no_more_than_its_share() {
    for millis in [5, 10_000] {
        with_few_seeds(|seed| {
            for (permille, most) in [(1000, 0.1), (500, 0.85), (250, 1.05), (100, 1.05)] {
                let servers = [
                    carrying(millis).with(permille, Outcome::EndedEarly),
                    carrying(millis),
                    carrying(millis),
                ];
                let mut world = World::with(seed, &servers, Arrivals::Every(Duration::from_millis(20)));
                world.run(60);
                let share = part(&world.record.attempts, 0) * 3.0;
                assert!(share <= most, "{share} of its share with {permille} of 1,000, lives of {millis} ms");
            }
        });
    }
}

#[test]
fn where_that_is_the_protocol_all_are_asked_alike_and_none_is_ejected() {
    for permille in [100, 500, 800, 1000] {
        with_few_seeds(|seed| {
            let servers = [carrying(20_000).with(permille, Outcome::EndedEarly); 3];
            let mut world = World::with(seed, &servers, Arrivals::Every(Duration::from_millis(10)));
            world.run(60);
            for share in world.record.shares(0, 60) {
                assert!((0.25..0.42).contains(&share), "{:?} with {permille}", world.record.shares(0, 60));
            }
            assert_eq!(world.record.transitions, [], "with {permille}");
        });
    }
}
