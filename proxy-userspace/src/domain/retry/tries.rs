//! How often a request may be tried.
//!
//! An endpoint that was reached may have done something with the request, and what is tried again costs it work: so
//! attempts that reached one are limited by their number. One that did not take the connection has seen nothing, and
//! being refused takes no time: those are limited by the time they take together, or seven dead endpoints of
//! eight would fail a request that the eighth would answer.

use std::time::Duration;

/// After so many connects that failed, each further one waits a little first: so a service of a thousand dead endpoints
/// costs a request no thousand connects at once.
const AT_ONCE: u32 = 8;

/// The first of those waits; each is twice the last one.
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
    /// How often the request may be sent again after it was sent.
    repeats: u8,
    /// What is left for attempts that reach none.
    connecting: Duration,
}

/// Whether there is another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Now,
    /// After this time.
    After(Duration),
    /// There is none.
    Never,
}

impl Tries {
    /// A request that may reach `attempts` endpoints, may be sent again `repeats` times after it was sent, and may take
    /// `connecting` altogether to be refused by others.
    pub fn new(attempts: usize, repeats: u8, connecting: Duration) -> Self {
        Self { attempts, reached: 0, unreached: 0, repeats, connecting }
    }

    /// How long the next connect may take, if none may take longer than `limit`.
    pub fn connect(&self, limit: Duration) -> Duration {
        limit.min(self.connecting)
    }

    /// How long all connects that are still to come may take.
    pub fn left(&self) -> Duration {
        self.connecting
    }

    /// Whether the request may be sent again when the next attempt sends it and no answer comes.
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

    /// An attempt failed at an endpoint that it had reached.
    pub fn reached(&mut self) -> Next {
        self.reached += 1;
        if self.reached < self.attempts { Next::Now } else { Next::Never }
    }

    /// There was no connection, which took so long to find out. `others` says whether there is an endpoint that was not
    /// tried: one that was tried is tried again only as often as `attempts` says.
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
