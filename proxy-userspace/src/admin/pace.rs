//! Limits how often each client may send requests that are expensive for weir.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Maximum number of clients remembered.
const CLIENTS: usize = 1024;

/// A token bucket for each client.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tokens of a full bucket.
    burst: f64,
    /// Time to refill one token.
    every: Duration,
    clients: HashMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Pace {
    /// Allows `burst` requests at once, then one per `every`.
    pub(super) fn new(burst: u32, every: Duration) -> Self {
        Self { burst: f64::from(burst), every, clients: HashMap::new() }
    }

    /// Whether `client` may send another request.
    pub(super) fn admits(&mut self, client: IpAddr, now: Instant) -> bool {
        let client = client.to_canonical();
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

    fn client(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    #[test]
    fn a_client_may_so_often_at_once_and_then_at_its_pace_and_no_other_pays_for_it() {
        let (mut pace, now) = (Pace::new(3, Duration::from_secs(2)), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!([0; 5].map(|_| pace.admits(client(1), now)), [true, true, true, false, false]);
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert!(!pace.admits(mapped, now), "the same client");
        assert!(pace.admits(client(2), now));
        assert_eq!([1, 2, 3, 4].map(|s| pace.admits(client(1), after(s))), [false, true, false, true]);
        assert_eq!([0; 4].map(|_| pace.admits(client(1), after(1000))), [true, true, true, false]);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_who_came_last() {
        let (mut pace, now) = (Pace::new(1, Duration::from_secs(3600)), Instant::now());
        for number in 0..5000 {
            assert!(pace.admits(client(number), now + Duration::from_millis(number.into())));
            assert!(pace.clients.len() <= CLIENTS);
        }
        assert!(!pace.admits(client(4999), now + Duration::from_secs(6)));
        // A client with a full bucket needs no entry.
        assert!(pace.admits(client(9999), now + Duration::from_secs(7200)));
        assert_eq!(pace.clients.len(), 1);
    }
}
