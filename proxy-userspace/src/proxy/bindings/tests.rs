//! How long names stay bound.

use super::*;
use crate::app;
use crate::config::Settings;

fn world(bindings: usize, idle: Duration) -> Arc<World> {
    let mut settings = Settings::default();
    settings.limits.bindings = bindings;
    settings.limits.binding_idle = idle;
    let terms = app::terms_of(&settings);
    Arc::new(World::build(&terms, Arc::default(), None, Instant::now()))
}

fn host(name: &str) -> Host<'_> {
    Host { host: name.into(), port: None }
}

fn evicted(routes: &Routes) -> [u64; 2] {
    [0, 1].map(|reason| routes.stats.evicted[reason].value())
}

/// Asserts that the gauge is what is there.
fn assert_bound(routes: &Routes, count: usize) {
    assert_eq!((routes.len(), routes.stats.bound.value()), (count, count));
}

#[test]
fn a_name_that_is_not_used_for_the_idle_time_is_forgotten_and_one_in_use_stays() {
    let (world, routes, start) = (world(100, Duration::from_secs(600)), Routes::default(), Instant::now());
    let kept = routes.of(&world, &host("kept"));
    routes.of(&world, &host("idle"));
    routes.named(&world, &"/svc/idle".parse().unwrap());
    assert_bound(&routes, 3);
    for minute in 1..=10 {
        assert!(Rc::ptr_eq(&kept, &routes.of(&world, &host("kept"))), "minute {minute}");
        routes.sweep(start + Duration::from_secs(60 * minute));
    }
    assert_eq!(evicted(&routes), [0, 0], "nine minutes and a bit");
    routes.of(&world, &host("kept"));
    routes.sweep(start + Duration::from_secs(601 + 60));
    assert_eq!(evicted(&routes), [2, 0]);
    assert_bound(&routes, 1);
    routes.sweep(start + Duration::from_secs(2000));
    assert_bound(&routes, 0);
}

#[test]
fn a_full_table_forgets_those_that_were_not_used_first() {
    let (world, routes) = (world(100, Duration::from_secs(600)), Routes::default());
    let hot: Vec<String> = (0..50).map(|at| format!("hot-{at}")).collect();
    let first: Vec<_> = hot.iter().map(|name| routes.of(&world, &host(name))).collect();
    for new in 0..10_000 {
        routes.of(&world, &host(&format!("new-{new}")));
        hot.iter().for_each(|name| drop(routes.of(&world, &host(name))));
        assert!(routes.len() <= 100);
    }
    assert!(hot.iter().zip(&first).all(|(name, route)| Rc::ptr_eq(route, &routes.of(&world, &host(name)))));
    assert_eq!(routes.stats.misses.value(), 10_050);
    assert_eq!(evicted(&routes)[1], 10_050 - routes.len() as u64);
    assert_bound(&routes, routes.len());
}

#[test]
fn a_full_table_of_names_that_are_all_in_use_still_has_room() {
    let (world, routes) = (world(10, Duration::from_secs(600)), Routes::default());
    let names: Vec<String> = (0..11).map(|at| format!("name-{at}")).collect();
    for _ in 0..5 {
        for name in &names {
            routes.of(&world, &host(name));
            routes.of(&world, &host(name));
            assert!(routes.len() <= 10);
        }
    }
    assert_bound(&routes, routes.len());
}

#[test]
fn one_binding_at_most_is_one_at_most() {
    let (world, routes) = (world(1, Duration::from_secs(600)), Routes::default());
    for name in ["a", "b", "a", "a", "b"] {
        routes.of(&world, &host(name));
        assert_bound(&routes, 1);
    }
}

#[test]
fn ports_of_a_host_are_names_of_their_own() {
    let (world, routes) = (world(100, Duration::from_secs(600)), Routes::default());
    let one = routes.of(&world, &host("hello"));
    let other = routes.of(&world, &Host { host: "hello".into(), port: Some(8080) });
    assert!(!Rc::ptr_eq(&one, &other));
    assert_bound(&routes, 2);
}

#[test]
fn another_world_binds_anew_and_an_old_one_is_let_go() {
    let (one, other) = (world(100, Duration::from_secs(600)), world(100, Duration::from_secs(600)));
    let routes = Routes::default();
    let first = routes.of(&one, &host("hello"));
    assert!(!Rc::ptr_eq(&first, &routes.of(&other, &host("hello"))));
    assert_bound(&routes, 1);
    assert_eq!(Arc::strong_count(&one), 1);
    routes.forget_other_than(&one);
    assert_bound(&routes, 0);
    assert_eq!((Arc::strong_count(&other), evicted(&routes)), (1, [0, 0]));
}
