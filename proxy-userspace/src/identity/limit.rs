//! TLS handshakes cost CPU time of the whole node, and whoever reaches a pod may ask for one: those whose client has not proven
//! who it is are limited.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::pace::Pace;

/// One in so many of a pod's handshakes may be one source's.
const SOURCES: u32 = 5;

/// How long a source counts as known by its last handshake.
const KNOWN: Duration = Duration::from_mins(10);

/// How many sources are known at most; beyond that all have to prove themselves again.
const MOST: usize = 16_384;

/// The handshakes that are going on, or have failed.
///
/// One that succeeds counts no longer, so nothing limits clients that have certificates. And while others use up a pod's,
/// sources that have proven themselves lately have their own left.
#[derive(Debug)]
pub struct HandshakeLimit {
    sources: Mutex<Pace<IpAddr>>,
    pods: Mutex<Pace<u64>>,
    known: Mutex<HashMap<IpAddr, Instant>>,
}

/// A handshake that was admitted. Dropped, it has failed.
#[derive(Debug)]
#[must_use]
pub struct Admitted<'a> {
    limit: &'a HandshakeLimit,
    source: IpAddr,
    /// `None` if it did not count for a pod.
    pod: Option<u64>,
}

impl HandshakeLimit {
    /// Admits `each_second` handshakes of clients that have not proven who they are, at each pod, and a fifth of it from each source.
    pub fn new(each_second: u32) -> Self {
        let pace = |often: u32| (often, Duration::from_secs(1) / often);
        let (pods, sources) = (pace(each_second.max(1)), pace((each_second / SOURCES).max(1)));
        Self {
            sources: Mutex::new(Pace::new(sources.0, sources.1)),
            pods: Mutex::new(Pace::new(pods.0, pods.1)),
            known: Mutex::default(),
        }
    }

    /// Whether a client at the address `source` has proven itself lately.
    pub fn knows(&self, source: IpAddr, now: Instant) -> bool {
        let last = self.known.lock().get(&source.to_canonical()).copied();
        last.is_some_and(|last| now.saturating_duration_since(last) < KNOWN)
    }

    /// Whether a client at the address `source` may begin a handshake with the pod that has this cookie now.
    pub fn admits(&self, source: IpAddr, pod: u64, now: Instant) -> Option<Admitted<'_>> {
        let source = source.to_canonical();
        if !self.sources.lock().admits(source, now) {
            return None;
        }
        let is_known = self.knows(source, now);
        if !is_known && !self.pods.lock().admits(pod, now) {
            self.sources.lock().give_back(source);
            return None;
        }
        Some(Admitted { limit: self, source, pod: (!is_known).then_some(pod) })
    }
}

impl Admitted<'_> {
    /// The client has proven at `now` who it is.
    pub fn is_proven(self, now: Instant) {
        let Self { limit, source, pod } = self;
        limit.sources.lock().give_back(source);
        if let Some(pod) = pod {
            limit.pods.lock().give_back(pod);
        }
        let mut known = limit.known.lock();
        if known.len() >= MOST && !known.contains_key(&source) {
            known.retain(|_, last| now.saturating_duration_since(*last) < KNOWN);
            if known.len() >= MOST {
                known.clear();
            }
        }
        known.insert(source, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    /// How many handshakes of this source are admitted, of 1000.
    fn admitted(limit: &HandshakeLimit, source: IpAddr, pod: u64, now: Instant) -> usize {
        (0..1000).filter(|_| limit.admits(source, pod, now).is_some()).count()
    }

    #[test]
    fn who_proves_nothing_has_a_fifth_of_a_pods_handshakes_and_leaves_other_pods_theirs() {
        let (limit, now) = (HandshakeLimit::new(50), Instant::now());
        assert_eq!(admitted(&limit, at(1), 1, now), 10);
        assert_eq!(admitted(&limit, "::ffff:10.0.0.1".parse().unwrap(), 2, now), 0, "the same source");
        for (source, expected) in [(2, 10), (3, 10), (4, 10), (5, 10), (6, 0)] {
            assert_eq!(admitted(&limit, at(source), 1, now), expected, "{source}");
        }
        assert_eq!(admitted(&limit, at(6), 2, now), 10, "another pod, and what pod 1 refused did not count");
        let second = now + Duration::from_secs(1);
        assert_eq!([1, 2, 3, 4, 5, 6].map(|it| admitted(&limit, at(it), 1, second)), [10, 10, 10, 10, 10, 0]);
    }

    #[test]
    fn who_proves_itself_is_not_limited_and_is_let_in_where_others_use_up_a_pods() {
        let (limit, now) = (HandshakeLimit::new(50), Instant::now());
        for _ in 0..1000 {
            limit.admits(at(1), 1, now).unwrap().is_proven(now);
        }
        assert_eq!((2..=7).map(|it| admitted(&limit, at(it), 1, now)).sum::<usize>(), 50);
        assert_eq!(admitted(&limit, at(8), 1, now), 0);
        limit.admits(at(1), 1, now).unwrap().is_proven(now);
        // As far as its own go: a key that was stolen there is no way around the limit.
        assert_eq!(admitted(&limit, at(1), 1, now), 10);
        let later = now + KNOWN;
        assert_eq!((2..=7).map(|it| admitted(&limit, at(it), 1, later)).sum::<usize>(), 50);
        assert_eq!(admitted(&limit, at(1), 1, later), 0, "known no longer");
        assert!(limit.knows(at(1), now) && !limit.knows(at(1), later) && !limit.knows(at(2), now));
    }

    #[test]
    fn the_smallest_limit_is_one_and_the_table_of_known_sources_is_bounded() {
        let (limit, now) = (HandshakeLimit::new(0), Instant::now());
        assert_eq!(admitted(&limit, at(1), 1, now), 1);
        for number in 0..40_000_u32 {
            let limit =
                limit.admits((0x0b00_0000 + number).to_be_bytes().into(), u64::from(number) + 1000, now);
            limit.unwrap().is_proven(now);
        }
        assert!(limit.known.lock().len() <= MOST);
    }
}
