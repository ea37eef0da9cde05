//! Whether the far side's node is gone, told from an application that is slow.
//!
//! An application that computes for a minute, or does not read for one, still has a kernel that acknowledges whatever it is
//! sent: data, keep-alive probes (RFC 1122 §4.2.3.6), and probes of a closed window (RFC 9293 §3.8.6.1). A node without
//! power, or cut from the network, acknowledges nothing. So the far side is silent when it owes something, nothing at all
//! has come from it for a while, and TCP has asked in vain more than once meanwhile.
//!
//! That nothing has come is not enough. TCP asks at growing intervals while the window is closed or data are lost: after
//! some seconds of that, a far side that is well is not asked for seconds either.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often TCP must have asked in vain: once may be a lost packet.
const UNANSWERED: u32 = 2;

/// From this time of silence on, the far side is in doubt.
pub const DOUBT: Duration = Duration::from_secs(1);

/// The pause between two looks at one that is in doubt.
const OFTEN: Duration = Duration::from_millis(250);

/// What TCP says of a connection at one moment (`TCP_INFO`, tcp(7)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs {
    /// How long ago anything last came: an acknowledgement or data.
    pub heard: Duration,
    /// Whether data are on the way that were not acknowledged.
    pub unacknowledged: bool,
    /// Probes, of the window or of a keep-alive, since anything was last acknowledged. TCP sends none while data are unacknowledged.
    pub probes: u32,
    /// Timeouts of the retransmission timer since data were last acknowledged. With a closed window, they may have been answered.
    pub timeouts: u32,
    /// Segments that were sent again in the life of the connection. Where there is no route, none is, whatever the timer says.
    pub sent_again: u32,
}

/// What is known of one wait for the far side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    last: Option<Last>,
}

/// The last look.
#[derive(Clone, Copy, Debug)]
struct Last {
    waited: Duration,
    /// [`Signs::sent_again`] and [`Signs::timeouts`] when something was last heard.
    answered: (u32, u32),
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The far side is there, as far as anyone knows.
    Well,
    /// It has been silent for [`DOUBT`], and TCP has asked in vain.
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

    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One of those that were added no longer is.
    pub fn remove(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wait {
    /// Looks at what TCP says after the far side has been waited for so long: what follows from it, when it may be silent
    /// for `limit`, and the time until the next look.
    pub fn look(&mut self, waited: Duration, signs: Signs, limit: Duration) -> (Verdict, Duration) {
        let answered = match self.last {
            // Nothing has come since the last look.
            Some(last) if signs.heard > waited.saturating_sub(last.waited) => last.answered,
            // Nothing has come since the wait began, so no timeout was answered.
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
        // What was silent before the wait began owed nothing then.
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

    /// A connection as Linux' timers drive it, looked at as often as [`Wait`] asks: the verdict of each look by the time of
    /// the wait. `at` says what TCP would say at that time.
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

    /// How many of the timeouts of 200 ms, doubled each time, have fired `since` ms after the first segment.
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
        // Keep-alive probes begin with the first look, at most a second after the last sign of life.
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
        // The window is closed: probes after 200 ms, 400 ms and so on, each answered at once; one may just be on its way.
        for on_its_way in [0, 1] {
            let seen = watched(60_000, |now| {
                let last = 200 * ((1 << timeouts(now)) - 1);
                Signs { heard: ms(now - last), probes: on_its_way, ..Signs::default() }
            });
            assert_eq!(silent_at(&seen), None, "{seen:?}");
        }
        // The window was closed over data that were on their way: they are sent again in vain, and each time answered.
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
