//! The outcome of one attempt at one endpoint, and what it means for the endpoint.

use super::health::breaker::Verdict;

/// The status codes of gRPC that are failures of the endpoint: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and
/// DATA_LOSS, as 5xx are of HTTP. Any other says something of the call. linkerd's classifiers count every code but OK as
/// a failure: there one client that asks for what does not exist takes an endpoint from all.
const FAILURES: [u8; 5] = [2, 4, 13, 14, 15];

/// gRPC's RESOURCE_EXHAUSTED, as 429 of HTTP.
const RESOURCE_EXHAUSTED: u8 = 8;

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, with this HTTP status.
    Answered(u16),
    /// It carried a byte tunnel that lived for a while, or that the client ended.
    Carried,
    /// It ended a byte tunnel early and after few bytes, as a database that is full or not ready does.
    EndedEarly,
    /// It answered a gRPC call, with this status code.
    Grpc(u8),
    /// It refused a stream of HTTP/2, which it did not process (REFUSED_STREAM, RFC 9113 §8.7).
    RefusedStream,
    /// Connecting from the client's own pod failed, and that pod has never reached it: a network policy may forbid it. Or
    /// weir does not connect to it for this client. For other pods this means nothing.
    NeverReached,
    /// It refused the connection.
    ConnectFailed,
    /// It did not accept the connection in time.
    ConnectTimeout,
    /// It took the request and did not answer in time.
    Timeout,
    /// Its node no longer acknowledges anything, not even keep-alive probes.
    Silent,
    /// It reset the connection before its answer was complete.
    Reset,
    /// It closed a reused connection just as a request was sent on it, which it may do at any time: not a failure. An
    /// endpoint that resets its connections is detected on new ones.
    Stale,
    /// Its answer is not HTTP, or exceeds the limits of a head or of interim answers.
    BadFraming,
    /// The client left, or weir itself could not continue: nothing is known of the endpoint.
    Abandoned,
}

/// The meaning of an outcome for the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The endpoint served the request, so the time it took is valid.
    Served,
    /// It answered that the request was wrong (4xx), which may be faster than serving one.
    Answered,
    /// It works, and refused this request.
    Refused,
    /// It failed.
    Failed,
    /// Nothing is known.
    Nothing,
}

impl Outcome {
    /// The meaning for the balancer.
    pub fn sign(self) -> Sign {
        match self {
            Self::Answered(..400) | Self::Grpc(0) | Self::Carried => Sign::Served,
            Self::Answered(429) | Self::Grpc(RESOURCE_EXHAUSTED) | Self::EndedEarly | Self::RefusedStream => {
                Sign::Refused
            }
            Self::Grpc(code) if FAILURES.contains(&code) => Sign::Failed,
            Self::Answered(..500) | Self::Grpc(_) => Sign::Answered,
            Self::Answered(_)
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::Timeout
            | Self::Silent
            | Self::Reset
            | Self::BadFraming => Sign::Failed,
            Self::Abandoned | Self::Stale | Self::NeverReached => Sign::Nothing,
        }
    }

    /// The verdict for the breaker. A 5xx is a failure, as in linkerd's default classifier
    /// (`io.l5d.http.nonRetryable5XX`); any other answer shows that the endpoint works, even a 429: it gets fewer
    /// requests instead. A tunnel that ended early is a failure only while other endpoints' tunnels live, which the
    /// breaker's owner knows.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Answered(status) if status >= 500 => Verdict::Failure,
            Self::Grpc(code) if FAILURES.contains(&code) => Verdict::Failure,
            Self::Answered(_) | Self::Grpc(_) | Self::Carried => Verdict::Success,
            Self::EndedEarly
            | Self::NeverReached
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::Timeout
            | Self::Silent
            | Self::Reset
            | Self::BadFraming => Verdict::Failure,
            Self::Abandoned | Self::Stale | Self::RefusedStream => Verdict::Unknown,
        }
    }

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        Self::LABELS[self.slot()]
    }

    /// The index of its label in [`Outcome::LABELS`], for counting without a look-up by name.
    pub fn slot(self) -> usize {
        match self {
            Self::Answered(..200) => 0,
            Self::Answered(..300) | Self::Grpc(0) => 1,
            Self::Answered(..400) => 2,
            Self::Answered(..500) => 3,
            Self::Answered(_) => 4,
            Self::Carried => 5,
            Self::ConnectFailed => 6,
            Self::ConnectTimeout => 7,
            Self::Timeout => 8,
            Self::Reset => 9,
            Self::BadFraming => 10,
            Self::Abandoned => 11,
            Self::Stale => 12,
            Self::EndedEarly => 13,
            Self::Silent => 14,
            Self::Grpc(code) if FAILURES.contains(&code) => 15,
            Self::Grpc(_) => 16,
            Self::RefusedStream => 17,
            Self::NeverReached => 18,
        }
    }

    /// Every label, by [`Outcome::slot`].
    pub const LABELS: [&'static str; 19] = [
        "1xx",
        "2xx",
        "3xx",
        "4xx",
        "5xx",
        "carried",
        "connect_failed",
        "connect_timeout",
        "timeout",
        "reset",
        "bad_framing",
        "abandoned",
        "stale",
        "ended_early",
        "silent",
        "grpc_failure",
        "grpc_error",
        "refused_stream",
        "never_reached",
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
            (Outcome::Timeout, Verdict::Failure),
            (Outcome::Grpc(0), Verdict::Success),
            (Outcome::Grpc(5), Verdict::Success),
            (Outcome::Grpc(8), Verdict::Success),
            (Outcome::Grpc(2), Verdict::Failure),
            (Outcome::Grpc(14), Verdict::Failure),
            (Outcome::Grpc(200), Verdict::Success),
            (Outcome::NeverReached, Verdict::Failure),
            (Outcome::RefusedStream, Verdict::Unknown),
            (Outcome::Silent, Verdict::Failure),
            (Outcome::Reset, Verdict::Failure),
            (Outcome::Abandoned, Verdict::Unknown),
            (Outcome::Stale, Verdict::Unknown),
        ] {
            assert_eq!(outcome.verdict(), verdict, "{outcome:?}");
        }
    }
}
