//! What a bound name costs: nothing is allocated for one that is known, and one that is not is bound quickly, among
//! 10,000 names and a dtab of 500 entries.
#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(unsafe_code, reason = "an allocator that counts is unsafe by its trait")]

mod idle; // How long names stay bound.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir::app::config_of;
use weir::config::Settings;
use weir::domain::catalog::{AppProtocol, Catalog, Namer, Service, ServiceKey, ServicePort};
use weir::domain::dtab::{Bounds, Dtab, Origin};
use weir::domain::name::{Host, Scope};
use weir::proxy::routing::cache::RouteCache;
use weir::proxy::routing::snapshot::Snapshot;

const NAMES: usize = 10_000;
const ENTRIES: usize = 500;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A snapshot of 10,000 services, each with an entry that leads nowhere or a common one for its name.
fn snapshot() -> Arc<Snapshot> {
    let mut catalog = Catalog::default();
    for at in 0..NAMES {
        let key = ServiceKey { namer: Namer::Fs, namespace: "".into(), name: format!("service-{at}").into() };
        let port = ServicePort {
            name: None,
            number: 0,
            protocol: AppProtocol::Sniff,
            endpoints: Arc::new([]),
            node_port: None,
        };
        let service = Service {
            key: key.clone(),
            addresses: Vec::new(),
            ports: vec![port],
            written: true,
            external_name: None,
            affinity: None,
        };
        catalog.services.insert(key, Arc::new(service));
    }
    let mut text = String::new();
    for at in 0..ENTRIES {
        let _ = writeln!(text, "/svc/service-{at} => /svc/service-{at}-v2 ;");
    }
    let mut dtab = Dtab::base();
    dtab.append(Dtab::parse(&text, Origin::Configured, &Bounds::CONFIGURATION).unwrap());
    let settings = Settings { dtab: Arc::new(dtab), ..Settings::default() };
    Arc::new(Snapshot::build(&config_of(&settings), Arc::new(catalog), None))
}

#[test]
fn a_known_name_allocates_nothing_and_an_unknown_one_is_bound_quickly() {
    let (snapshot, routes) = (snapshot(), RouteCache::default());
    let names: Vec<String> = (0..NAMES).map(|at| format!("service-{at}")).collect();
    let each =
        || names.iter().map(|name| Host { host: name.as_str().into(), port: None, scope: Scope::Anywhere });
    let begun = Instant::now();
    each().for_each(|host| drop(routes.of(&snapshot, &host)));
    let miss = begun.elapsed() / NAMES as u32;
    assert_eq!(routes.len(), NAMES);
    let (begun, before) = (Instant::now(), ALLOCATIONS.get());
    each().for_each(|host| drop(routes.of(&snapshot, &host)));
    let hit = begun.elapsed() / NAMES as u32;
    assert_eq!(ALLOCATIONS.get(), before, "a hit allocates");
    println!("a miss: {miss:?}; a hit: {hit:?}");
    // 100 µs and less when built for release; unoptimised, on a machine that others use, it may be twenty times that.
    let bound = if cfg!(debug_assertions) { Duration::from_millis(2) } else { Duration::from_micros(100) };
    assert!(miss < bound, "a miss takes {miss:?}");
    assert!(hit < bound / 20, "a hit takes {hit:?}");
    let begun = Instant::now();
    routes.sweep(&snapshot, begun + Duration::from_secs(1));
    println!("a look over all of them: {:?}", begun.elapsed());
    assert_eq!(routes.len(), NAMES);
}
