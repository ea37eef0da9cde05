//! How long names stay bound.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir::app;
use weir::config::Settings;
use weir::domain::name::{Host, Scope};
use weir::proxy::routing::cache::{RouteCache, RouteCacheStats};
use weir::proxy::routing::snapshot::Snapshot;

fn snapshot(bindings: usize, idle: Duration) -> Arc<Snapshot> {
    let mut settings = Settings::default();
    settings.limits.bindings = bindings;
    settings.limits.binding_idle = idle;
    let config = app::config_of(&settings);
    Arc::new(Snapshot::build(&config, Arc::default(), None))
}

fn host(name: &str) -> Host<'_> {
    Host { host: name.into(), port: None, scope: Scope::Anywhere }
}

/// No routes yet, and their counts.
fn routes() -> (RouteCache, Arc<RouteCacheStats>) {
    let counts = Arc::<RouteCacheStats>::default();
    (RouteCache::new(counts.clone()), counts)
}

fn evicted(counts: &RouteCacheStats) -> [u64; 2] {
    [0, 1].map(|reason| counts.evicted[reason].value())
}

/// Asserts that the gauge is what is there.
fn assert_bound((routes, counts): (&RouteCache, &RouteCacheStats), count: usize) {
    assert_eq!((routes.len(), counts.bound.value()), (count, count));
}

#[test]
fn a_name_that_is_not_used_for_the_idle_time_is_forgotten_and_one_in_use_stays() {
    let (snapshot, start) = (snapshot(100, Duration::from_secs(600)), Instant::now());
    let (routes, counts) = routes();
    let kept = routes.of(&snapshot, &host("kept"));
    routes.of(&snapshot, &host("idle"));
    routes.named(&snapshot, &"/svc/idle".parse().unwrap());
    assert_bound((&routes, &counts), 3);
    for minute in 1..=10 {
        assert!(Rc::ptr_eq(&kept, &routes.of(&snapshot, &host("kept"))), "minute {minute}");
        routes.sweep(&snapshot, start + Duration::from_secs(60 * minute));
    }
    assert_eq!(evicted(&counts), [0, 0], "nine minutes and a bit");
    routes.of(&snapshot, &host("kept"));
    routes.sweep(&snapshot, start + Duration::from_secs(601 + 60));
    assert_eq!(evicted(&counts), [2, 0]);
    assert_bound((&routes, &counts), 1);
    routes.sweep(&snapshot, start + Duration::from_secs(2000));
    assert_bound((&routes, &counts), 0);
}

#[test]
fn a_full_table_forgets_those_that_were_not_used_first() {
    let (snapshot, (routes, counts)) = (snapshot(100, Duration::from_secs(600)), routes());
    let hot: Vec<String> = (0..50).map(|at| format!("hot-{at}")).collect();
    let first: Vec<_> = hot.iter().map(|name| routes.of(&snapshot, &host(name))).collect();
    for new in 0..10_000 {
        routes.of(&snapshot, &host(&format!("new-{new}")));
        hot.iter().for_each(|name| drop(routes.of(&snapshot, &host(name))));
        assert!(routes.len() <= 100);
    }
    assert!(
        hot.iter().zip(&first).all(|(name, route)| Rc::ptr_eq(route, &routes.of(&snapshot, &host(name))))
    );
    assert_eq!(counts.misses.value(), 10_050);
    assert_eq!(evicted(&counts)[1], 10_050 - routes.len() as u64);
    assert_bound((&routes, &counts), routes.len());
}

#[test]
fn a_full_table_of_names_that_are_all_in_use_still_has_room() {
    let (snapshot, (routes, counts)) = (snapshot(10, Duration::from_secs(600)), routes());
    let names: Vec<String> = (0..11).map(|at| format!("name-{at}")).collect();
    for _ in 0..5 {
        for name in &names {
            routes.of(&snapshot, &host(name));
            routes.of(&snapshot, &host(name));
            assert!(routes.len() <= 10);
        }
    }
    assert_bound((&routes, &counts), routes.len());
}

#[test]
fn one_binding_at_most_is_one_at_most() {
    let (snapshot, (routes, counts)) = (snapshot(1, Duration::from_secs(600)), routes());
    for name in ["a", "b", "a", "a", "b"] {
        routes.of(&snapshot, &host(name));
        assert_bound((&routes, &counts), 1);
    }
}

#[test]
fn ports_of_a_host_are_names_of_their_own() {
    let (snapshot, (routes, counts)) = (snapshot(100, Duration::from_secs(600)), routes());
    let one = routes.of(&snapshot, &host("hello"));
    let other =
        routes.of(&snapshot, &Host { host: "hello".into(), port: Some(8080), scope: Scope::Anywhere });
    assert!(!Rc::ptr_eq(&one, &other));
    assert_bound((&routes, &counts), 2);
}

#[test]
fn other_terms_bind_anew_and_what_holds_no_more_is_let_go() {
    let one = snapshot(100, Duration::from_secs(600));
    let other = Snapshot::build(&one.config, Arc::default(), Some(&one));
    let (routes, counts) = routes();
    let first = routes.of(&one, &host("hello"));
    assert!(!Rc::ptr_eq(&first, &routes.of(&other, &host("hello"))));
    assert_bound((&routes, &counts), 1);
    let next = Snapshot::build(&one.config, Arc::default(), Some(&other));
    routes.sweep(&next, Instant::now());
    assert_bound((&routes, &counts), 0);
    assert_eq!((Rc::strong_count(&first), evicted(&counts)), (1, [0, 0]));
}
