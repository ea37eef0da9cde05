//! Limits how often each client may ask for what is expensive for weir.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Maximum number of clients remembered.
const CLIENTS: usize = 1024;

/// A token bucket for each client.
#[derive(Debug)]
pub struct Pace<K> {
    /// Tokens of a full bucket.
    burst: f64,
    /// Time to refill one token.
    every: Duration,
    clients: HashMap<K, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Copy + Eq + Hash> Pace<K> {
    /// Allows `burst` requests at once, then one per `every`.
    pub fn new(burst: u32, every: Duration) -> Self {
        Self { burst: f64::from(burst), every, clients: HashMap::new() }
    }

    /// Whether `client` may send another request.
    pub fn admits(&mut self, client: K, now: Instant) -> bool {
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            self.make_room(now);
        }
        let full = Bucket { left: self.burst, at: now };
        let left = self.left(self.clients.get(&client).unwrap_or(&full), now);
        let admits = left >= 1.0;
        let left = if admits { left - 1.0 } else { left };
        self.clients.insert(client, Bucket { left, at: now });
        admits
    }

    /// `client` was admitted, and what it asked for did not cost what it might have: that did not count.
    pub fn give_back(&mut self, client: K) {
        let burst = self.burst;
        if let Some(bucket) = self.clients.get_mut(&client) {
            bucket.left = (bucket.left + 1.0).min(burst);
        }
    }

    fn left(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at);
        (bucket.left + since.as_secs_f64() / self.every.as_secs_f64()).min(self.burst)
    }

    /// Removes clients with a full bucket; if there are none, the one that was seen longest ago.
    fn make_room(&mut self, now: Instant) {
        let clients = std::mem::take(&mut self.clients);
        let busy = clients.into_iter().filter(|(_, bucket)| self.left(bucket, now) < self.burst);
        self.clients = busy.collect();
        while self.clients.len() >= CLIENTS {
            let Some(oldest) = self.clients.iter().min_by_key(|(_, it)| it.at).map(|(client, _)| *client)
            else {
                return;
            };
            self.clients.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_so_often_at_once_and_then_at_its_pace_and_no_other_pays_for_it() {
        let (mut pace, now) = (Pace::new(3, Duration::from_secs(2)), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!([0; 5].map(|_| pace.admits(1, now)), [true, true, true, false, false]);
        assert!(pace.admits(2, now));
        assert_eq!([1, 2, 3, 4].map(|s| pace.admits(1, after(s))), [false, true, false, true]);
        assert_eq!([0; 4].map(|_| pace.admits(1, after(1000))), [true, true, true, false]);
    }

    #[test]
    fn what_is_given_back_did_not_count_and_is_no_more_than_a_full_bucket() {
        let (mut pace, now) = (Pace::new(2, Duration::from_secs(3600)), Instant::now());
        for _ in 0..100 {
            assert!(pace.admits(1, now));
            pace.give_back(1);
        }
        pace.give_back(1);
        pace.give_back(2);
        assert_eq!([0; 3].map(|_| pace.admits(1, now)), [true, true, false]);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_who_came_last() {
        let (mut pace, now) = (Pace::new(1, Duration::from_secs(3600)), Instant::now());
        for number in 0..5000_u32 {
            assert!(pace.admits(number, now + Duration::from_millis(number.into())));
            assert!(pace.clients.len() <= CLIENTS);
        }
        assert!(!pace.admits(4999, now + Duration::from_secs(6)));
        // A client with a full bucket needs no entry.
        assert!(pace.admits(9999, now + Duration::from_secs(7200)));
        assert_eq!(pace.clients.len(), 1);
    }
}
