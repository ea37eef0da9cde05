//! One worker's bound names, so that a name is delegated once and then found by one look-up.
//!
//! A route stays valid while its dependencies are unchanged: endpoints come and go without a new snapshot, and a
//! service that is added or removed unbinds only the names that asked for it. A known name costs one look-up and a
//! mark; nothing is allocated, and no clock is read. The worker's timer finds idle names by checking the marks
//! ([`RouteCache::sweep`]), as in the CLOCK algorithm (Corbató, "A Paging Experiment with the Multics System", 1969). A
//! full table makes room in the same way: routes that were not used since the last check are removed, so that a client
//! that keeps asking for new names does not evict those in use.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::route::Route;
use super::snapshot::{Generation, Snapshot};
use crate::domain::name::{Host, Path, Scope};
use crate::proxy::listener::ListenerId;
use crate::proxy::upstream::cluster::LATELY;
use crate::telemetry::{Counter, Gauge};

/// Length in bytes of the longest name that is cached: the longest host with its port and a prefix, and a margin.
/// Longer names are bound anew each time, since a table of names as long as a head would be large.
const LONGEST: usize = 512;

/// Longest interval between two checks for unused names.
const LOOK: Duration = Duration::from_secs(60);

/// Counters of all workers' bound names.
#[derive(Debug, Default)]
pub struct RouteCacheStats {
    /// Names bound now.
    pub bound: Gauge,
    /// Names that had to be bound.
    pub misses: Counter,
    /// Valid names that were evicted; see [`RouteCacheStats::REASONS`].
    pub evicted: [Counter; Self::REASONS.len()],
}

impl RouteCacheStats {
    /// The labels of [`RouteCacheStats::evicted`].
    pub const REASONS: [&'static str; 2] = ["idle", "full"];
}

/// One worker's routes.
#[derive(Debug, Default)]
pub struct RouteCache {
    table: RefCell<Table>,
    stats: Arc<RouteCacheStats>,
}

#[derive(Debug, Default)]
struct Table {
    /// By host; each entry lists the routes with their keys.
    routes: HashMap<Box<str>, Vec<CachedRoute>, RandomState>,
    /// Number of routes, of all hosts.
    len: usize,
    /// When idle names were last checked.
    looked: Option<Instant>,
}

/// What distinguishes the routes of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RouteKey {
    /// Whose rules bound it.
    router: ListenerId,
    port: Option<u16>,
    /// Two hosts with the same text can differ in this: one may not be asked of outside DNS.
    scope: Scope,
}

/// A route that was valid in the snapshot of a generation.
#[derive(Debug)]
struct CachedRoute {
    key: RouteKey,
    good: Cell<Generation>,
    route: Rc<Route>,
    /// Used since the last check.
    used: Cell<bool>,
    /// When it was bound, or last found to have been used.
    since: Instant,
}

impl RouteCache {
    /// An empty cache. Its events are counted in `stats`.
    pub fn new(stats: Arc<RouteCacheStats>) -> Self {
        Self { table: RefCell::default(), stats }
    }

    /// The route of `host` in `snapshot`.
    pub fn of(&self, snapshot: &Snapshot, host: &Host<'_>) -> Rc<Route> {
        let key = RouteKey { router: snapshot.config.listener, port: host.port, scope: host.scope };
        self.known(snapshot, &host.host, key)
            .unwrap_or_else(|| self.bind(snapshot, &host.host, key, &name_of(snapshot, host)))
    }

    /// The route of `name` in `snapshot`, for names that are not made from a host.
    pub fn named(&self, snapshot: &Snapshot, name: &Path) -> Rc<Route> {
        // No host starts with a slash, so these keys never collide with those of `of`.
        let (text, labels) = (name.to_string(), name.labels());
        // A name that an identifier made has at most one label of a host.
        let scope = (0..labels.len()).map(|at| labels.scope(at)).max().unwrap_or_default();
        let key = RouteKey { router: snapshot.config.listener, port: None, scope };
        self.known(snapshot, &text, key).unwrap_or_else(|| self.bind(snapshot, &text, key, name))
    }

    /// The route of the name whose only label after the prefix is `label`: no port is split off.
    pub fn token(&self, snapshot: &Snapshot, label: &str) -> Rc<Route> {
        let key = RouteKey { router: snapshot.config.listener, port: None, scope: Scope::Anywhere };
        self.known(snapshot, label, key).unwrap_or_else(|| {
            let name = snapshot.config.prefix().join(Path::from_labels([label]).labels());
            self.bind(snapshot, label, key, &name)
        })
    }

    /// How many names are bound.
    pub fn len(&self) -> usize {
        self.table.borrow().len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes routes that are no longer valid, and with them the clusters that are gone; and those that were unused
    /// for `limits.bindingIdle`, accurate to the time between two checks; or only for [`LATELY`], where there are too many
    /// clusters.
    pub fn sweep(&self, snapshot: &Snapshot, now: Instant) {
        let mut table = self.table.borrow_mut();
        let good = snapshot.generation();
        let stale = table.retain(|it| it.good.get() == good || it.route.holds(snapshot, it.good.get()));
        self.stats.bound.dec_by(stale);
        let mut idle = snapshot.config.limits.binding_idle;
        if snapshot.registry().is_crowded() {
            idle = idle.min(LATELY);
        }
        let is_due = |looked| now.saturating_duration_since(looked) >= LOOK.min(idle / 4);
        if table.looked.is_none_or(is_due) {
            table.looked = Some(now);
            let gone = table.retain(|it| {
                if it.used.take() {
                    it.since = now;
                }
                now.saturating_duration_since(it.since) < idle
            });
            self.forgot(gone, 0);
        }
    }

    /// Removes routes that were not used since the last check, for lack of memory. Returns how many were removed.
    pub fn shed(&self) -> usize {
        let mut table = self.table.borrow_mut();
        let gone = table.retain(|kept| kept.used.take());
        table.routes.shrink_to_fit();
        self.stats.bound.dec_by(gone);
        gone
    }

    fn known(&self, snapshot: &Snapshot, text: &str, key: RouteKey) -> Option<Rc<Route>> {
        let table = self.table.borrow();
        let kept = table.routes.get(text)?.iter().find(|kept| kept.key == key)?;
        if kept.good.get() != snapshot.generation() {
            if !kept.route.holds(snapshot, kept.good.get()) {
                return None;
            }
            kept.good.set(snapshot.generation());
        }
        kept.used.set(true);
        Some(kept.route.clone())
    }

    #[cold]
    fn bind(&self, snapshot: &Snapshot, text: &str, key: RouteKey, name: &Path) -> Rc<Route> {
        self.stats.misses.inc();
        let route = Rc::new(snapshot.bind(name, None));
        if text.len() > LONGEST {
            return route;
        }
        let mut table = self.table.borrow_mut();
        // An invalid route makes room for its successor.
        self.stats.bound.dec_by(table.remove(text, key));
        let limit = snapshot.config.limits.bindings;
        if table.len >= limit {
            self.forgot(table.make_room(limit), 1);
        }
        let (good, used) = (Cell::new(snapshot.generation()), Cell::new(false));
        let kept = CachedRoute { key, good, route: route.clone(), used, since: Instant::now() };
        table.routes.entry(text.into()).or_default().push(kept);
        table.len += 1;
        self.stats.bound.inc();
        route
    }

    fn forgot(&self, count: usize, reason: usize) {
        self.stats.bound.dec_by(count);
        self.stats.evicted[reason].add(count as u64);
    }
}

impl Table {
    /// Removes one route, if present. Returns how many were removed.
    fn remove(&mut self, text: &str, key: RouteKey) -> usize {
        let Some(routes) = self.routes.get_mut(text) else { return 0 };
        let before = routes.len();
        routes.retain(|kept| kept.key != key);
        let gone = before - routes.len();
        self.len -= gone;
        gone
    }

    /// Removes routes that were not used since the last check; where all were used, every second one, so that the next
    /// name needs no check. Returns how many were removed.
    fn make_room(&mut self, limit: usize) -> usize {
        let unused = self.retain(|kept| kept.used.take());
        if self.len < limit {
            return unused;
        }
        let mut turn = true;
        unused
            + self.retain(|_| {
                turn = !turn;
                turn
            })
    }

    /// Keeps the routes for which `keep` is true. Returns how many were removed.
    fn retain(&mut self, mut keep: impl FnMut(&mut CachedRoute) -> bool) -> usize {
        let mut left = 0;
        self.routes.retain(|_, routes| {
            routes.retain_mut(&mut keep);
            left += routes.len();
            !routes.is_empty()
        });
        let gone = self.len - left;
        self.len = left;
        if gone > 0 && self.routes.capacity() > 1024 && self.routes.capacity() / 4 > self.routes.len() {
            self.routes.shrink_to_fit();
        }
        gone
    }
}

/// The name of a request for `host`: `/svc/hello:8080`.
pub fn name_of(snapshot: &Snapshot, host: &Host<'_>) -> Path {
    let mut name = snapshot.config.prefix().clone();
    name.push_scoped(host.label(), host.scope);
    name
}
