//! The status of a gRPC call: in the trailers of its answer, or in the head where there is nothing else ("trailers-only").

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Response, StatusCode};

use crate::domain::outcome::Outcome;

/// The field of the status.
const STATUS: &str = "grpc-status";

/// The code of an answer whose status is missing or no number (gRPC's protocol over HTTP/2, "Responses").
pub(super) const UNKNOWN: u8 = 2;

/// What the head of an answer says of a gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// It is none.
    None,
    /// Its status is in the trailers.
    Answering,
    /// This is its status.
    Answered(u8),
}

impl Call {
    /// The outcome by the head, whose HTTP status is `status`.
    pub(super) fn outcome(self, status: StatusCode) -> Outcome {
        match self {
            Self::Answered(code) => Outcome::Grpc(code),
            Self::None | Self::Answering => Outcome::Answered(status.as_u16()),
        }
    }
}

/// The call that `answer` belongs to. With another HTTP status than 200 that status counts.
pub(super) fn of<B>(answer: &Response<B>) -> Call {
    let kind =
        answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    match kind {
        // gRPC-Web has its trailers in the body.
        Some([] | [b'+' | b';' | b' ', ..]) if answer.status() == StatusCode::OK => {
            status(answer.headers()).map_or(Call::Answering, Call::Answered)
        }
        _ => Call::None,
    }
}

/// The status in `fields`.
pub(super) fn status(fields: &HeaderMap) -> Option<u8> {
    let status = fields.get(STATUS)?;
    Some(status.to_str().ok().and_then(|status| status.parse().ok()).unwrap_or(UNKNOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_call_is_in_the_head_or_is_awaited() {
        for (kind, http, status, call) in [
            (Some("application/grpc"), 200, None, Call::Answering),
            (Some("application/grpc+proto"), 200, None, Call::Answering),
            (Some("application/grpc; charset=x"), 200, Some("0"), Call::Answered(0)),
            (Some("application/grpc"), 200, Some("14"), Call::Answered(14)),
            (Some("application/grpc"), 200, Some("what"), Call::Answered(UNKNOWN)),
            (Some("application/grpc"), 200, Some("256"), Call::Answered(UNKNOWN)),
            (Some("application/grpc"), 503, None, Call::None),
            (Some("application/grpc-web+proto"), 200, None, Call::None),
            (Some("application/json"), 200, Some("14"), Call::None),
            (None, 200, None, Call::None),
        ] {
            let mut answer = Response::builder().status(http);
            for (name, value) in [("content-type", kind), (STATUS, status)] {
                answer = value.into_iter().fold(answer, |answer, value| answer.header(name, value));
            }
            assert_eq!(of(&answer.body(()).unwrap()), call, "{kind:?} {http} {status:?}");
        }
    }
}
