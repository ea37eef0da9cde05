//! What a connection holds memory for, and its end when memory is short.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use super::{Activity, Phase, Room};

/// What a connection holds memory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// Nothing: it is between two requests.
    Idle,
    /// A head that is arriving: so many bytes of it.
    Head(u32),
    /// Bytes that are carried both ways.
    Tunnel,
    /// So many exchanges.
    Exchanges(u32),
}

impl Activity {
    /// From `now` on it carries opaque bytes, and no idle time between requests makes room.
    pub fn carries_bytes(&self, now: Instant) {
        self.0.carries.store(true, Ordering::Relaxed);
        self.enter(Phase::Busy, now);
    }

    /// Whether it carries opaque bytes.
    pub(super) fn carries(&self) -> bool {
        self.0.carries.load(Ordering::Relaxed)
    }

    /// What it holds memory for.
    pub fn held(&self) -> Held {
        match self.phase() {
            _ if self.carries() => Held::Tunnel,
            Phase::Idle => Held::Idle,
            Phase::Head => Held::Head(self.0.ahead.of_head()),
            Phase::Busy => Held::Exchanges(self.0.exchanges.load(Ordering::Relaxed).max(1)),
        }
    }

    /// Ends it for lack of memory, unless it begins another request first. Returns whether it was not told so before, and
    /// has somebody to tell.
    pub fn shed(&self) -> bool {
        let is_new = !self.is_shed() && self.0.owner.lock().is_some();
        if is_new {
            self.ask(Room::Shed);
        }
        is_new
    }

    /// Whether it is to end for lack of memory.
    pub fn is_shed(&self) -> bool {
        self.0.room.load(Ordering::Relaxed) == Room::Shed as u8
    }

    /// Returns when it is to end for lack of memory. The task that awaits this is the one that ends it.
    pub async fn shedding(&self) {
        let mut is_owned = false;
        poll_fn(|cx| {
            if !is_owned {
                is_owned = true;
                self.may_make_room(cx.waker());
            }
            if self.is_shed() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_says_what_it_holds_and_ends_when_memory_is_short() {
        let now = Instant::now();
        let activity = Activity::new(now);
        activity.bytes_came(b"GET / HT", false);
        assert_eq!(activity.held(), Held::Head(8));
        assert!(!activity.shed() && !activity.is_shed(), "nobody would end it");
        activity.begin(now);
        activity.begin(now);
        assert_eq!(activity.held(), Held::Exchanges(2));
        activity.end(now);
        activity.end(now);
        assert_eq!(activity.held(), Held::Idle);
        activity.carries_bytes(now);
        assert_eq!(activity.held(), Held::Tunnel);
        let other = activity.clone();
        let asked = async {
            while !other.shed() {
                tokio::task::yield_now().await;
            }
            assert!(!other.shed(), "it was told");
        };
        tokio::join!(activity.shedding(), asked);
        assert!(activity.makes_room());
        activity.begin(now);
        assert!(!activity.is_shed(), "it is used again");
    }
}
