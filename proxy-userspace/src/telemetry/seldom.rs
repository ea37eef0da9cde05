//! Log lines that a client can provoke as often as it likes: each one a second, so that it neither fills the log nor takes the
//! queue's places from what others are told.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The least time between two lines that the same client provokes.
const EACH: Duration = Duration::from_secs(1);

/// How many clients are told apart. While more of them provoke lines in one second, those beyond have none.
const MOST: usize = 1_024;

/// Lines that were left out since the start.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// When each client last provoked a line of one kind.
#[derive(Debug)]
pub struct Seldom<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for Seldom<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Seldom<K> {
    /// Whether a line that `who` provokes at `now` is logged. If not, it is counted.
    pub fn logs(&self, who: K, now: Instant) -> bool {
        let mut last = self.0.lock();
        let is_due = |at: &Instant| now.saturating_duration_since(*at) >= EACH;
        if last.len() >= MOST {
            last.retain(|_, at| !is_due(at));
        }
        let logs = last.get(&who).map_or(last.len() < MOST, is_due);
        if logs {
            last.insert(who, now);
        } else {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
        logs
    }
}

/// The number of lines that were left out since the start, for what clients provoked too often.
pub fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_a_line_a_second_whatever_another_one_provokes() {
        let (seldom, now, ms) = (Seldom::default(), Instant::now(), Duration::from_millis);
        let logged = |who: u32, from: u64| {
            (from..from + 1_000).filter(|at| seldom.logs(who, now + ms(*at))).collect::<Vec<_>>()
        };
        assert_eq!(logged(1, 0), [0]);
        assert_eq!(logged(2, 0), [0]);
        assert_eq!(logged(1, 500), [1_000]);
        assert_eq!(logged(1, 1_999), [2_000]);
        assert!(left_out() >= 3_996);
    }

    #[test]
    fn very_many_clients_take_bounded_room_and_come_again() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        let all = |now: Instant| (0..2 * MOST).filter(|who| seldom.logs(*who, now)).count();
        assert_eq!(all(now), MOST);
        assert_eq!(all(now + EACH), MOST);
        assert!(seldom.0.lock().len() <= MOST);
    }
}
