//! The memory budget: how much is in use, what is closed when it gets scarce, and who gets nothing new then.
//!
//! A thread of the control plane measures what is in use some times a second (`app/memory`) and tells it here. Between two
//! measurements, what the allocator counts of large blocks says how much was added. A request costs two loads and a
//! comparison, as long as memory is not short.

mod shed;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use self::shed::{Above, Chosen, Round, Sizes};
use super::fault::{Fault, Kind};
use super::holders::HolderId;
use crate::allocator::in_large_blocks;
use crate::domain::memory::{Level, Source, tight};
use crate::telemetry::Counter;
use crate::transport::{Activity, Held};

/// From this part of the budget on, in percent, the use is measured as soon as that much may be in use.
pub const ALERT: u64 = 60;

/// A head of fewer bytes than this is read on, however short memory is.
const SMALL_HEAD: u32 = 4 * 1024;

/// The memory budget of the process.
#[derive(Debug)]
pub struct Memory {
    /// Bytes that may be in use.
    budget: AtomicU64,
    /// Bytes that were in use when that was last measured.
    used: AtomicU64,
    /// See [`Level`].
    level: AtomicU8,
    /// [`in_large_blocks`] from which on the use is to be measured at once: memory may get scarce.
    alert_at: AtomicUsize,
    /// [`in_large_blocks`] at which [`Level::Refuse`] begins.
    refuse_at: AtomicUsize,
    /// [`in_large_blocks`] from which on exchanges of those above their share end as they go on: half-way from
    /// [`Level::Refuse`] to [`Level::Full`], so that it does not come to that.
    cut_at: AtomicUsize,
    /// [`in_large_blocks`] at which [`Level::Full`] begins.
    full_at: AtomicUsize,
    /// Where the budget comes from: [`Source::ALL`].
    source: AtomicU8,
    /// Those that hold more than their fair share, once memory is scarce. They are kept as they are: whoever comes back is the
    /// same one.
    above: ArcSwap<HashMap<HolderId, Above>>,
    /// What was closed or dropped for lack of memory, by kind: [`Shed::LABELS`].
    pub shed: [Counter; Shed::LABELS.len()],
    /// What was refused for lack of memory, by kind: [`Refused::LABELS`].
    pub refused: [Counter; Refused::LABELS.len()],
    /// Tells the workers of the level.
    told: watch::Sender<Level>,
    /// The thread that measures.
    meter: OnceLock<Thread>,
    /// Whether it was woken since it last measured.
    woken: AtomicBool,
}

/// What is closed or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shed {
    /// Clients' connections between two requests.
    Idle = 0,
    /// Clients' connections in the middle of a head.
    Head = 1,
    /// Byte tunnels.
    Tunnel = 2,
    /// Clients' connections with exchanges on which nothing passes.
    Exchange = 3,
    /// Unused connections to endpoints.
    Pool = 4,
    /// Bound names.
    Binding = 5,
}

impl Shed {
    /// The labels in metrics, in order.
    pub const LABELS: [&'static str; 6] = ["idle", "head", "tunnel", "exchange", "pool", "binding"];
}

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A new connection.
    Connection = 0,
    /// A new request on an open one.
    Request = 1,
    /// The rest of a large head.
    Head = 2,
    /// A page of the admin.
    Page = 3,
}

impl Refused {
    /// The labels in metrics, in order.
    pub const LABELS: [&'static str; 4] = ["connection", "request", "head", "page"];
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            budget: AtomicU64::new(u64::MAX),
            used: AtomicU64::new(0),
            level: AtomicU8::new(Level::Normal as u8),
            alert_at: AtomicUsize::new(usize::MAX),
            refuse_at: AtomicUsize::new(usize::MAX),
            cut_at: AtomicUsize::new(usize::MAX),
            full_at: AtomicUsize::new(usize::MAX),
            source: AtomicU8::new(Source::default() as u8),
            above: ArcSwap::default(),
            shed: Default::default(),
            refused: Default::default(),
            told: watch::Sender::default(),
            meter: OnceLock::new(),
            woken: AtomicBool::new(false),
        }
    }
}

impl Memory {
    /// This thread measures what is in use, and is woken when much was added.
    pub fn is_measured_by(&self, thread: Thread) {
        // There is one.
        let _ = self.meter.set(thread);
    }

    /// `used` bytes of `budget` are in use, while large blocks had `large` bytes. Returns the level before and the one now.
    pub fn measured(&self, used: u64, budget: u64, large: usize) -> (Level, Level) {
        self.woken.store(false, Ordering::Relaxed);
        let before = self.level();
        let now = before.next(used, budget);
        self.used.store(used, Ordering::Relaxed);
        self.budget.store(budget, Ordering::Relaxed);
        self.level.store(now as u8, Ordering::Relaxed);
        let mark = |begins: u64| large.saturating_add(bytes(begins.saturating_sub(used)));
        let at = |level: Level| if now >= level { 0 } else { mark(level.begins(budget)) };
        // Measured anew only when one hundredth more may be in use, and at any time where that decides.
        let alert = (budget / 100 * ALERT).max(used.saturating_add(budget / 100));
        let alert_at = if now > Level::Normal { 0 } else { mark(alert) };
        self.alert_at.store(alert_at, Ordering::Relaxed);
        self.refuse_at.store(at(Level::Refuse), Ordering::Relaxed);
        self.cut_at.store(mark(tight(budget)), Ordering::Relaxed);
        self.full_at.store(at(Level::Full), Ordering::Relaxed);
        if now != before {
            self.told.send_replace(now);
        }
        (before, now)
    }

    /// [`in_large_blocks`] from which on memory is short: [`Level::Refuse`].
    pub fn short_at(&self) -> usize {
        self.refuse_at.load(Ordering::Relaxed)
    }

    /// The level when that was last measured.
    pub fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Normal,
            1 => Level::Shed,
            2 => Level::Refuse,
            _ => Level::Full,
        }
    }

    /// The bytes in use, and the budget, when that was last measured; no budget before the first time.
    pub fn used(&self) -> (u64, Option<u64>) {
        let budget = self.budget.load(Ordering::Relaxed);
        (self.used.load(Ordering::Relaxed), Some(budget).filter(|budget| *budget != u64::MAX))
    }

    /// The budget comes from there.
    pub fn set_source(&self, source: Source) {
        self.source.store(source as u8, Ordering::Relaxed);
    }

    /// Where the budget comes from.
    pub fn source(&self) -> Source {
        let source = usize::from(self.source.load(Ordering::Relaxed));
        Source::ALL.get(source).copied().unwrap_or_default()
    }

    /// These hold more than their fair share.
    pub fn set_above(&self, above: HashMap<HolderId, Above>) {
        self.above.store(above.into());
    }

    /// Nobody does.
    pub fn clear_above(&self) {
        if !self.above.load().is_empty() {
            self.above.store(Arc::default());
        }
    }

    /// Those that hold most beyond their fair share, `most` of them, as far as that is known.
    pub fn above(&self, most: usize) -> Vec<Above> {
        let mut above: Vec<Above> = self.above.load().values().cloned().collect();
        above.sort_unstable_by_key(|it| std::cmp::Reverse(it.bytes.saturating_sub(it.share)));
        above.truncate(most);
        above
    }

    /// Follows the level.
    pub fn follow(&self) -> watch::Receiver<Level> {
        self.told.subscribe()
    }

    /// Whether nobody gets anything new.
    pub fn is_full(&self) -> bool {
        in_large_blocks() >= self.full_at.load(Ordering::Relaxed)
    }

    /// Whether memory may be scarce; if so, the use is measured at once.
    #[inline]
    fn may_be_scarce(&self) -> bool {
        let may_be = in_large_blocks() >= self.alert_at.load(Ordering::Relaxed);
        if may_be {
            self.wake();
        }
        may_be
    }

    #[cold]
    fn wake(&self) {
        if self.level() == Level::Normal
            && !self.woken.swap(true, Ordering::Relaxed)
            && let Some(meter) = self.meter.get()
        {
            meter.unpark();
        }
    }

    fn is_tight(&self) -> bool {
        in_large_blocks() >= self.cut_at.load(Ordering::Relaxed)
    }

    fn is_short(&self) -> bool {
        in_large_blocks() >= self.refuse_at.load(Ordering::Relaxed)
    }

    /// Whether `holder` has more than its fair share, as far as that is known.
    pub fn is_above(&self, holder: HolderId) -> bool {
        self.above.load().contains_key(&holder)
    }

    /// Whether a holder gets nothing new. Only where memory may be scarce it is asked who that is.
    #[inline]
    pub fn refuses(&self, holder: impl FnOnce() -> HolderId) -> bool {
        self.may_be_scarce() && self.refuses_now(holder)
    }

    #[cold]
    fn refuses_now(&self, holder: impl FnOnce() -> HolderId) -> bool {
        self.is_short() && (self.is_full() || self.is_above(holder()))
    }

    /// What ends on a connection of a holder before it takes more memory: a head that grows; and when there is little left,
    /// whatever moves, of clients that hold more than their fair share.
    #[inline]
    pub fn cuts(&self, holder: impl FnOnce() -> HolderId, activity: &Activity) -> Option<Held> {
        if self.may_be_scarce() { self.cuts_now(holder, activity) } else { None }
    }

    #[cold]
    fn cuts_now(&self, holder: impl FnOnce() -> HolderId, activity: &Activity) -> Option<Held> {
        let held = activity.held();
        let is_cut = match held {
            Held::Head(SMALL_HEAD..) => self.refuses_now(holder),
            Held::Exchanges(_) | Held::Tunnel => self.is_tight() && self.is_above(holder()),
            Held::Head(_) | Held::Idle => false,
        };
        is_cut.then_some(held)
    }

    /// Ends a connection that [`Self::cuts`], and counts it.
    #[cold]
    pub fn cut(&self, held: Held, activity: &Activity) {
        match held {
            Held::Head(_) => self.refused[Refused::Head as usize].inc(),
            Held::Tunnel => self.shed[Shed::Tunnel as usize].inc(),
            Held::Exchanges(_) | Held::Idle => self.shed[Shed::Exchange as usize].inc(),
        }
        activity.shed();
    }

    /// An exchange begins at `now` on a connection that may have others. One that was told to end stays when it is used again,
    /// but not while its client gets nothing new.
    pub fn begin_further(&self, activity: &Activity, now: Instant) {
        let was_shed = activity.is_shed();
        activity.begin(now);
        if was_shed && self.level() >= Level::Refuse {
            activity.shed();
        }
    }

    /// The fault of a request that is refused.
    ///
    /// # Errors
    ///
    /// Where the holder gets nothing new.
    #[inline]
    pub fn admit(&self, holder: impl FnOnce() -> HolderId) -> Result<(), Fault> {
        if self.refuses(holder) {
            self.refused[Refused::Request as usize].inc();
            return Err(self.fault());
        }
        Ok(())
    }

    /// What a client is told that gets nothing new.
    #[cold]
    pub fn fault(&self) -> Fault {
        let why = match self.is_full() {
            true => "weir's memory is used up (limits.memory)",
            false => {
                "weir's memory is short, and this client holds more than its share of it (limits.memory)"
            }
        };
        Fault::new(Kind::Memory, why)
    }
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
