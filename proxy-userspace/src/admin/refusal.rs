//! Why the admin's and the probes' listeners refuse requests, and their responses.

use http::StatusCode;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A header that must be unique occurs twice, or one is not text.
    Malformed = 0,
    /// Its Host is not an address, `localhost` or in `admin.hosts`.
    Host = 1,
    /// A browser sent it for a page of another origin.
    Origin = 2,
    /// It would change something, comes from another machine and has no token.
    Remote = 3,
    /// It would change something and lacks the header that no page can send.
    Unasked = 4,
    /// Its token is wrong.
    Token = 5,
    /// It asks for the metrics from an address that is not allowed.
    NotAllowed = 6,
    /// It asks for the metrics with a token sent in clear text.
    ClearText = 7,
    /// It asks for the metrics without a token.
    NoToken = 8,
    /// The API server does not know its token.
    Unauthenticated = 9,
    /// The API server says that the token's user lacks permission.
    Forbidden = 10,
    /// Its client sends too many unknown tokens or starts too many TLS handshakes.
    Often = 11,
    /// The API server cannot be asked to review its token.
    Unavailable = 12,
}

impl Refusal {
    /// The label values in metrics, in order.
    pub(super) const LABELS: [&'static str; 13] = [
        "malformed",
        "host",
        "origin",
        "remote",
        "unasked",
        "token",
        "not_allowed",
        "clear_text",
        "no_token",
        "unauthenticated",
        "forbidden",
        "often",
        "unavailable",
    ];

    /// The response.
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
            Self::NotAllowed => (StatusCode::FORBIDDEN, "not for this client: see `probes.metrics.allow`\n"),
            Self::ClearText => (
                StatusCode::FORBIDDEN,
                "tokens are taken over TLS only: ask by https, on this same port. This one has crossed the network in \
                 the clear: replace it\n",
            ),
            Self::NoToken => (
                StatusCode::UNAUTHORIZED,
                "this needs a bearer token over TLS (https, on this same port) of a user who may `get` the non-resource \
                 URL /metrics: see `probes.metrics`\n",
            ),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "the API server does not know this token\n"),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "the user of this token may not `get` the non-resource URL /metrics: a ClusterRole says who may\n",
            ),
            Self::Often => (StatusCode::TOO_MANY_REQUESTS, "too often; ask again in a second\n"),
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "the API server cannot be asked about tokens now\n")
            }
        }
    }
}

const _: () = assert!(Refusal::LABELS.len() == Refusal::Unavailable as usize + 1);
