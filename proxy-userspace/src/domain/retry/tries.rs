//! The limits on the attempts of one request.
//!
//! An endpoint that was reached may have processed the request, and a retry costs it work: attempts that reach an
//! endpoint are limited by number. An endpoint that refused the connection has seen nothing, and refusals are fast:
//! these attempts are limited by their total time. Otherwise seven dead endpoints of eight would fail a request that
//! the eighth would answer.

use std::time::Duration;

/// After this many failed connects, a short wait precedes each further one: so a service of a thousand dead endpoints
/// does not cost a request a thousand connects at once.
const AT_ONCE: u32 = 8;

/// The first of those waits; each further one doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest of those waits.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The attempts of one request.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    attempts: usize,
    /// Attempts that reached an endpoint.
    reached: usize,
    /// Attempts that reached none.
    unreached: usize,
    /// How often the request may be sent again after it was sent once.
    repeats: u8,
    /// The remaining time for attempts that reach none.
    connecting: Duration,
}

/// Whether another attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Now,
    /// After this time.
    After(Duration),
    /// No further attempt.
    Never,
}

impl Tries {
    /// A request that may reach `attempts` endpoints, may be sent again `repeats` times after it was sent, and may
    /// spend at most `connecting` in total on failed connects.
    pub fn new(attempts: usize, repeats: u8, connecting: Duration) -> Self {
        Self { attempts, reached: 0, unreached: 0, repeats, connecting }
    }

    /// The time limit for the next connect, at most `limit`.
    pub fn connect(&self, limit: Duration) -> Duration {
        limit.min(self.connecting)
    }

    /// The remaining time for all further connects.
    pub fn left(&self) -> Duration {
        self.connecting
    }

    /// Whether the request may be sent again if the next attempt sends it and no answer arrives.
    pub fn may_repeat(&self) -> bool {
        self.repeats > 0 && self.reached + 1 < self.attempts
    }

    /// An attempt failed at an endpoint that may have seen the request.
    pub fn repeat(&mut self) -> Next {
        match self.repeats.checked_sub(1) {
            Some(left) => {
                self.repeats = left;
                self.reached()
            }
            None => Next::Never,
        }
    }

    /// An attempt failed at an endpoint that was reached.
    pub fn reached(&mut self) -> Next {
        self.reached += 1;
        if self.reached < self.attempts { Next::Now } else { Next::Never }
    }

    /// A connect failed after `took`. `others` says whether there is an untried endpoint; retries of tried ones are
    /// limited by `attempts`.
    pub fn unreached(&mut self, took: Duration, others: bool) -> Next {
        self.unreached += 1;
        self.connecting = self.connecting.saturating_sub(took);
        let pause = match u32::try_from(self.unreached).unwrap_or(u32::MAX).saturating_sub(AT_ONCE) {
            0 => Duration::ZERO,
            over => FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(over - 1)).min(LONGEST_PAUSE),
        };
        let again = others || self.reached + self.unreached < self.attempts;
        if !again || self.connecting <= pause {
            return Next::Never;
        }
        self.connecting -= pause;
        if pause.is_zero() { Next::Now } else { Next::After(pause) }
    }
}
