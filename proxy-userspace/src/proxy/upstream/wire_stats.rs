//! Counters of connections between pods, and who was on the other side of those that are encrypted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::identity::Failure;
use crate::telemetry::Counter;

/// How often a warning is repeated that concerns others than weir's operator.
const AGAIN: Duration = Duration::from_mins(1);

/// How many names are counted each for itself.
const NAMES: usize = 500;

/// What all others are counted as.
const OTHERS: &str = "others";

/// Connections between pods, by whether they are encrypted, while `identity.wire` is configured.
#[derive(Debug, Default)]
pub struct WireStats {
    /// To other pods, encrypted.
    pub outgoing: Counter,
    /// The same by service account, `shop/web to shop/db`.
    pub endpoints: Names,
    /// To other pods, as their applications made them, by reason: [`Plain::LABELS`].
    pub outgoing_plain: [Counter; Plain::LABELS.len()],
    /// To other pods, and not made, since they would not have been encrypted, by reason: [`Plain::LABELS`].
    pub outgoing_refused: [Counter; Plain::LABELS.len()],
    /// Failed handshakes with other pods: [`Failure::LABELS`].
    pub outgoing_failed: [Counter; Failure::LABELS.len()],
    /// Which of these were warned of.
    pub outgoing_said: Said,
    /// Encrypted ones from other pods.
    pub incoming: Counter,
    /// Clients that have proven who they are, by their IDs.
    pub callers: Names,
    /// From other pods, and passed on to the application as they are, by reason: [`Plain::LABELS`].
    pub incoming_plain: [Counter; Plain::LABELS.len()],
    /// Failed handshakes with other pods: [`Failure::LABELS`].
    pub incoming_failed: [Counter; Failure::LABELS.len()],
    /// Which of these were warned of.
    pub incoming_said: Said,
    /// Encrypted ones from other pods whose application accepted no connection.
    pub unanswered: Counter,
}

/// Why a connection is not encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Nothing is known of TLS at the address.
    UnknownPeer = 0,
    /// The client's pod has no certificate.
    NoIdentity = 1,
    /// Its first bytes are no TLS.
    NotTls = 2,
    /// It is TLS, but not weir's.
    OtherTls = 3,
    /// Its client was silent, so that the application spoke first.
    Silent = 4,
}

impl Plain {
    /// The labels in metrics, in order.
    pub const LABELS: [&'static str; 5] = ["unknown_peer", "no_identity", "not_tls", "other_tls", "silent"];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }
}

/// Counters by names, of which there are only so many.
#[derive(Debug, Default)]
pub struct Names(Mutex<BTreeMap<Box<str>, u64>>);

impl Names {
    /// Counts one more of this name.
    pub fn count(&self, name: &str) {
        let mut all = self.0.lock();
        if let Some(count) = all.get_mut(name) {
            *count += 1;
            return;
        }
        let name = if all.len() < NAMES { name } else { OTHERS };
        *all.entry(name.into()).or_default() += 1;
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().iter().map(|(name, count)| (name.to_string(), *count)).collect()
    }
}

/// When each failure was warned of last: whoever reaches a pod can cause some of them, as often as it likes.
#[derive(Debug, Default)]
pub struct Said(Mutex<[Option<Instant>; Failure::LABELS.len()]>);

impl Said {
    /// Whether this failure is to be warned of at `now`.
    pub fn is_news(&self, why: Failure, now: Instant) -> bool {
        let last = &mut self.0.lock()[why as usize];
        let is_news = last.is_none_or(|last| now.saturating_duration_since(last) >= AGAIN);
        if is_news {
            *last = Some(now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_each_for_itself_up_to_a_bound() {
        let names = Names::default();
        for number in 0..10_000 {
            names.count(&number.to_string());
        }
        names.count("7");
        let all = names.all();
        assert_eq!((all.len(), all["7"], all[OTHERS]), (NAMES + 1, 2, 10_000 - NAMES as u64));
    }

    #[test]
    fn a_warning_is_repeated_only_after_a_while_and_each_kind_for_itself() {
        let (said, now) = (Said::default(), Instant::now());
        let news = |why, after| said.is_news(why, now + Duration::from_secs(after));
        assert!(news(Failure::Expired, 0) && news(Failure::Rejected, 0));
        assert!(!news(Failure::Expired, 1) && !news(Failure::Rejected, 59));
        assert!(news(Failure::Expired, 60) && !news(Failure::Expired, 61));
    }
}
