//! How one attempt at one endpoint ended, and what that says of the endpoint.

use super::breaker::Verdict;

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, with this HTTP status.
    Answered(u16),
    /// It carried a byte tunnel that ended in order.
    Carried,
    /// It did not take the connection.
    ConnectFailed,
    /// It did not take the connection in time.
    ConnectTimeout,
    /// It broke the connection before its answer was whole.
    Reset,
    /// What it answered is not HTTP.
    BadFraming,
    /// The client left, or weir itself could not go on: nothing is known of the endpoint.
    Abandoned,
}

impl Outcome {
    /// What the breaker hears. A 5xx is a failure, as in linkerd's default classifier
    /// (`io.l5d.http.nonRetryable5XX`); any other answer shows that the endpoint works.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Answered(status) if status >= 500 => Verdict::Failure,
            Self::Answered(_) | Self::Carried => Verdict::Success,
            Self::ConnectFailed | Self::ConnectTimeout | Self::Reset | Self::BadFraming => Verdict::Failure,
            Self::Abandoned => Verdict::Unknown,
        }
    }

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Answered(..200) => "1xx",
            Self::Answered(..300) => "2xx",
            Self::Answered(..400) => "3xx",
            Self::Answered(..500) => "4xx",
            Self::Answered(_) => "5xx",
            Self::Carried => "carried",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "reset",
            Self::BadFraming => "bad_framing",
            Self::Abandoned => "abandoned",
        }
    }

    /// Where [`Outcome::label`] stands in [`Outcome::LABELS`], for counting without a look-up by name.
    pub fn slot(self) -> usize {
        match self {
            Self::Answered(..200) => 0,
            Self::Answered(..300) => 1,
            Self::Answered(..400) => 2,
            Self::Answered(..500) => 3,
            Self::Answered(_) => 4,
            Self::Carried => 5,
            Self::ConnectFailed => 6,
            Self::ConnectTimeout => 7,
            Self::Reset => 8,
            Self::BadFraming => 9,
            Self::Abandoned => 10,
        }
    }

    /// Every label, by [`Outcome::slot`].
    pub const LABELS: [&'static str; 11] = [
        "1xx",
        "2xx",
        "3xx",
        "4xx",
        "5xx",
        "carried",
        "connect_failed",
        "connect_timeout",
        "reset",
        "bad_framing",
        "abandoned",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_endpoints_own_failures_count_against_it() {
        for (outcome, verdict) in [
            (Outcome::Answered(200), Verdict::Success),
            (Outcome::Answered(404), Verdict::Success),
            (Outcome::Answered(500), Verdict::Failure),
            (Outcome::Answered(503), Verdict::Failure),
            (Outcome::ConnectFailed, Verdict::Failure),
            (Outcome::Reset, Verdict::Failure),
            (Outcome::Abandoned, Verdict::Unknown),
        ] {
            assert_eq!(outcome.verdict(), verdict, "{outcome:?}");
            assert_eq!(Outcome::LABELS[outcome.slot()], outcome.label());
        }
    }
}
