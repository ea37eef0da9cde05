//! Detects that the peer's node is gone, as opposed to an application that is slow.
//!
//! An application that computes for a minute, or does not read for one, still has a kernel that acknowledges
//! everything: data, keep-alive probes (RFC 1122 §4.2.3.6), and zero-window probes (RFC 9293 §3.8.6.1). A node without
//! power, or cut from the network, acknowledges nothing. So the peer is silent if an answer or acknowledgement is due,
//! nothing at all has arrived from it for a while, and TCP has since probed in vain more than once.
//!
//! Silence alone is not enough. TCP probes at growing intervals while the window is closed or data are lost: after some
//! seconds of that, even a healthy peer is not probed for seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many probes must be unanswered: a single one may be a lost packet.
const UNANSWERED: u32 = 2;

/// After this time of silence, the peer is in doubt.
pub const DOUBT: Duration = Duration::from_secs(1);

/// The interval between checks of a peer in doubt.
const OFTEN: Duration = Duration::from_millis(250);

/// The state of a TCP connection at one moment (`TCP_INFO`, tcp(7)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs {
    /// The time since anything arrived: an acknowledgement or data.
    pub heard: Duration,
    /// Whether sent data are unacknowledged.
    pub unacknowledged: bool,
    /// Window or keep-alive probes since the last acknowledgement. TCP sends none while data are unacknowledged.
    pub probes: u32,
    /// Timeouts of the retransmission timer since data were last acknowledged. With a closed window, they may have been
    /// answered.
    pub timeouts: u32,
    /// Retransmitted segments in the life of the connection. Without a route there are none, even if the timer fires.
    pub sent_again: u32,
}

/// The state of one wait for the peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    last: Option<Last>,
}

/// The last check.
#[derive(Clone, Copy, Debug)]
struct Last {
    waited: Duration,
    /// [`Signs::sent_again`] and [`Signs::timeouts`] when something last arrived.
    answered: (u32, u32),
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer is alive, as far as weir can tell.
    Well,
    /// It has been silent for [`DOUBT`], and TCP has probed in vain.
    Doubtful,
    /// It is gone.
    Silent,
}

/// How many connections to one endpoint are in doubt ([`Verdict::Doubtful`]); shared by all of them.
#[derive(Clone, Debug, Default)]
pub struct Doubts(Arc<AtomicUsize>);

impl Doubts {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes one that was added.
    pub fn remove(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wait {
    /// Checks TCP's state after a wait of `waited`, with `limit` as the longest silence: returns the verdict, and the
    /// time until the next check.
    pub fn look(&mut self, waited: Duration, signs: Signs, limit: Duration) -> (Verdict, Duration) {
        let answered = match self.last {
            // Nothing has arrived since the last check.
            Some(last) if signs.heard > waited.saturating_sub(last.waited) => last.answered,
            // Nothing has arrived since the wait began, so no timeout was answered.
            None if signs.heard >= waited => (signs.sent_again.saturating_sub(signs.timeouts), 0),
            Some(_) | None => (signs.sent_again, signs.timeouts),
        };
        self.last = Some(Last { waited, answered });
        let unanswered = if signs.unacknowledged {
            let timeouts = signs.timeouts.saturating_sub(answered.1);
            signs.sent_again.saturating_sub(answered.0).max(timeouts)
        } else {
            signs.probes
        };
        // Silence before the wait began does not count, since nothing was due then.
        let silence = signs.heard.min(waited);
        let verdict = match unanswered {
            UNANSWERED.. if silence >= limit => Verdict::Silent,
            1.. if silence >= DOUBT => Verdict::Doubtful,
            _ => Verdict::Well,
        };
        (verdict, DOUBT.saturating_sub(silence).max(OFTEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A connection with Linux' timers, checked whenever [`Wait`] asks: the verdict of each check by the time of the
    /// wait. `at` returns TCP's state at that time.
    fn watched(until: u64, at: impl Fn(u64) -> Signs) -> Vec<(u64, Verdict)> {
        let (mut wait, mut now, mut seen) = (Wait::default(), 1000, Vec::new());
        while now <= until {
            let (verdict, next) = wait.look(ms(now), at(now), LIMIT);
            seen.push((now, verdict));
            if verdict == Verdict::Silent {
                break;
            }
            now += u64::try_from(next.as_millis()).unwrap();
        }
        seen
    }

    fn silent_at(seen: &[(u64, Verdict)]) -> Option<u64> {
        seen.iter().find(|(_, verdict)| *verdict == Verdict::Silent).map(|(at, _)| *at)
    }

    /// How many timeouts, of 200 ms and doubling, have fired `since` ms after the first segment.
    fn timeouts(since: u64) -> u32 {
        (1..20).filter(|n| 200 * ((1 << n) - 1) <= since).count() as u32
    }

    #[test]
    fn a_request_that_a_node_never_acknowledges_is_given_up_after_the_limit() {
        // The connection was unused for 50 s before.
        let seen = watched(10_000, |now| Signs {
            heard: ms(50_000 + now),
            unacknowledged: true,
            timeouts: timeouts(now),
            sent_again: 7 + timeouts(now),
            ..Signs::default()
        });
        assert_eq!(silent_at(&seen), Some(3000), "{seen:?}");
        assert_eq!(seen[0], (1000, Verdict::Doubtful));
    }

    #[test]
    fn a_node_to_which_there_is_no_route_any_more_is_given_up_after_the_limit() {
        for gone in [0, 1900] {
            let seen = watched(10_000, |now| Signs {
                heard: ms(now.saturating_sub(gone)),
                unacknowledged: true,
                timeouts: timeouts(now.saturating_sub(gone)),
                ..Signs::default()
            });
            let at = silent_at(&seen).unwrap();
            assert!((gone + 3000..gone + 3500).contains(&at), "{gone}: {seen:?}");
        }
    }

    #[test]
    fn a_node_that_goes_after_it_acknowledged_the_request_is_given_up_after_the_limit() {
        // Keep-alive probes start with the first check, at most a second after the peer's last packet.
        for gone in [0, 100, 700, 5000] {
            let signs = |now: u64| match now <= gone {
                true => Signs { heard: ms(now % 1000), ..Signs::default() },
                false => {
                    Signs { heard: ms(now - gone), probes: ((now - gone) / 1000) as u32, ..Signs::default() }
                }
            };
            let seen = watched(30_000, signs);
            let at = silent_at(&seen).unwrap();
            assert!((gone + 3000..gone + 3500).contains(&at), "{gone}: {seen:?}");
        }
    }

    #[test]
    fn a_node_that_goes_in_the_middle_of_an_upload_is_given_up_after_the_limit() {
        for gone in [100, 1900, 2500, 4999] {
            let signs = |now: u64| match now <= gone {
                true => Signs { heard: ms(5), unacknowledged: true, ..Signs::default() },
                false => Signs {
                    heard: ms(now - gone),
                    unacknowledged: true,
                    timeouts: timeouts(now - gone),
                    sent_again: timeouts(now - gone),
                    ..Signs::default()
                },
            };
            let seen = watched(30_000, signs);
            let at = silent_at(&seen).unwrap();
            assert!((gone + 3000..gone + 3500).contains(&at), "{gone}: {seen:?}");
        }
    }

    #[test]
    fn an_application_that_answers_after_a_minute_keeps_its_connection() {
        let seen = watched(60_000, |now| Signs { heard: ms(now % 1000), ..Signs::default() });
        assert!(seen.iter().all(|(_, verdict)| *verdict == Verdict::Well), "{seen:?}");
    }

    #[test]
    fn an_application_that_does_not_read_for_a_minute_keeps_its_connection() {
        // The window is closed: probes after 200 ms, 400 ms and so on, each answered at once; one may be in flight.
        for on_its_way in [0, 1] {
            let seen = watched(60_000, |now| {
                let last = 200 * ((1 << timeouts(now)) - 1);
                Signs { heard: ms(now - last), probes: on_its_way, ..Signs::default() }
            });
            assert_eq!(silent_at(&seen), None, "{seen:?}");
        }
        // The window was closed while data were in flight: they are retransmitted in vain, and each time answered.
        let seen = watched(60_000, |now| {
            let last = 200 * ((1 << timeouts(now)) - 1);
            Signs {
                heard: ms(now - last),
                unacknowledged: true,
                timeouts: timeouts(now),
                sent_again: timeouts(now),
                ..Signs::default()
            }
        });
        assert_eq!(silent_at(&seen), None, "{seen:?}");
    }

    #[test]
    fn one_lost_packet_on_a_slow_path_is_no_silence() {
        // A timeout of 2 s, and then one of 4 s.
        let seen = watched(5900, |now| Signs {
            heard: ms(now),
            unacknowledged: true,
            timeouts: u32::from(now >= 2000),
            sent_again: u32::from(now >= 2000),
            ..Signs::default()
        });
        assert_eq!(silent_at(&seen), None, "{seen:?}");
    }
}
