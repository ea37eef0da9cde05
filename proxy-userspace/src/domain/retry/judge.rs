//! What follows an attempt: its answer is forwarded, the request is tried again, or it fails.

use std::time::Duration;

use super::{Next, Tries};

/// How far an attempt got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// weir does not connect to this endpoint. Another endpoint would not change that.
    Refused,
    /// No connection. The request was not sent, and no endpoint has seen anything.
    Nobody,
    /// No byte of the request was sent. Any request may be sent elsewhere.
    Unsent,
    /// It was sent, and no byte of an answer arrived: the endpoint may not have seen it.
    Unanswered,
    /// Part of an answer arrived, or the endpoint's time ran out: it may have been processed, and must not be repeated.
    Answering,
    /// The head of an answer arrived, or the requested connection was established.
    Answered,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The answer goes to the client.
    Reply,
    /// Another attempt follows after this time.
    Retry(Duration),
    /// No further attempt: the client gets the fault of the last one.
    Fail,
}

/// Judges an attempt of `tries` that got this far and took this long. `others` says whether there is an untried
/// endpoint; it is called only if that matters.
///
/// A request that was not sent may be sent elsewhere; one that was sent may only if it is idempotent (RFC 9110 §9.2.2).
pub fn judge(
    tries: &mut Tries,
    reached: Reached,
    took: Duration,
    others: impl FnOnce() -> bool,
) -> Judgement {
    let next = match reached {
        Reached::Answered => return Judgement::Reply,
        Reached::Nobody => tries.unreached(took, others()),
        Reached::Unsent => tries.reached(),
        Reached::Unanswered => tries.repeat(),
        Reached::Refused | Reached::Answering => Next::Never,
    };
    match next {
        Next::Now => Judgement::Retry(Duration::ZERO),
        Next::After(pause) => Judgement::Retry(pause),
        Next::Never => Judgement::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Judgement = Judgement::Retry(Duration::ZERO);

    fn after(repeats: u8, reached: Reached, others: bool) -> Judgement {
        let mut tries = Tries::new(3, repeats, Duration::from_secs(3));
        judge(&mut tries, reached, Duration::ZERO, || others)
    }

    #[test]
    fn only_what_may_be_repeated_is_sent_twice() {
        for (repeats, reached, judgement) in [
            (0, Reached::Answered, Judgement::Reply),
            (1, Reached::Answered, Judgement::Reply),
            (0, Reached::Nobody, NOW),
            (0, Reached::Unsent, NOW),
            (0, Reached::Unanswered, Judgement::Fail),
            (1, Reached::Unanswered, NOW),
            (1, Reached::Answering, Judgement::Fail),
            (1, Reached::Refused, Judgement::Fail),
        ] {
            for others in [true, false] {
                assert_eq!(after(repeats, reached, others), judgement, "{repeats} {reached:?}");
            }
        }
    }

    #[test]
    fn a_request_is_repeated_as_often_as_it_may_be_and_no_more() {
        let mut tries = Tries::new(5, 1, Duration::from_secs(3));
        let mut again = |reached| judge(&mut tries, reached, Duration::ZERO, || true);
        assert_eq!(again(Reached::Unanswered), NOW);
        assert_eq!(again(Reached::Unsent), NOW);
        assert_eq!(again(Reached::Unanswered), Judgement::Fail);
    }

    #[test]
    fn whether_others_are_left_is_asked_only_where_nobody_was_reached() {
        for reached in [Reached::Answered, Reached::Unsent, Reached::Unanswered, Reached::Answering] {
            let mut tries = Tries::new(3, 1, Duration::from_secs(3));
            judge(&mut tries, reached, Duration::ZERO, || panic!("asked for {reached:?}"));
        }
    }
}
