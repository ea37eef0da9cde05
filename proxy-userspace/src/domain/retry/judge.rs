//! What follows an attempt that got no answer: the request is tried again, or it fails. An answer is forwarded.

use std::time::Duration;

use super::{Next, Tries};

/// How far an attempt got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// weir does not connect to this endpoint. It may to others.
    Refused,
    /// No connection. The request was not sent, and no endpoint has seen anything.
    Nobody,
    /// No byte of the request was sent. Any request may be sent elsewhere.
    Unsent,
    /// It was sent, and no byte of an answer arrived: the endpoint may not have seen it.
    Unanswered,
    /// Part of an answer arrived, or the endpoint's time ran out: it may have been processed, and must not be repeated.
    Answering,
}

/// Judges an attempt of `tries` that got this far and took this long. `others` says whether there is an untried
/// endpoint; it is called only if that matters.
///
/// A request that was not sent may be sent elsewhere; one that was sent may only if it is idempotent (RFC 9110 §9.2.2).
pub fn judge(tries: &mut Tries, reached: Reached, took: Duration, others: impl FnOnce() -> bool) -> Next {
    match reached {
        Reached::Nobody => tries.unreached(took, others()),
        Reached::Unsent => tries.reached(),
        Reached::Unanswered => tries.repeat(),
        Reached::Refused if others() => tries.unreached(took, true),
        Reached::Refused | Reached::Answering => Next::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(repeats: u8, reached: Reached, others: bool) -> Next {
        let mut tries = Tries::new(3, repeats, Duration::from_secs(3));
        judge(&mut tries, reached, Duration::ZERO, || others)
    }

    #[test]
    fn only_what_may_be_repeated_is_sent_twice() {
        for (repeats, reached, next) in [
            (0, Reached::Nobody, Next::Now),
            (0, Reached::Unsent, Next::Now),
            (0, Reached::Unanswered, Next::Never),
            (1, Reached::Unanswered, Next::Now),
            (1, Reached::Answering, Next::Never),
        ] {
            for others in [true, false] {
                assert_eq!(after(repeats, reached, others), next, "{repeats} {reached:?}");
            }
        }
    }

    #[test]
    fn what_weir_does_not_connect_to_is_tried_elsewhere_and_never_again() {
        assert_eq!(after(0, Reached::Refused, true), Next::Now);
        assert_eq!(after(1, Reached::Refused, false), Next::Never);
        // Each attempt may cost little, so a thousand of them must not follow at once.
        let mut tries = Tries::new(3, 0, Duration::from_secs(3));
        let mut next = || judge(&mut tries, Reached::Refused, Duration::ZERO, || true);
        let all: Vec<Next> =
            std::iter::repeat_with(&mut next).take_while(|it| *it != Next::Never).take(200).collect();
        assert!(all.len() < 100 && all.iter().any(|it| matches!(it, Next::After(_))), "{all:?}");
    }

    #[test]
    fn a_request_is_repeated_as_often_as_it_may_be_and_no_more() {
        let mut tries = Tries::new(5, 1, Duration::from_secs(3));
        let mut again = |reached| judge(&mut tries, reached, Duration::ZERO, || true);
        assert_eq!(again(Reached::Unanswered), Next::Now);
        assert_eq!(again(Reached::Unsent), Next::Now);
        assert_eq!(again(Reached::Unanswered), Next::Never);
    }

    #[test]
    fn whether_others_are_left_is_asked_only_where_nobody_was_reached() {
        for reached in [Reached::Unsent, Reached::Unanswered, Reached::Answering] {
            let mut tries = Tries::new(3, 1, Duration::from_secs(3));
            judge(&mut tries, reached, Duration::ZERO, || panic!("asked for {reached:?}"));
        }
    }
}
