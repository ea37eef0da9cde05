//! One worker's bound names, so that a name is delegated once and then found.
//!
//! They last as long as the world they were bound in: endpoints come and go without a new one, so that their changes bind
//! nothing anew. A name that is known costs one look-up and a mark; nothing is allocated, and no clock is read. Which
//! names have been idle shows when the worker's timer looks for marks ([`Routes::sweep`]), as in the CLOCK algorithm
//! (Corbató, "A Paging Experiment with the Multics System", 1969). A table that is full makes room in the same way: what
//! was not used since the last look goes, so that a client that asks for ever new names does not drive out those in use.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::route::Route;
use super::world::World;
use crate::domain::name::{Host, Path};
use crate::telemetry::{Count, Level};

/// At most this long between two looks for names that are not used.
const LOOK: Duration = Duration::from_secs(60);

/// What is counted of all workers' bound names.
#[derive(Debug, Default)]
pub struct Bindings {
    /// Names that are bound now.
    pub bound: Level,
    /// Names that had to be bound.
    pub misses: Count,
    /// Names that were forgotten while their world lasted; see [`Bindings::REASONS`].
    pub evicted: [Count; Self::REASONS.len()],
}

impl Bindings {
    /// The labels of [`Bindings::evicted`].
    pub const REASONS: [&'static str; 2] = ["idle", "full"];
}

/// One worker's routes.
#[derive(Debug, Default)]
pub struct Routes {
    table: RefCell<Table>,
    stats: Arc<Bindings>,
}

#[derive(Debug, Default)]
struct Table {
    world: Option<Arc<World>>,
    /// By host, and of each by port.
    routes: HashMap<Box<str>, Vec<Entry>, RandomState>,
    /// Entries, of all hosts.
    len: usize,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    port: Option<u16>,
    route: Rc<Route>,
    /// Used since the last look.
    used: Cell<bool>,
    /// When it was bound, or last seen to have been used.
    since: Instant,
}

impl Routes {
    /// No routes yet. What becomes of them is counted in `stats`.
    pub fn new(stats: Arc<Bindings>) -> Self {
        Self { table: RefCell::default(), stats }
    }

    /// The route of `host` in `world`.
    pub fn of(&self, world: &Arc<World>, host: &Host<'_>) -> Rc<Route> {
        self.find(world, &host.host, host.port, || name_of(world, host))
    }

    /// The route of `name` in `world`, for names that are not made of a host.
    pub fn named(&self, world: &Arc<World>, name: &Path) -> Rc<Route> {
        // No host starts with a slash, so these never meet those of `of`.
        self.find(world, &name.to_string(), None, || name.clone())
    }

    /// The route of the name whose only label, after the prefix, is `label`: no port is cut from it.
    pub fn token(&self, world: &Arc<World>, label: &str) -> Rc<Route> {
        self.find(world, label, None, || world.terms.prefix.join(Path::of([label]).labels()))
    }

    /// How many names are bound.
    pub fn len(&self) -> usize {
        self.table.borrow().len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything, so that an old world can go.
    pub fn forget_other_than(&self, world: &Arc<World>) {
        let mut table = self.table.borrow_mut();
        if table.world.is_some() && !table.is_of(world) {
            self.renew(&mut table, None);
        }
    }

    /// Forgets what has not been used for `limits.bindingIdle`, give or take the time between two looks.
    pub fn sweep(&self, now: Instant) {
        let mut table = self.table.borrow_mut();
        let Some(idle) = table.world.as_ref().map(|world| world.terms.limits.binding_idle) else { return };
        let due = table.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= LOOK.min(idle / 4));
        if due {
            table.swept = Some(now);
            let gone = table.retain(|entry| {
                if entry.used.take() {
                    entry.since = now;
                }
                now.saturating_duration_since(entry.since) < idle
            });
            self.forgot(gone, 0);
        }
    }

    fn find(
        &self,
        world: &Arc<World>,
        key: &str,
        port: Option<u16>,
        name: impl FnOnce() -> Path,
    ) -> Rc<Route> {
        let mut table = self.table.borrow_mut();
        if !table.is_of(world) {
            self.renew(&mut table, Some(world.clone()));
        }
        let known = table.routes.get(key).and_then(|ports| ports.iter().find(|it| it.port == port));
        if let Some(entry) = known {
            entry.used.set(true);
            return entry.route.clone();
        }
        let route = Rc::new(world.bind(&name(), None));
        self.add(&mut table, key, port, &route, world.terms.limits.bindings);
        route
    }

    fn add(&self, table: &mut Table, key: &str, port: Option<u16>, route: &Rc<Route>, limit: usize) {
        self.stats.misses.up();
        if table.len >= limit {
            self.forgot(table.make_room(limit), 1);
        }
        let entry = Entry { port, route: route.clone(), used: Cell::new(false), since: Instant::now() };
        table.routes.entry(key.into()).or_default().push(entry);
        table.len += 1;
        self.stats.bound.up();
    }

    fn renew(&self, table: &mut Table, world: Option<Arc<World>>) {
        self.stats.bound.down_by(table.len);
        *table = Table { world, ..Table::default() };
    }

    fn forgot(&self, count: usize, reason: usize) {
        self.stats.bound.down_by(count);
        self.stats.evicted[reason].add(count as u64);
    }
}

impl Table {
    fn is_of(&self, world: &Arc<World>) -> bool {
        self.world.as_ref().is_some_and(|known| Arc::ptr_eq(known, world))
    }

    /// Forgets what was not used since the last look; where everything was, every other one, so that the next name need
    /// not look again. Returns how many.
    fn make_room(&mut self, limit: usize) -> usize {
        let unused = self.retain(|entry| entry.used.take());
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

    /// Keeps those entries that `keep` wants, and returns how many went.
    fn retain(&mut self, mut keep: impl FnMut(&mut Entry) -> bool) -> usize {
        let mut left = 0;
        self.routes.retain(|_, ports| {
            ports.retain_mut(&mut keep);
            left += ports.len();
            !ports.is_empty()
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
pub fn name_of(world: &World, host: &Host<'_>) -> Path {
    let mut name = world.terms.prefix.clone();
    name.push(host.label());
    name
}
