//! What users were promised, each tested with many seeds.

mod equals;
mod figures;
mod refusals;
mod slow;
mod tunnels;

use super::server::{TIMEOUT, hanging, refusing, up};
use super::with_seeds;
use super::world::World;
use crate::domain::health::breaker::{State, Transition};
use crate::domain::outcome::Outcome;
use std::time::Duration;

/// The share of `attempts` that one endpoint got.
fn part(attempts: &[(Duration, usize)], endpoint: usize) -> f64 {
    let own = attempts.iter().filter(|(_, number)| *number == endpoint).count();
    own as f64 / attempts.len().max(1) as f64
}

/// 50 requests per second.
const PACE: Duration = Duration::from_millis(20);

#[test]
fn equal_endpoints_share_the_traffic() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20); 4], PACE);
        world.run(60);
        for share in world.record.shares(0, 60) {
            assert!((0.23..0.27).contains(&share), "{:?}", world.record.shares(0, 60));
        }
        assert_eq!(world.record.failures, Vec::<Duration>::new());
    });
}

#[test]
fn every_endpoint_of_a_new_cluster_is_used_soon() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(2); 8], PACE);
        world.run(10);
        let shares = world.record.shares(0, 10);
        assert!(shares.len() == 8 && shares.iter().all(|&share| share > 0.0), "{shares:?}");
    });
}

#[test]
fn a_slow_endpoint_gets_less_traffic_but_is_tried_again() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20), up(20), up(20), up(200)], PACE);
        world.run(80);
        let share = world.record.shares(10, 80)[3];
        assert!(share < 0.25 / 3.0, "it got {share}");
        assert!(world.record.count(3, 10, 45) > 0 && world.record.count(3, 45, 80) > 0);
    });
}

#[test]
fn an_endpoint_that_recovers_its_speed_recovers_its_share() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20), up(20), up(20), up(200)], PACE);
        world.at(30, |world| world.cluster.endpoints[3].server = up(20));
        world.run(100);
        let share = world.record.shares(70, 100)[3];
        assert!(share > 0.12, "it got {share}");
    });
}

#[test]
fn a_dead_endpoint_is_ejected_and_comes_back() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20); 3], PACE);
        world.at(10, |world| world.cluster.endpoints[1].server = refusing());
        world.at(50, |world| world.cluster.endpoints[1].server = up(20));
        world.run(130);
        let record = &world.record;

        let (ejected, number, _) = record.transitions[0];
        assert!(number == 1 && ejected < Duration::from_secs(35), "it was ejected at {ejected:?}");
        // Five failures, and probes after 5 to 7.5, 10 to 17.5 and 20 to 37.5 s. An answer sent before it died may come
        // after the first failures, and a client that leaves does not count.
        let attempts = record.count(1, 10, 50);
        assert!(attempts <= 5 + 3 + 4, "{attempts} requests went to a dead endpoint in 40 s");
        assert_eq!(record.failures, Vec::<Duration>::new(), "no client noticed");

        // Probes are at most 40 s apart by then.
        assert!(matches!(record.transitions.last(), Some((_, 1, Transition::Restored))));
        assert_eq!(world.state(1), State::Closed);
        let share = record.shares(100, 130)[1];
        assert!(share > 0.2, "it got {share} after its return");
    });
}

#[test]
fn an_endpoint_that_hangs_is_left_alone_and_comes_back() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20); 3], PACE);
        world.at(10, |world| world.cluster.endpoints[1].server = hanging());
        world.at(50, |world| world.cluster.endpoints[1].server = up(20));
        world.run(130);
        let record = &world.record;
        // Five timeouts of 5 s, one or two at a time; then a probe after 5 to 7.5 s, and another after 5 to 10 s.
        let attempts = record.count(1, 10, 50);
        assert!(attempts <= 5 + 2 + 4, "{attempts} requests went to a hung endpoint in 40 s");
        assert_eq!(record.failures, Vec::<Duration>::new(), "no client noticed, but for the wait");
        let share = record.shares(110, 130)[1];
        assert!(share > 0.15, "it got {share} after its return");
    });
}

#[test]
fn an_endpoint_that_comes_back_is_neither_starved_nor_flooded() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20); 4], PACE);
        world.at(10, |world| world.cluster.endpoints[2].server = refusing());
        world.at(30, |world| world.cluster.endpoints[2].server = up(20));
        world.run(90);
        let (restored, _, _) = world.record.transitions.last().copied().expect("it was restored");
        let second = restored.as_secs() + 1;
        let share = world.record.shares(second, second + 10)[2];
        assert!((0.1..0.45).contains(&share), "it got {share} in its first 10 s");
        assert!(world.record.crowd[2] <= 12, "{} at once", world.record.crowd[2]);
    });
}

#[test]
fn a_new_endpoint_is_neither_starved_nor_flooded() {
    // In a fast and in a slow cluster: a fixed initial estimate would be wrong in one of them.
    for millis in [2, 150] {
        with_seeds(|seed| {
            let mut world = World::new(seed, &[up(millis); 4], PACE / 2);
            world.at(30, move |world| _ = world.join(up(millis), 1.0));
            world.run(45);
            let first = world.record.shares(30, 31)[4];
            // The cheapest of five is drawn by two picks in five, and gets at most that share.
            assert!((0.01..0.5).contains(&first), "{millis} ms: it got {first} in its first second");
            let later = world.record.shares(30, 45)[4];
            assert!((0.08..0.4).contains(&later), "{millis} ms: it got {later} in its first 15 s");
            let most = world.record.crowd[..4].iter().max().expect("there are four");
            assert!(world.record.crowd[4] <= most + 3, "{:?}", world.record.crowd);
        });
    }
}

#[test]
fn a_new_endpoint_with_a_slow_start_still_gets_its_share_soon() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20); 4], PACE);
        world.at(20, |world| _ = world.join(up(200), 1.0));
        world.at(22, |world| world.cluster.endpoints[4].server = up(20));
        world.run(90);
        let share = world.record.shares(60, 90)[4];
        assert!(share > 0.1, "it got {share}");
    });
}

#[test]
fn a_new_endpoint_that_is_dead_costs_no_client_a_failure() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20); 3], PACE);
        world.at(10, |world| _ = world.join(refusing(), 1.0));
        world.run(30);
        assert_eq!(world.record.failures, Vec::<Duration>::new());
        assert!(world.record.count(3, 10, 30) <= 12, "{} went there", world.record.count(3, 10, 30));
    });
}

#[test]
fn a_new_endpoint_that_does_not_answer_is_not_flooded() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20)], PACE / 2);
        world.at(10, |world| _ = world.join(hanging(), 1.0));
        world.run(11);
        let count = world.record.count(1, 10, 11);
        assert!((1..=20).contains(&count), "{count} of 100 requests went there before its first timeout");
    });
}

#[test]
fn failing_fast_does_not_attract_traffic() {
    with_seeds(|seed| {
        // Errors take 50 µs, answers 20 ms; five errors in a row are rare.
        let erring = up(20).with(250, Outcome::Answered(500));
        let mut world = World::new(seed, &[up(20), up(20), up(20), erring], PACE / 8);
        world.run(20);
        let share = world.record.shares(0, 20)[3];
        assert!(share < 0.3, "it got {share}");
    });
}

#[test]
fn a_rare_error_costs_an_endpoint_little_of_its_share() {
    with_seeds(|seed| {
        let erring = up(20).with(2, Outcome::Answered(500));
        let mut world = World::new(seed, &[erring, up(20), up(20)], PACE);
        world.run(120);
        let share = world.record.shares(10, 120)[0];
        assert!(share > 0.1, "it got {share}");
    });
}

#[test]
fn the_last_usable_endpoint_is_not_ejected_and_while_it_fails_all_are_asked() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20); 3], PACE);
        for (second, endpoint) in [(5, 0), (10, 1), (15, 2)] {
            world.at(second, move |world| world.cluster.endpoints[endpoint].server = refusing());
        }
        world
            .at(60, |world| world.cluster.endpoints.iter_mut().for_each(|endpoint| endpoint.server = up(20)));
        world.run(60);
        let closed = (0..3).filter(|&endpoint| world.state(endpoint) == State::Closed).count();
        assert_eq!(closed, 1, "with all three dead, one stays in");
        let forced = world.record.forced.iter();
        assert!(forced.clone().all(|&at| at > Duration::from_secs(15)) && forced.count() > 100);

        // The first one asked answers, ejected or not, and the others after their probes.
        world.run(200);
        assert!(world.record.failures.iter().all(|&at| at < Duration::from_secs(60)));
        assert!((0..3).all(|endpoint| world.state(endpoint) == State::Closed));
    });
}

#[test]
fn with_all_out_breakers_are_ignored_and_an_answer_restores() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20); 3], PACE / 8);
        world.at(10, |world| {
            world.cluster.endpoints[0].server = refusing();
            world.cluster.endpoints[1].server = refusing();
        });
        // Both are ejected when they recover and the third is removed.
        world.at(14, |world| {
            assert!((0..2).all(|endpoint| matches!(world.state(endpoint), State::Open { .. })));
            world.cluster.endpoints[0].server = up(20);
            world.cluster.endpoints[1].server = up(20);
            world.cluster.leave(2);
        });
        world.run(15);
        assert!(!world.record.forced.is_empty());
        let waits = |at: &Duration| *at > Duration::from_secs(14);
        assert!(!world.record.failures.iter().any(waits), "no client waits for a probe");
        assert!((0..2).any(|endpoint| world.state(endpoint) == State::Closed));
        world.run(30);
        assert!((0..2).all(|endpoint| world.state(endpoint) == State::Closed));
    });
}

#[test]
fn traffic_follows_weights_at_rest_and_under_load() {
    // One request in flight from time to time; and about thirty at all times.
    for pace in [Duration::from_millis(100), Duration::from_micros(700)] {
        with_seeds(|seed| {
            let mut world = World::new(seed, &[], pace);
            for weight in [3.0, 1.0] {
                world.join(up(20).capacity(64), weight);
            }
            let end = if pace > PACE { 240 } else { 5 };
            world.run(end);
            let share = world.record.shares(2, end)[0];
            assert!((0.62..0.88).contains(&share), "{pace:?}: three quarters became {share}");
        });
    }
}

#[test]
fn a_weight_does_not_keep_traffic_on_a_dead_endpoint() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(20), up(20)], PACE);
        let heavy = world.join(up(20), 8.0);
        world.at(10, move |world| world.cluster.endpoints[heavy].server = refusing());
        world.run(30);
        assert!(world.record.count(heavy, 11, 30) <= 4);
        assert!(world.record.failures.len() <= 2, "{:?}", world.record.failures);
    });
}

#[test]
fn whatever_happens_the_invariants_hold_and_calm_heals_all() {
    with_seeds(|seed| {
        let mut world = World::new(seed, &[up(10), up(20), up(40)], PACE);
        for second in 1..60 {
            world.at(second, chaos);
        }
        world
            .at(60, |world| world.cluster.endpoints.iter_mut().for_each(|endpoint| endpoint.server = up(20)));
        world.run(200);
        let known: Vec<_> = world.cluster.known().map(|(number, _)| number).collect();
        assert!(known.iter().all(|&number| world.state(number) == State::Closed));
        // A request that began earlier may still hang, and so may its second attempt.
        assert!(world.record.failures.iter().all(|&at| at < Duration::from_secs(60) + 2 * TIMEOUT));
        let shares = world.record.shares(170, 200);
        assert!(known.iter().all(|&number| shares[number] > 0.3 / known.len() as f64), "{shares:?}");
    });
}

/// One random event: an endpoint changes, joins or leaves.
fn chaos(world: &mut World) {
    let known: Vec<_> = world.cluster.known().map(|(number, _)| number).collect();
    let servers = [up(5), up(20), up(200), up(10).with(300, Outcome::Answered(500)), refusing(), hanging()];
    let server = servers[world.rng().usize(..servers.len())];
    let number = known[world.rng().usize(..known.len())];
    match world.rng().u32(..8) {
        0 if known.len() > 1 => world.cluster.leave(number),
        1 if known.len() < 8 => _ = world.join(server, 1.0),
        _ => world.cluster.endpoints[number].server = server,
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::new(7, &[up(10), up(20), up(40)], PACE);
        for second in 1..20 {
            world.at(second, chaos);
        }
        world.run(25);
        world.record.attempts
    };
    assert_eq!(run(), run());
}
