//! What follows an attempt: its answer is passed on, the request is tried again, or it fails.

use std::time::Duration;

use super::{Next, Tries};

/// How far a request came in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The endpoint is one that weir does not connect to. That is no matter of which endpoint is asked.
    Refused,
    /// There was no connection. The request is where it was, and no endpoint has seen anything.
    Nobody,
    /// Not a byte of it was sent. It is where it was, and may go elsewhere whatever it is.
    Unsent,
    /// It was sent, and no byte of an answer came: for all anyone knows, it was not seen.
    Unanswered,
    /// Some came, or the endpoint had all its time: it was seen, and must not be repeated.
    Answering,
    /// The head of an answer is here, or the connection that was asked for.
    Answered,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The answer goes to the client.
    Reply,
    /// Another attempt follows after this time.
    Retry(Duration),
    /// There is none: the client gets the fault of the last one.
    Fail,
}

/// Judges an attempt that came so far and took so long, as one of `tries`. `others` says whether there is an endpoint that
/// was not tried; it is asked only where that matters.
///
/// What was never sent may go elsewhere; what was sent may only if repeating it changes nothing (RFC 9110 §9.2.2).
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
