//! The memory budget: how much is in use, what is closed when it gets scarce, and who gets nothing new then.
//!
//! A thread of the control plane measures what is in use some times a second (`app/memory`) and tells it here. Between two
//! measurements, what the allocator counts of large blocks says how much was added. A request costs two loads and a
//! comparison, as long as memory is not short.

mod shed;

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use self::shed::{Chosen, Round};
use super::fault::{Fault, Kind};
use super::holders::HolderId;
use crate::allocator::in_large_blocks;
use crate::domain::memory::Level;
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
    /// Those that hold more than their fair share, once memory is scarce.
    above: ArcSwap<HashSet<HolderId>>,
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
        let tight = u64::midpoint(Level::Refuse.begins(budget), Level::Full.begins(budget));
        self.cut_at.store(mark(tight), Ordering::Relaxed);
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

    /// These hold more than their fair share.
    pub fn set_above(&self, above: HashSet<HolderId>) {
        self.above.store(above.into());
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
    fn is_above(&self, holder: HolderId) -> bool {
        self.above.load().contains(&holder)
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
            Held::Exchanges(_) => self.is_tight() && self.is_above(holder()),
            Held::Head(_) | Held::Idle | Held::Tunnel => false,
        };
        is_cut.then_some(held)
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
mod tests {
    use super::*;
    use crate::proxy::holders::Holders;

    const BUDGET: u64 = 1 << 40;

    fn holders() -> (HolderId, HolderId) {
        let holders = Holders::default();
        let of = |address: &str| holders.of(address.parse().unwrap(), None).id;
        (of("10.0.0.1"), of("10.0.0.2"))
    }

    #[test]
    fn who_is_above_its_share_is_refused_from_ninety_percent_on_and_everybody_near_the_end() {
        let memory = Memory::default();
        let (greedy, other) = holders();
        memory.set_above(HashSet::from([greedy]));
        for (percent, refused) in [
            (50, (false, false)),
            (89, (false, false)),
            (91, (true, false)),
            (98, (true, true)),
            (93, (true, true)),
            (91, (true, false)),
            (86, (true, false)),
            (84, (false, false)),
        ] {
            memory.measured(BUDGET / 100 * percent, BUDGET, in_large_blocks());
            assert_eq!((memory.refuses(|| greedy), memory.refuses(|| other)), refused, "{percent} %");
        }
        memory.measured(BUDGET / 100 * 91, BUDGET, in_large_blocks());
        assert!(memory.admit(|| greedy).is_err() && memory.admit(|| other).is_ok());
    }

    #[test]
    fn what_is_added_between_two_measurements_counts_at_once() {
        let memory = Memory::default();
        let marks = || [&memory.refuse_at, &memory.full_at].map(|it| it.load(Ordering::Relaxed));
        let mib = |count: u64| count << 20;
        for (used, at) in [(500, [1_400, 1_470]), (895, [1_005, 1_075]), (940, [0, 1_030]), (990, [0, 0])] {
            memory.measured(mib(used), mib(1_000), 1_000 << 20);
            assert_eq!(marks(), at.map(|it: usize| it << 20), "{used} MiB in use, and 1,000 in large blocks");
        }
    }

    #[test]
    fn while_much_is_in_use_it_is_measured_anew_only_as_more_is_added() {
        let memory = Memory::default();
        let alert = || memory.alert_at.load(Ordering::Relaxed);
        let mib = |count: u64| count << 20;
        for (used, at) in [(100, 1_500), (595, 1_010), (600, 1_010), (790, 1_010), (850, 0)] {
            memory.measured(mib(used), mib(1_000), 1_000 << 20);
            // Hundredths of a budget are whole bytes.
            assert!(
                alert().abs_diff(at << 20) < 200,
                "{used} MiB in use, and 1,000 in large blocks: {}",
                alert()
            );
        }
    }

    #[test]
    fn only_a_large_head_is_not_read_any_further_and_what_a_greedy_client_moves_ends_at_last() {
        let memory = Memory::default();
        let (greedy, other) = holders();
        memory.set_above(HashSet::from([greedy]));
        memory.measured(BUDGET / 100 * 91, BUDGET, 0);
        let activity = Activity::new(std::time::Instant::now());
        activity.bytes_came(&[b'x'; 4095], false);
        assert_eq!(memory.cuts(|| greedy, &activity), None);
        activity.bytes_came(b"x", false);
        assert_eq!(memory.cuts(|| greedy, &activity), Some(Held::Head(4096)));
        assert_eq!(memory.cuts(|| other, &activity), None);
        activity.begin(std::time::Instant::now());
        assert_eq!(memory.cuts(|| greedy, &activity), None);
        memory.measured(BUDGET, BUDGET, 0);
        assert_eq!(memory.cuts(|| greedy, &activity), Some(Held::Exchanges(1)));
        assert_eq!(memory.cuts(|| other, &activity), None);
    }

    #[test]
    fn the_workers_are_told_of_each_level_once() {
        let memory = Memory::default();
        let mut told = memory.follow();
        assert_eq!(memory.measured(85 << 30, 100 << 30, 0), (Level::Normal, Level::Shed));
        assert!(told.has_changed().unwrap());
        assert_eq!(*told.borrow_and_update(), Level::Shed);
        memory.measured(86 << 30, 100 << 30, 0);
        assert!(!told.has_changed().unwrap());
    }
}
