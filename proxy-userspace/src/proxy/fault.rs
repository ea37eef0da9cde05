//! Why weir answers a request itself: the status for the client, the metric label, and one line that describes what
//! happened. The status shows the cause: 4xx the client, 502 and 504 the endpoint, 503 a temporary condition.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use crate::domain::name::BadHost;
use crate::domain::ssrf::Refusal;

/// A request or answer that weir could not forward.
#[derive(Debug)]
pub struct Fault {
    /// The kind of failure.
    pub kind: Kind,
    /// One line for the client and the log: the name, the address, the reason.
    pub detail: Cow<'static, str>,
}

/// The kind of failure. Each is one row of the status table in the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its client is no process of this node and no pod of it (`outgoing.clients`).
    ForeignClient,
    /// The request's head is not HTTP/1.
    BadHead,
    /// The request's head has too many bytes or too many fields.
    HeadTooLarge,
    /// The request has no host.
    NoHost,
    /// Its host is not a valid host name.
    BadHost(BadHost),
    /// Its target is not one that a plain proxy serves: another scheme than http, or no path.
    BadTarget,
    /// No identifier can make a name from it.
    Unidentified,
    /// The dtab in the request is invalid.
    BadDtab,
    /// A transfer coding other than `chunked`, which weir would have to decode (RFC 9112 §6.1).
    TransferCoding,
    /// The request target exceeds the limit.
    TargetTooLong,
    /// weir does not connect to this destination.
    Refused(Refusal),
    /// CONNECT, or TLS, to a port that is not open to destinations outside the catalog (`outgoing.connectPorts`).
    ConnectPort,
    /// The name is not bound.
    Unbound,
    /// The name is not bound, but the cluster's services are not known yet.
    ServicesUnknown,
    /// A short name refers to its client's namespace, and it is not known yet which pod of this node has the client's
    /// address; or it cannot be told which pod its client is.
    ClientUnknown,
    /// The name is bound but has no endpoint.
    NoEndpoint,
    /// The request has passed more weirs than the maximum.
    Loop,
    /// No endpoint accepted the connection.
    Connect,
    /// No endpoint accepted the connection in time.
    ConnectTimeout,
    /// This node could not create a socket.
    Local,
    /// The endpoint has the request and did not answer in time.
    ResponseTimeout,
    /// The client had closed its sending side, and the endpoint, which was told so, closed the connection or did not
    /// answer in time.
    HalfClosed,
    /// The request's body was cut short, or did not match its head.
    BadBody,
    /// The endpoint broke the connection before it answered.
    Reset,
    /// The endpoint's node acknowledged nothing any more.
    Silent,
    /// The endpoint's answer is not valid HTTP.
    Framing,
    /// The endpoint sent too many interim answers (1xx) before its answer.
    Interim,
    /// weir itself has reached a limit.
    Overload,
    /// weir is short of memory.
    Memory,
}

impl Fault {
    /// A fault with its one-line detail.
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
            Self::Refused(_) | Self::ConnectPort | Self::ForeignClient => StatusCode::FORBIDDEN,
            Self::Unbound | Self::Connect | Self::Reset | Self::Silent | Self::Framing | Self::Interim => {
                StatusCode::BAD_GATEWAY
            }
            Self::ConnectTimeout | Self::ResponseTimeout | Self::HalfClosed => StatusCode::GATEWAY_TIMEOUT,
            Self::ServicesUnknown
            | Self::ClientUnknown
            | Self::NoEndpoint
            | Self::Local
            | Self::Overload
            | Self::Memory => StatusCode::SERVICE_UNAVAILABLE,
            Self::Loop => StatusCode::LOOP_DETECTED,
        }
    }

    /// The status that a client of gRPC gets (gRPC, "Status codes and their use"). UNAVAILABLE says that another attempt
    /// may succeed.
    pub fn grpc_status(self) -> u16 {
        const DEADLINE_EXCEEDED: u16 = 4;
        const PERMISSION_DENIED: u16 = 7;
        const RESOURCE_EXHAUSTED: u16 = 8;
        const INTERNAL: u16 = 13;
        const UNAVAILABLE: u16 = 14;
        match self {
            Self::ResponseTimeout | Self::HalfClosed => DEADLINE_EXCEEDED,
            Self::Refused(_) | Self::ConnectPort | Self::ForeignClient => PERMISSION_DENIED,
            Self::TargetTooLong | Self::HeadTooLarge => RESOURCE_EXHAUSTED,
            Self::BadHead
            | Self::NoHost
            | Self::BadHost(_)
            | Self::BadTarget
            | Self::BadBody
            | Self::BadDtab
            | Self::Unidentified
            | Self::TransferCoding
            | Self::Loop
            | Self::Framing
            | Self::Interim => INTERNAL,
            Self::Unbound
            | Self::Connect
            | Self::ConnectTimeout
            | Self::Reset
            | Self::Silent
            | Self::ServicesUnknown
            | Self::ClientUnknown
            | Self::NoEndpoint
            | Self::Local
            | Self::Overload
            | Self::Memory => UNAVAILABLE,
        }
    }

    /// The index of its metric label in [`Kind::LABELS`].
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
            Self::HalfClosed => 25,
            Self::ConnectPort => 26,
            Self::ForeignClient => 27,
            Self::Memory => 28,
        }
    }

    /// Every label, by [`Kind::slot`].
    pub const LABELS: [&'static str; 29] = [
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
        "half_closed",
        "connect_port",
        "foreign_client",
        "memory",
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
