//! Why weir answers a request itself: which status the client gets, under which label it is
//! counted, and in one line what happened. Whose fault it is shows in the status: 4xx the client's, 502 and 504 the
//! endpoint's, 503 nobody's but the moment's.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use crate::domain::name::BadHost;
use crate::domain::ssrf::Refusal;

/// A request that weir could not pass on, or whose answer it could not pass back.
#[derive(Debug)]
pub struct Fault {
    /// What went wrong.
    pub kind: Kind,
    /// One line for the client and the log: the name, the address, the reason.
    pub detail: Cow<'static, str>,
}

/// What went wrong. Each kind is one row of the status table in the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request's head is not HTTP/1.
    BadHead,
    /// The request's head has too many bytes or fields.
    HeadTooLarge,
    /// The request says no host.
    NoHost,
    /// Its host is no host name.
    BadHost(BadHost),
    /// Its target is none that a plain proxy serves: another scheme than http, or no path.
    BadTarget,
    /// No identifier makes a name of it.
    Unidentified,
    /// The dtab it brings cannot be read.
    BadDtab,
    /// A transfer coding other than `chunked`, which weir would have to decode (RFC 9112 §6.1).
    TransferCoding,
    /// The request target is over the limit.
    TargetTooLong,
    /// The destination is one that weir does not connect to.
    Refused(Refusal),
    /// Nothing binds the name.
    Unbound,
    /// Nothing binds the name, but the cluster's services are not known yet.
    ServicesUnknown,
    /// A short name means its client's namespace, and which pod of this node has the client's address is not known yet.
    ClientUnknown,
    /// The name is bound and has no endpoint.
    NoEndpoint,
    /// More weirs have seen this request than a path is long.
    Loop,
    /// No endpoint took the connection.
    Connect,
    /// No endpoint took the connection in time.
    ConnectTimeout,
    /// This node has no socket to give.
    Local,
    /// The endpoint has the request and did not answer in time.
    ResponseTimeout,
    /// The request's body broke off, or was not what its head said.
    BadBody,
    /// The endpoint broke the connection before it answered.
    Reset,
    /// The endpoint's node acknowledged nothing any more.
    Silent,
    /// The endpoint's answer is not HTTP.
    Framing,
    /// The endpoint sent more interim answers (1xx) than may come before an answer.
    Interim,
    /// weir itself is at a limit.
    Overload,
}

impl Fault {
    /// A fault with its one line.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl Kind {
    /// The status the client gets.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadHead
            | Self::NoHost
            | Self::BadHost(_)
            | Self::BadTarget
            | Self::BadBody
            | Self::BadDtab
            | Self::Unidentified => StatusCode::BAD_REQUEST,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Refused(_) => StatusCode::FORBIDDEN,
            Self::Unbound | Self::Connect | Self::Reset | Self::Silent | Self::Framing | Self::Interim => {
                StatusCode::BAD_GATEWAY
            }
            Self::ConnectTimeout | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::ServicesUnknown | Self::ClientUnknown | Self::NoEndpoint | Self::Local | Self::Overload => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Loop => StatusCode::LOOP_DETECTED,
        }
    }

    /// Where its label in metrics stands in [`Kind::LABELS`].
    pub fn slot(self) -> usize {
        match self {
            Self::NoHost => 0,
            Self::BadHost(_) => 1,
            Self::BadTarget => 2,
            Self::TransferCoding => 3,
            Self::TargetTooLong => 4,
            Self::Refused(_) => 5,
            Self::Unbound => 6,
            Self::NoEndpoint => 7,
            Self::Loop => 8,
            Self::Connect => 9,
            Self::ConnectTimeout => 10,
            Self::Local => 11,
            Self::Reset => 12,
            Self::Framing => 13,
            Self::Overload => 14,
            Self::ResponseTimeout => 15,
            Self::BadBody => 16,
            Self::BadDtab => 17,
            Self::Unidentified => 18,
            Self::ServicesUnknown => 19,
            Self::Silent => 20,
            Self::Interim => 21,
            Self::ClientUnknown => 22,
            Self::BadHead => 23,
            Self::HeadTooLarge => 24,
        }
    }

    /// Every label, by [`Kind::slot`].
    pub const LABELS: [&'static str; 25] = [
        "no_host",
        "bad_host",
        "bad_target",
        "transfer_coding",
        "target_too_long",
        "refused",
        "unbound",
        "no_endpoint",
        "loop",
        "connect",
        "connect_timeout",
        "local",
        "reset",
        "framing",
        "overload",
        "response_timeout",
        "bad_body",
        "bad_dtab",
        "unidentified",
        "services_unknown",
        "silent",
        "interim",
        "client_unknown",
        "bad_head",
        "head_too_large",
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<BadHost> for Fault {
    fn from(bad: BadHost) -> Self {
        Self::new(Kind::BadHost(bad), bad.to_string())
    }
}
