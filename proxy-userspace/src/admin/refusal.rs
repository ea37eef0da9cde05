//! What the admin's and the probes' listeners do not answer, and what they say instead.

use http::StatusCode;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Two of a header that stands once, or one that is no text.
    Malformed = 0,
    /// Its Host is no address, not `localhost` and none of `admin.hosts`.
    Host = 1,
    /// A browser sends it for a page of another origin.
    Origin = 2,
    /// It would change something, from another machine and without the token.
    Remote = 3,
    /// It would change something, without the header that no page can send.
    Unasked = 4,
    /// Its token is not the right one.
    Token = 5,
}

impl Refusal {
    /// The labels in metrics, in order.
    pub(super) const LABELS: [&'static str; 6] =
        ["malformed", "host", "origin", "remote", "unasked", "token"];

    /// The answer.
    pub(super) fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "a header of this request makes no sense\n"),
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "the Host of this request is none of weir's: an IP address, localhost, or a name of `admin.hosts`\n",
            ),
            Self::Origin => (StatusCode::FORBIDDEN, "not for a page of another origin\n"),
            Self::Remote => {
                (StatusCode::FORBIDDEN, "only from loopback, or with the token of `admin.tokenFile`\n")
            }
            Self::Unasked => (
                StatusCode::FORBIDDEN,
                "this needs a header that no web page can send: X-Requested-By, with any value\n",
            ),
            Self::Token => (StatusCode::UNAUTHORIZED, "this is not the token of `admin.tokenFile`\n"),
        }
    }
}
