//! Why a call of an API server failed.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;

/// Maximum length of server text that is kept.
const TEXT: usize = 300;

/// A failed call, or a watch that ended before its timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 410: the requested history is gone; only a new list helps.
    Gone,
    /// 401: the server rejects the credentials.
    Unauthorized(String),
    /// 403: weir lacks permission.
    Forbidden(String),
    /// 429, with Retry-After if present, or 503 with Retry-After.
    Throttled(Option<Duration>),
    /// Any other error response.
    Refused(String),
    /// Nothing listens there, so the attempt cost the server nothing.
    Absent(String),
    /// The connection is not usable, or it broke.
    Unreachable(String),
    /// No data for this time.
    Silent(Duration),
    /// The response is not valid for the API.
    Garbage(String),
    /// No kubeconfig, no service account, an invalid certificate file.
    Misconfigured(String),
    /// More objects than the settings allow weir to follow: this many at most.
    TooMany(usize),
}

/// A `Status` object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    code: Option<u16>,
    message: Option<String>,
    reason: Option<String>,
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    retry_after_seconds: Option<u64>,
    causes: Option<Vec<Cause>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: Option<String>,
}

impl Failure {
    /// The labels of [`kind`](Self::kind), for one counter each.
    pub const KINDS: [&'static str; 10] = [
        "gone",
        "unauthorized",
        "forbidden",
        "throttled",
        "refused",
        "unreachable",
        "silent",
        "garbage",
        "misconfigured",
        "too_many",
    ];

    /// Its index in [`KINDS`](Self::KINDS).
    pub fn kind(&self) -> usize {
        match self {
            Self::Gone => 0,
            Self::Unauthorized(_) => 1,
            Self::Forbidden(_) => 2,
            Self::Throttled(_) => 3,
            Self::Refused(_) => 4,
            Self::Absent(_) | Self::Unreachable(_) => 5,
            Self::Silent(_) => 6,
            Self::Garbage(_) => 7,
            Self::Misconfigured(_) => 8,
            Self::TooMany(_) => 9,
        }
    }

    /// What happened, without texts from the server or the system: for clients that may not see those.
    pub fn brief(&self) -> &'static str {
        match self {
            Self::Gone => "its history has moved on (410)",
            Self::Unauthorized(_) => "the API server does not know this weir (401)",
            Self::Forbidden(_) => "not permitted (403)",
            Self::Throttled(_) => "the API server asks for patience (429 or 503)",
            Self::Refused(_) => "the API server refused",
            Self::Absent(_) | Self::Unreachable(_) => "the API server cannot be reached",
            Self::Silent(_) => "the API server said nothing in time",
            Self::Garbage(_) => "the API server said what makes no sense",
            Self::Misconfigured(_) => "no way to the API server is configured",
            Self::TooMany(_) => "there are too many to follow",
        }
    }

    /// The meaning of an error response; `body` is usually a `Status`.
    pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let told: Status = serde_json::from_slice(body).unwrap_or_default();
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Self::from_status(status.as_u16(), told, seconds.map(Duration::from_secs))
    }

    /// The meaning of the object in an event of type `ERROR`.
    pub(super) fn of_event(object: Value) -> Self {
        let told: Status = serde_json::from_value(object).unwrap_or_default();
        let code = told.code.unwrap_or(500);
        Self::from_status(code, told, None)
    }

    fn from_status(code: u16, told: Status, retry_after: Option<Duration>) -> Self {
        let details = told.details.unwrap_or_default();
        let retry_after = retry_after.or(details.retry_after_seconds.map(Duration::from_secs));
        let reason = told.reason.unwrap_or_default();
        let too_large = |cause: &Cause| cause.reason.as_deref() == Some("ResourceVersionTooLarge");
        let message = text(&told.message.unwrap_or_else(|| format!("status {code}")));
        match code {
            410 => Self::Gone,
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden(message),
            429 => Self::Throttled(retry_after),
            503 if retry_after.is_some() => Self::Throttled(retry_after),
            // A restored etcd has older versions than weir has seen.
            _ if details.causes.iter().flatten().any(too_large) => Self::Gone,
            _ if reason == "Expired" || reason == "Gone" => Self::Gone,
            _ => Self::Refused(format!("{code}: {message}")),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone => f.write_str("its history has moved on (410)"),
            Self::Unauthorized(why) => write!(f, "the API server does not know this weir (401: {why})"),
            Self::Forbidden(why) => write!(f, "not permitted (403: {why})"),
            Self::Throttled(_) => f.write_str("the API server asks for patience (429 or 503)"),
            Self::Refused(why) => write!(f, "the API server refused ({why})"),
            Self::Absent(why) | Self::Unreachable(why) => {
                write!(f, "the API server cannot be reached: {why}")
            }
            Self::Silent(time) => write!(f, "the API server said nothing for {time:?}"),
            Self::Garbage(why) => write!(f, "the API server said what makes no sense: {why}"),
            Self::Misconfigured(why) => write!(f, "no way to the API server is configured: {why}"),
            Self::TooMany(most) => {
                write!(f, "there are more than {most} (discovery.kubernetes.nodes), so none is followed")
            }
        }
    }
}

/// The start of a text, on one line.
pub(super) fn text(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT)].replace(char::is_control, " ")
}

/// An error with all its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_said = cause.to_string();
        if !said.contains(&cause_said) {
            said = format!("{said}: {cause_said}");
        }
        next = cause.source();
    }
    text(&said)
}
