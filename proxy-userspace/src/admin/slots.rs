//! How many large pages are written at the same time, and for whom.
//!
//! A large page is written as its client takes it, so a slow client keeps it for long. Each client has one at a time, and
//! begins one in a second. When all places are taken, or the client's own, the page that has not moved for longest is cut.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How many there are.
const MOST: usize = 4;

/// How often one client may begin a page.
const PACE: Duration = Duration::from_secs(1);

/// A page that has not moved for so long, or has taken ten times that, may be cut.
const STALL: Duration = Duration::from_secs(2);

/// How often who waits looks again.
const LOOK: Duration = Duration::from_millis(100);

/// The places.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: Mutex<Vec<Place>>,
    freed: Notify,
    next: std::sync::atomic::AtomicU64,
}

#[derive(Debug)]
struct Place {
    number: u64,
    client: IpAddr,
    began: Instant,
    moved: Instant,
    /// Its page is complete: it is remembered for the pace.
    over: bool,
    /// Ends its client's connection.
    cut: CancellationToken,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

impl Slots {
    /// A place for `client`, as soon as there is one. `cut` ends its connection.
    pub(super) async fn acquire(self: &Arc<Self>, client: IpAddr, cut: &CancellationToken) -> Slot {
        let client = client.to_canonical();
        loop {
            let freed = self.freed.notified();
            if let Some(number) = self.take(client, cut, Instant::now()) {
                return Slot { slots: self.clone(), number };
            }
            let _ = timeout(LOOK, freed).await;
        }
    }

    fn take(&self, client: IpAddr, cut: &CancellationToken, now: Instant) -> Option<u64> {
        let mut taken = self.taken.lock();
        taken.retain(|it| !it.over || now.saturating_duration_since(it.began) < PACE);
        if taken.iter().any(|it| it.client == client) {
            // Another process at its address may have stopped to read.
            cut_slowest(taken.iter().filter(|it| it.client == client), now);
            return None;
        }
        if taken.iter().filter(|it| !it.over).count() >= MOST {
            cut_slowest(taken.iter(), now);
            return None;
        }
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        taken.push(Place { number, client, began: now, moved: now, over: false, cut: cut.clone() });
        Some(number)
    }

    fn place<T>(&self, number: u64, with: impl FnOnce(&mut Place) -> T) -> Option<T> {
        self.taken.lock().iter_mut().find(|it| it.number == number).map(with)
    }
}

/// Cuts the page of these that has not moved for longest, if it may be cut: its connection ends, for hyper does not ask for
/// more of a page as long as its client takes nothing.
fn cut_slowest<'p>(taken: impl Iterator<Item = &'p Place>, now: Instant) {
    let since = |then: Instant| now.saturating_duration_since(then);
    let may_be = |it: &&Place| !it.over && (since(it.moved) >= STALL || since(it.began) >= 10 * STALL);
    if let Some(slowest) = taken.filter(may_be).min_by_key(|it| it.moved) {
        slowest.cut.cancel();
    }
}

impl Slot {
    /// Its client has taken a part of the page.
    pub(super) fn moves(&self) {
        self.slots.place(self.number, |it| it.moved = Instant::now());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.place(self.number, |it| it.over = true);
        self.slots.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    fn take(slots: &Slots, number: u8, now: Instant) -> Option<u64> {
        slots.take(client(number), &CancellationToken::new(), now)
    }

    #[test]
    fn each_client_has_one_page_at_a_time_and_begins_one_in_a_second() {
        let (slots, now) = (Slots::default(), Instant::now());
        let first = take(&slots, 1, now).unwrap();
        assert_eq!(take(&slots, 1, now), None);
        assert!(take(&slots, 2, now).is_some());
        slots.place(first, |it| it.over = true);
        assert_eq!(take(&slots, 1, now + PACE / 2), None);
        assert!(take(&slots, 1, now + PACE).is_some());
    }

    #[test]
    fn the_slowest_page_is_cut_when_another_client_waits_and_not_before() {
        let (slots, now) = (Slots::default(), Instant::now());
        let numbers: Vec<u64> = (0..4).map(|it| take(&slots, it, now).unwrap()).collect();
        let is_cut = |at: usize| slots.place(numbers[at], |it| it.cut.is_cancelled()).unwrap();
        slots.place(numbers[0], |it| it.moved = now + STALL / 2);
        assert_eq!(take(&slots, 9, now + STALL / 2), None);
        assert!(!(0..4).any(is_cut), "none is slow");
        assert_eq!(take(&slots, 9, now + STALL), None);
        assert_eq!([0, 1, 2, 3].map(is_cut), [false, true, false, false]);
        slots.place(numbers[1], |it| it.over = true);
        assert!(take(&slots, 9, now + STALL).is_some());
    }

    #[test]
    fn a_page_that_stands_still_keeps_its_own_address_from_no_other() {
        let (slots, now) = (Slots::default(), Instant::now());
        let first = take(&slots, 1, now).unwrap();
        let is_cut = |at: Duration| {
            assert_eq!(take(&slots, 1, now + at), None);
            slots.place(first, |it| it.cut.is_cancelled()).unwrap()
        };
        assert_eq!([STALL / 2, STALL].map(is_cut), [false, true]);
        slots.place(first, |it| it.over = true);
        assert!(take(&slots, 1, now + STALL).is_some());
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_of_one_that_is_dropped() {
        let slots = Arc::new(Slots::default());
        let mut held = Vec::new();
        for number in 0..4 {
            held.push(slots.acquire(client(number), &CancellationToken::new()).await);
        }
        let waiting = tokio::spawn({
            let slots = slots.clone();
            async move { drop(slots.acquire(client(9), &CancellationToken::new()).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        held.pop();
        waiting.await.unwrap();
    }
}
